"""A small data set with photos on disk, for tests that start from pixels."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from panfit.config import Config
from panfit.data.splits import complete
from panfit.outfits import Dataset


def with_photos(dataset: Dataset, folder: Path, *, side: int = 20) -> Dataset:
    """The data set with a random PNG for each item, and with negatives and FITB questions."""
    rng = np.random.default_rng(7)
    names = []
    for row in range(len(dataset.catalogue)):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(folder / f"{row}.png")
        names.append(f"{row}.png")
    catalogue = replace(dataset.catalogue, images=tuple(names), image_root=folder)
    return complete(replace(dataset, catalogue=catalogue), seed=3)


def tiny_config(**sections: Mapping[str, object]) -> Config:
    """A model of a few thousand weights that trains in a blink."""
    values: dict[str, Mapping[str, object]] = {
        "images": {"size": 16, "flip": True},
        "text": {"source": "titles", "dim": 12},
        "backbone": {"name": "small", "width": 2, "head": "flatten"},
        "attention": {"kernel_size": 3, "reduction": 2},
        "model": {"code_bits": 16, "image_hidden": 11, "text_hidden": 9, "dropout": 0.2},
        "negatives": {"per_like": 2, "warmup_epochs": 1},
        "optimizer": {"name": "adamw", "user": 0.05, "trunk": 0.01, "attention": 0.01, "image_encoder": 0.01},
        "train": {"epochs": 3, "batch_size": 4, "save_every_s": 1e6},
    }
    for section, settings in sections.items():
        values[section] = {**values.get(section, {}), **settings}
    return Config.parse(dict(values))
