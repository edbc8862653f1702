"""A small shop with photos and unruly ids, its model with seeded weights (nobody trained it), and its service."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fastapi import FastAPI
from PIL import Image
from pydantic import SecretStr
from starlette.testclient import TestClient

from panfit.config import Config
from panfit.features.inputs import ItemInputs
from panfit.methods import shape_of
from panfit.model.pan import Pan
from panfit.outfits import Catalogue, Dataset, Outfits, Slot
from panfit.recommend import Recommender
from panfit.serve.app import create_app
from panfit.serve.settings import Limits, ServeConfig

SLOTS = (Slot("top", "top"), Slot("bottom", "bottom"), Slot("shoe", "shoe"))
COUNTS = {"top": 9, "bottom": 7, "shoe": 6}
UNRULY = {
    "top-1": "a/b/../c.jpg",
    "top-2": "/etc/passwd",
    "bottom-1": "100% Wolle, größer als 5 µm",
    "bottom-2": "q?x=1&y=2#z",
    "shoe-1": "..//靴 👢",
    "shoe-2": 'new-"quoted" <b>\\',
}
"""What some items are called instead: whatever may go wrong in a URL, in HTML, or on a disk."""
USERS = ("ann", "bob/eve?", "new-user", "Zoë 100%", "..")
PHOTO = (40, 50)
CONFIG = Config.parse(
    {
        "images": {"size": 16},
        "text": {"source": "none"},
        "backbone": {"width": 4},
        "model": {"code_bits": 16, "image_hidden": 11, "user_init_std": 1.0, "encoder_init_std": 0.3},
    }
)


def item(name: str) -> str:
    """What an item is really called: "top-0", or its unruly id."""
    return UNRULY.get(name, name)


def outfit(top: int | None, bottom: int | None, shoe: int | None) -> tuple[str | None, ...]:
    """The ids of an outfit."""
    numbers = zip(COUNTS, (top, bottom, shoe), strict=True)
    return tuple(None if number is None else item(f"{category}-{number}") for category, number in numbers)


def make_dataset(folder: Path) -> Dataset:
    """22 items with photos (the last shoe has none), 5 users with 6 likes each. Photos are drawn into the folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = [f"{category}-{number}" for category, count in COUNTS.items() for number in range(count)]
    rng = np.random.default_rng(11)
    images: list[str | None] = []
    for name in names:
        drawn = rng.integers(0, 256, (10, 8, 3), dtype=np.uint8)
        Image.fromarray(drawn).resize(PHOTO).save(folder / f"images/{name}.jpg")
        images.append(f"images/{name}.jpg")
    images[-1] = None
    catalogue = Catalogue(
        item_ids=tuple(map(item, names)),
        item_categories=tuple(name.partition("-")[0] for name in names),
        images=tuple(images),
        titles=tuple(f"a {name} <i>" if number % 3 else None for number, name in enumerate(names)),
        categories=tuple(COUNTS),
        image_root=folder,
    )
    users = np.repeat(np.arange(len(USERS), dtype=np.int64), 6)
    first = np.cumsum([0, *COUNTS.values()])[:-1]
    worn = [start + rng.integers(0, count, len(users)) for start, count in zip(first, COUNTS.values(), strict=True)]
    items = np.column_stack(worn).astype(np.int64)  # (30, 3)
    items[::7, 2] = -1  # some likes are without shoes
    train = np.arange(len(users)) % 6 < 4
    likes = {"train": Outfits(users[train], items[train]), "test": Outfits(users[~train], items[~train])}
    return Dataset("shop", SLOTS, USERS, catalogue, likes, checksum="shop")  # type: ignore[arg-type]


def make_recommender(folder: Path) -> Recommender:
    """The shop's Recommender; the same weights each time."""
    dataset = make_dataset(folder)
    catalogue = dataset.catalogue
    seen = np.random.default_rng(8).integers(0, 256, (len(catalogue), 3, 16, 16), dtype=np.uint8)
    inputs = ItemInputs(seen, torch.from_numpy(catalogue.category_rows.copy()), None, CONFIG.images)
    generator = torch.Generator().manual_seed(3)
    model = Pan(CONFIG, shape_of(dataset, inputs), generator=generator).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
    return Recommender(model, dataset, inputs, beta=1.5)


def make_config(folder: Path, *, token: str | None = None, limits: Limits | None = None) -> ServeConfig:
    """A database of its own, in the folder."""
    return ServeConfig(
        database=f"sqlite:///{folder / 'likes.db'}",
        token=None if token is None else SecretStr(token),
        limits=Limits() if limits is None else limits,
    )


@dataclass(frozen=True)
class Shop:
    """A service that runs, and a client of it."""

    app: FastAPI
    client: TestClient
    recommender: Recommender
    """The app's own: ask it only while no request runs. `make_recommender` makes another of the same answers."""


@contextmanager
def open_shop(
    folder: Path, *, token: str | None = None, limits: Limits | None = None, ready: bool = True
) -> Iterator[Shop]:
    """A shop whose service has started (and, unless told otherwise, is ready); stopped afterwards.

    An error of the server's own becomes a 500, as it would for anybody, not an exception of the test.
    """
    recommender = make_recommender(folder)
    app = create_app(recommender, make_config(folder, token=token, limits=limits))
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        if ready:
            wait_until_ready(client, token)
        yield Shop(app, client, recommender)


def wait_until_ready(client: TestClient, token: str | None = None, seconds: float = 20.0) -> None:
    """Ask /ready until it says so."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    until = time.monotonic() + seconds
    while (response := client.get("/ready", headers=headers)).status_code != 200:
        if time.monotonic() > until:
            raise AssertionError(f"not ready within {seconds:g} s: {response.text}")
        time.sleep(0.005)
