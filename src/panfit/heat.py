"""HEAT: an attention map -> colors over the photo. Numbers in, pictures out; knows no model."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from panfit.encode import FloatArray
from panfit.outfits import BoolArray

LESS, MORE = (46, 98, 168), (226, 58, 30)
"""Colors (RGB) of places looked at less and more than others do. The color-blind can tell them apart."""
OUTLINE = (23, 178, 106)
"""Color of a region's outline."""
STRONGEST = 0.78
"""Opacity of the strongest color, so that the garment still shines through."""
FAINT = 0.2
"""Share of the opacity that is left beside the item: a plain ground has nothing to look at."""
DARKEST = 70
"""The gray that black becomes under the colors: on black itself no faint color would be seen."""

Size = int | tuple[int, int]
"""Of a picture in pixels: (width, height), or the side of a square."""


def upsample(values: FloatArray, size: Size) -> FloatArray:
    """Any number of maps, (..., H, W) -> (..., height, width), bilinear, each value in the middle of its cell."""
    width, height = (size, size) if isinstance(size, int) else size
    maps = torch.from_numpy(np.ascontiguousarray(values)).reshape(-1, 1, *values.shape[-2:])  # (N, 1, H, W)
    large = interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)  # (N, 1, height, width)
    return np.asarray(large.reshape(*values.shape[:-2], height, width).numpy())


def heat_map(
    photo: Image.Image,
    values: FloatArray,
    *,
    reach: float,
    region: BoolArray | None = None,
    within: BoolArray | None = None,
    size: Size = 256,
) -> Image.Image:
    """A photo, in grays, under a map's colors.

    Args:
        photo: the item's photo.
        values: (H, W) signed; 0 is left uncolored.
        reach: the absolute value that gets the strongest color; beyond it nothing grows.
        region: (h, w) True where an outline is drawn around, or None.
        within: (height, width) True where the item is; elsewhere the colors are faint. None: everywhere.
        size: of the result, pixels.

    Returns:
        RGB.
    """
    width, height = (size, size) if isinstance(size, int) else size
    gray = np.asarray(photo.convert("L").resize((width, height), Image.Resampling.LANCZOS), dtype=np.float64)
    ground = (DARKEST + gray * (255 - DARKEST) / 255)[..., None]  # (height, width, 1)
    strength = np.clip(upsample(values, (width, height)) / reach, -1, 1)  # (height, width)
    if within is not None:
        strength = np.where(within, strength, FAINT * strength)
    picture = _colored(ground, strength)  # (height, width, 3)
    if region is not None and region.any():
        picture[_outline(region, (width, height))] = OUTLINE
    return Image.fromarray(picture.round().astype(np.uint8))


def color_bar(width: int = 256, height: int = 12, *, scale: Literal["both", "more"] = "both") -> Image.Image:
    """The scale of `heat_map`'s colors, on light gray: from least to most, or from none to most."""
    strength = np.linspace(-1 if scale == "both" else 0, 1, width)  # (width,)
    row = _colored(np.full((width, 1), 225.0), strength)  # (width, 3)
    return Image.fromarray(np.repeat(row[None].round().astype(np.uint8), height, axis=0))


def _colored(ground: FloatArray, strength: FloatArray) -> FloatArray:
    """Grays (..., 1) under colors of strength (...) from -1 to 1 -> (..., 3)."""
    opacity = STRONGEST * np.abs(strength)[..., None]  # (..., 1)
    return np.asarray((1 - opacity) * ground + opacity * np.where(strength[..., None] >= 0, MORE, LESS))


def _outline(region: BoolArray, size: tuple[int, int], *, line: int = 3) -> NDArray[np.bool_]:
    """(h, w) -> (height, width) True on the inner border of the region, ``line`` pixels wide."""
    scaled = Image.fromarray(region.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(scaled) >= 128  # (height, width)
    core = inside.copy()
    for _ in range(line):
        padded = np.pad(core, 1)  # (height + 2, width + 2), beyond the edge counts as outside
        core = core & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core
