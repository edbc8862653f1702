"""A small shop's export, written into a folder that tests then spoil one way or another."""

from pathlib import Path

import numpy as np
from PIL import Image

COUNTS = {"top": 7, "bottom": 6, "shoe": 5}
USERS = ("u1", "u2", "u3", "u4")
SPLIT_OF = ("train",) * 5 + ("val",) * 2 + ("test",) * 3
"""The splits of each user's ten likes."""


def write_csv(path: Path, rows: list[list[str]]) -> None:
    path.write_text("".join(",".join(row) + "\n" for row in rows), "utf-8")


def read_csv(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text("utf-8").splitlines()]


def likes_rows(seed: int = 5) -> list[list[str]]:
    """Ten different likes of each user, with their splits; no header."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in USERS:
        chosen = rng.choice(7 * 6 * 5, size=10, replace=False)
        for code, split in zip(chosen.tolist(), SPLIT_OF, strict=True):
            rows.append([user, f"top-{code % 7}", f"bottom-{code // 7 % 6}", f"shoe-{code // 42}", split])
    return rows


def make_shop(folder: Path) -> Path:
    """items.csv (18 items with photos) and likes.csv (4 users with 5 + 2 + 3 likes)."""
    (folder / "images").mkdir(parents=True)
    items = [["item_id", "category", "image", "title"]]
    for category, count in COUNTS.items():
        for index in range(count):
            name = f"images/{category}-{index}.{'png' if index == 0 else 'jpg'}"
            Image.new("RGB", (9 + index, 11), (20 * index, 90, 200)).save(folder / name)
            items.append([f"{category}-{index}", category, name, f"blue {category}"])
    write_csv(folder / "items.csv", items)
    write_csv(folder / "likes.csv", [["user_id", "top", "bottom", "shoe", "split"], *likes_rows()])
    return folder


def edit(path: Path, line: int, text: str | None) -> None:
    """Replace one line (counted from 1), or delete it."""
    lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def append(path: Path, text: str) -> int:
    """Add a line at the end; returns its number."""
    path.write_text(path.read_text("utf-8") + text + "\n", "utf-8")
    return len(path.read_text("utf-8").splitlines())
