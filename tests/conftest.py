"""Shared fixtures: one torch thread, seeded generators, a small data set in memory."""

import os
import signal

os.environ.setdefault(
    "OMP_WAIT_POLICY", "passive"
)  # before torch: its OpenMP would spin at barriers on a shared machine

from pathlib import Path

import numpy as np
import pytest
import torch

from panfit.outfits import Catalogue, Dataset, Outfits, Slot, Split

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: the processes of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOTS = (Slot("top", "top"), Slot("bottom", "bottom"), Slot("shoe", "shoe"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20210606)


@pytest.fixture
def tiny_dataset(rng: np.random.Generator) -> Dataset:
    """5 users; 30 tops, 24 bottoms, 18 shoes, with titles and without photos; splits that share no item."""
    counts = {"top": 30, "bottom": 24, "shoe": 18}
    item_ids = [f"{category}-{index}" for category, count in counts.items() for index in range(count)]
    categories = [category for category, count in counts.items() for _ in range(count)]
    catalogue = Catalogue(
        item_ids=tuple(item_ids),
        item_categories=tuple(categories),
        images=(None,) * len(item_ids),
        titles=tuple(f"{'red' if index % 2 else 'dark blue'} {category}" for index, category in enumerate(categories)),
        categories=("top", "bottom", "shoe"),
        image_root=Path(),
    )
    shares: dict[Split, tuple[float, float]] = {"train": (0.0, 0.5), "val": (0.5, 0.75), "test": (0.75, 1.0)}
    likes: dict[Split, Outfits] = {}
    for split, (low, high) in shares.items():
        rows = []
        start = 0
        for count in counts.values():
            rows.append(rng.integers(start + round(low * count), start + round(high * count), 10))  # (10,)
            start += count
        likes[split] = Outfits(np.arange(10, dtype=np.int64) % 5, np.column_stack(rows).astype(np.int64))
    return Dataset(
        name="tiny",
        slots=SLOTS,
        user_ids=tuple(f"u{user}" for user in range(5)),
        catalogue=catalogue,
        likes=likes,
        checksum="tiny",
    )
