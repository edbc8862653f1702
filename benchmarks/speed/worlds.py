"""The data that the cases run on: closet's real photos, and generated data sets of Polyvore-630's form."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import experiments
from panfit.config import Config
from panfit.features.filling import write_store
from panfit.features.store import Manifest, open_store
from panfit.outfits import Catalogue, Dataset, FitbQuestions, IntArray, Outfits, Slot

CATEGORIES = ("top", "bottom", "shoe")
ROOT = Path(__file__).resolve().parent.parent.parent
DISTINCT = 256
"""Different maps; a store repeats them."""


def closet(work: Path) -> Dataset:
    """The shop's real photos and likes; imported once into WORK/data/closet."""
    return experiments.closet(ROOT.parent / "shared/data/closet", work)


def recipe(name: str, *changes: str) -> Config:
    """configs/NAME, with changes."""
    return Config.read(ROOT / "configs" / name, changes)


@dataclass(frozen=True)
class Size:
    """Of a generated data set."""

    users: int
    likes: int
    items: int
    negatives_per_like: int = 10
    candidates: int = 4

    def divided(self, by: int) -> "Size":
        """A part of it: as many likes a user, as many likes an item."""
        users, likes, items = (max(6, count // by) for count in (self.users, self.likes, self.items))
        return Size(users, likes, items, self.negatives_per_like, self.candidates)


TRAIN_630 = Size(users=630, likes=127_326, items=159_729)
TEST_630 = Size(users=630, likes=23_054, items=45_505)
"""Polyvore-630's splits (PAN Table 1's data set)."""


def generated(size: Size, *, seed: int, folder: Path | None = None) -> Dataset:
    """A data set whose one split is "train" and "test" at once: likes, ten negatives a like, a question a like."""
    rng = np.random.default_rng(seed)
    bounds = np.linspace(0, size.items, len(CATEGORIES) + 1).astype(np.int64)  # (4,)

    def outfits(users: IntArray) -> Outfits:
        items = [rng.integers(bounds[slot], bounds[slot + 1], len(users)) for slot in range(len(CATEGORIES))]
        return Outfits(users, np.stack(items, axis=1))

    likes = outfits(np.sort(rng.integers(0, size.users, size.likes)))
    negatives = outfits(np.repeat(likes.users, size.negatives_per_like))
    blank = rng.integers(0, len(CATEGORIES), size.likes)  # (Q,)
    candidates = rng.integers(bounds[blank][:, None], bounds[blank + 1][:, None], (size.likes, size.candidates))
    answer = rng.integers(0, size.candidates, size.likes)  # (Q,)
    rows = np.arange(size.likes)
    candidates[rows, answer] = likes.items[rows, blank]
    names = np.repeat(CATEGORIES, np.diff(bounds))  # (N,)
    nothing: tuple[None, ...] = (None,) * size.items
    return Dataset(
        name="generated",
        slots=tuple(Slot(name, name) for name in CATEGORIES),
        user_ids=tuple(f"u{row}" for row in range(size.users)),
        catalogue=Catalogue(
            item_ids=tuple(f"i{row}" for row in range(size.items)),
            item_categories=tuple(names.tolist()),
            images=nothing,
            titles=nothing,
            categories=CATEGORIES,
            image_root=Path(),
        ),
        likes={"train": likes, "test": likes},
        negatives={("test", "random"): negatives},
        fitb={"test": FitbQuestions(likes, blank, candidates, answer)},
        checksum=f"generated-{size}-{seed}",
        folder=folder,
    )


def store_maps(dataset: Dataset, name: str, map_shape: tuple[int, int, int], *, extractor: str) -> None:
    """DATASET/features/NAME of maps as a ReLU leaves them; left as it is where it is there."""
    assert dataset.folder is not None
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(DISTINCT, *map_shape, generator=generator).relu_().half().numpy()  # (256, C, H, W)
    manifest = Manifest.describe(
        dataset, item_shape=map_shape, extractor=extractor, dtype="float16", block_items=DISTINCT
    )

    def encode(rows: IntArray) -> NDArray[np.float16]:
        return np.asarray(maps[rows % DISTINCT])

    folder = dataset.folder / "features" / name
    write_store(folder, manifest=manifest, encode=encode, replace=True)
    open_store(folder, dataset, extractor=extractor)
