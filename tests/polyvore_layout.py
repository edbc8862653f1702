"""Writes a folder in the layout in which Polyvore-U was released, drawn at random, of any size."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CATEGORIES = ("top", "bottom", "shoe")


@dataclass(frozen=True)
class Layout:
    """What was written: ``root``, the tuples folder, and every table's integers by file name."""

    root: Path
    folder: Path
    names: dict[str, list[str]]
    tables: dict[str, NDArray[np.int64]]
    vectors: dict[str, NDArray[np.float32]]


def write_layout(
    root: Path,
    rng: np.random.Generator,
    *,
    subset: str = "630",
    num_users: int = 5,
    num_items: tuple[int, int, int] = (23, 19, 17),
    num_likes: tuple[int, int, int] = (40, 15, 20),
    text_dim: int = 7,
    photos: bool = True,
    without: tuple[str, ...] = (),
) -> Layout:
    """Draw a release; files named in ``without`` are not written."""
    two_tops = subset in ("519", "32")
    columns = ["user", *(("top",) if two_tops else ()), *CATEGORIES]
    folder = root / f"tuples_{subset}"
    folder.mkdir(parents=True)
    names = {
        category: [f"{rng.bytes(6).hex()}.jpg" for _ in range(count)]
        for category, count in zip(CATEGORIES, num_items, strict=True)
    }
    for category, listed in names.items():
        (folder / f"image_list_{category}").write_text("".join(f"{name}\n" for name in listed))
    tables = {}
    for split, count in zip(("train", "val", "test"), num_likes, strict=True):
        users = np.sort(np.r_[np.arange(num_users), rng.integers(0, num_users, count - num_users)])
        likes = _outfits(users, num_items, two_tops, rng)
        tables[f"tuples_{split}_posi"] = likes
        tables[f"tuples_{split}_nega"] = _outfits(np.repeat(users, 10), num_items, two_tops, rng)
        hard = likes[rng.integers(0, count, count * 10)]
        hard[:, 0] = np.repeat(users, 10)
        tables[f"tuples_{split}_nega_hard"] = hard
        if split == "test":
            tables["fill_in_blank_test"] = _questions(likes, num_items, rng)
    for name, table in tables.items():
        if name not in without:
            header = ",".join(columns * (table.shape[1] // len(columns)))
            lines = "\n".join(",".join(row) for row in table.astype(str).tolist())
            (folder / name).write_text(f"{header}\n{lines}\n")
    vectors = {name: rng.random(text_dim).astype(np.float32) for listed in names.values() for name in listed}
    if text_dim:
        (root / "sentence_vector").mkdir()
        (root / "sentence_vector" / "semantic.pkl").write_bytes(pickle.dumps(vectors, protocol=2))
    if photos:
        (root / "images" / "291x291").mkdir(parents=True)
        photo = io.BytesIO()
        Image.new("RGB", (31, 31), (150, 90, 60)).save(photo, "JPEG")
        for name in vectors:
            (root / "images" / "291x291" / name).write_bytes(photo.getvalue())
    return Layout(root, folder, names, tables, vectors)


def _outfits(
    users: NDArray[np.int64], num_items: tuple[int, int, int], two_tops: bool, rng: np.random.Generator
) -> NDArray[np.int64]:
    columns = [users, *(rng.integers(0, count, len(users)) for count in num_items)]
    if two_tops:
        second = rng.integers(0, num_items[0], len(users))
        columns.insert(2, np.where(rng.random(len(users)) < 0.4, -1, second))
    return np.column_stack(columns)


def _questions(
    likes: NDArray[np.int64], num_items: tuple[int, int, int], rng: np.random.Generator
) -> NDArray[np.int64]:
    candidates = np.repeat(likes[:, None], 4, axis=1)  # (Q, 4, 1 + S)
    column = likes.shape[1] - 3 + rng.integers(0, 3, len(likes))  # (Q,) the blank among (last) top, bottom, shoe
    column = np.where(likes[np.arange(len(likes)), column] < 0, likes.shape[1] - 1, column)
    sizes = np.array(num_items)[column - (likes.shape[1] - 3)]
    for candidate in range(1, 4):
        true = likes[np.arange(len(likes)), column]
        candidates[np.arange(len(likes)), candidate, column] = (true + candidate) % sizes
    return candidates.reshape(len(likes), -1)
