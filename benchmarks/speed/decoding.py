"""Decoding: a catalogue's photos -> squares of uint8, against one after the other in Pillow, and against bare libjpeg.

Plain is what torchvision's transforms do to a photo: opened, converted, resized at full size, to float32, normalized.
The ceiling is Pillow's bare decoding of the same bytes from memory, at the least size that libjpeg offers above what is
asked for, shared out over the cores: no resize, no file.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.speed.measuring import digits, in_turns, watched_memory
from benchmarks.speed.worlds import closet
from panfit.config import ImageConfig
from panfit.features.ahead import ahead, num_workers
from panfit.features.images import IMAGENET_MEAN, IMAGENET_STD, decode_photos, photo_paths

TARGET = 2.0
SIZE, PHOTOS, BLOCK, ROUNDS = 224, 600, 32, 3


def plain(path: Path, size: int) -> NDArray[np.float32]:
    """One photo (3, size, size), normalized."""
    with Image.open(path) as image:
        square = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / 255  # (3, size, size)
    mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return np.asarray((pixels - mean) / std)


def run(work: Path, *, photos: int = PHOTOS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Photos a second."""
    paths = photo_paths(closet(work))[:photos]
    config = ImageConfig(size=SIZE)
    contents = [path.read_bytes() for path in paths]  # also warms the system's cache

    def ours() -> None:
        blocks = [paths[first : first + BLOCK] for first in range(0, len(paths), BLOCK)]
        for _, ready in ahead(lambda block: decode_photos(block, config), blocks):
            ready.result()

    def one_by_one() -> None:
        for path in paths:
            plain(path, SIZE)

    def bare() -> None:
        for content in contents:
            image = Image.open(io.BytesIO(content))
            image.draft(None, (SIZE, SIZE))
            image.load()

    with watched_memory() as memory:
        ours()
    best = in_turns({"ours_s": ours, "plain_s": one_by_one, "bare_one_core_s": bare}, rounds=rounds)
    ceiling_s = best["bare_one_core_s"] / num_workers()
    sides = np.array([Image.open(path).size for path in paths])  # (n, 2)
    return {
        "case": f"decoding photos of {int(np.median(sides[:, 0]))} x {int(np.median(sides[:, 1]))} to {SIZE} pixels",
        "ratio_to_plain": round(best["plain_s"] / best["ours_s"], 2),
        "share_of_ceiling": round(ceiling_s / best["ours_s"], 3),
        "ceiling": "bare decoding in memory, without resizing, by all cores",
        "target": TARGET,
        "photos_per_s": round(len(paths) / best["ours_s"], 1),
        "plain_photos_per_s": round(len(paths) / best["plain_s"], 1),
        "anonymous_mb": memory.get("mb"),
        "seconds": digits(best, 4),
    }
