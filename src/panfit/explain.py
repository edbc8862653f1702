"""EXPLAIN: a score's parts, and where a user looks -> numbers and pictures that a person can read.

A spatial map (PAN Eq. 3) follows the garment's outline whoever looks, so what is personal in it is shown relative to
the mean map of many users: where this user looks more than others, and where less. Never imports train.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from panfit.encode import evaluating
from panfit.features.inputs import ItemInputs
from panfit.model.batch import OutfitBatch
from panfit.model.pan import Pan
from panfit.outfits import ABSENT, IntArray, Outfits

FloatArray = NDArray[np.float64]

LESS, MORE = (46, 98, 168), (226, 58, 30)
"""Colors (RGB) of places looked at less and more than others do."""
OUTLINE = (23, 178, 106)
"""Color of a region's outline."""
STRONGEST = 0.78
"""Opacity of the strongest color, so that the garment still shines through."""
FAINT = 0.2
"""Share of the opacity that is left beside the item: a plain ground has nothing to look at."""


def score_parts(
    model: Pan, inputs: ItemInputs, outfits: Outfits, *, beta: float = 1.0, binary: bool = True
) -> tuple[FloatArray, FloatArray]:
    """The general and the personal part of each outfit's score, (B,) and (B,) (PAN Eq. 4); together they are the score.

    One forward pass: for tens of outfits, not for a catalogue.
    """
    worn = np.unique(outfits.items[outfits.mask])  # (N,)
    places = np.where(outfits.mask, np.searchsorted(worn, outfits.items), ABSENT)  # (B, S)
    device = next(model.parameters()).device
    batch = OutfitBatch(
        inputs=inputs.batch(worn).to(device),
        categories=inputs.categories[worn].to(device),
        text=None if inputs.text is None else inputs.text[worn].to(device),
        users=torch.from_numpy(outfits.users).to(device),
        items=torch.from_numpy(places).to(device),
    )
    with evaluating(model):
        output = model(batch, beta=beta, binary=binary)
    return output.general.double().cpu().numpy(), output.personal.double().cpu().numpy()


def spatial_maps(model: Pan, inputs: ItemInputs, users: IntArray, items: IntArray, *, beta: float = 1.0) -> FloatArray:
    """Where each user looks on each item: (U,) user rows, (N,) item rows -> S_u of PAN Eq. 3, (U, N, H, W)."""
    device = next(model.parameters()).device
    maps = []
    with evaluating(model):
        feature_map = model.feature_maps(inputs.batch(items).to(device))  # (N, C, H, W)
        categories = inputs.categories[items].to(device)  # (N,)
        text = None if inputs.text is None else inputs.text[items].to(device)  # (N, T)
        for user in users.tolist():
            embedding = model.user_embeddings(torch.full((len(items),), user, device=device))  # (N, D)
            encoding = model.encode_items(feature_map, categories, text, embedding, beta=beta)
            maps.append(encoding.spatial_map[:, 0].double().cpu().numpy())  # (N, H, W)
    return np.stack(maps)


def relative_maps(maps: FloatArray) -> FloatArray:
    """Several users' maps of one item, (U, H, W) positive -> (U, H, W) log2 of each over the users' mean map.

    Each map is first divided by its own sum: how much a user looks overall says nothing of where.
    """
    if maps.ndim != 3 or (maps <= 0).any():
        raise ValueError(f"maps must be (U, H, W) and positive, not {maps.shape}")
    shares = maps / maps.sum(axis=(1, 2), keepdims=True)  # (U, H, W)
    return np.asarray(np.log2(shares / shares.mean(axis=0)))


def upsample(values: FloatArray, size: int) -> FloatArray:
    """Any number of maps, (..., H, W) -> (..., size, size), bilinear, each value in the middle of its cell."""
    maps = torch.from_numpy(np.ascontiguousarray(values)).reshape(-1, 1, *values.shape[-2:])  # (N, 1, H, W)
    large = interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)  # (N, 1, size, size)
    return np.asarray(large.reshape(*values.shape[:-2], size, size).numpy())


def heat_map(
    photo: Image.Image,
    values: FloatArray,
    *,
    reach: float,
    region: NDArray[np.bool_] | None = None,
    within: NDArray[np.bool_] | None = None,
    size: int = 256,
) -> Image.Image:
    """A photo under a map's colors.

    Args:
        photo: the item's photo.
        values: (H, W) signed; 0 is left uncolored.
        reach: the absolute value that gets the strongest color; beyond it nothing grows.
        region: (h, w) True where an outline is drawn around, or None.
        within: (size, size) True where the item is; elsewhere the colors are faint. None: everywhere.
        size: side of the result, pixels.

    Returns:
        RGB, size x size.
    """
    gray = photo.convert("L").resize((size, size), Image.Resampling.LANCZOS)
    ground = np.repeat(np.asarray(gray, dtype=np.float64)[..., None], 3, axis=2)  # (size, size, 3)
    strength = np.clip(upsample(values, size) / reach, -1, 1)[..., None]  # (size, size, 1)
    opacity = STRONGEST * np.abs(strength)  # (size, size, 1)
    if within is not None:
        opacity = np.where(within[..., None], opacity, FAINT * opacity)
    color = np.where(strength >= 0, MORE, LESS)  # (size, size, 3)
    picture = (1 - opacity) * ground + opacity * color  # (size, size, 3)
    if region is not None and region.any():
        picture[_outline(region, size)] = OUTLINE
    return Image.fromarray(picture.round().astype(np.uint8))


def color_bar(width: int = 256, height: int = 12) -> Image.Image:
    """The scale of `heat_map`'s colors, on light gray: from least to most."""
    strength = np.linspace(-1, 1, width)[:, None]  # (width, 1)
    opacity = STRONGEST * np.abs(strength)  # (width, 1)
    row = (1 - opacity) * 225 + opacity * np.where(strength >= 0, MORE, LESS)  # (width, 3)
    return Image.fromarray(np.repeat(row[None].round().astype(np.uint8), height, axis=0))


def _outline(region: NDArray[np.bool_], size: int, *, width: int = 3) -> NDArray[np.bool_]:
    """(h, w) -> (size, size) True on the inner border of the region, ``width`` pixels wide."""
    scaled = Image.fromarray(region.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BILINEAR)
    inside = np.asarray(scaled) >= 128  # (size, size)
    core = inside.copy()
    for _ in range(width):
        padded = np.pad(core, 1)  # (size + 2, size + 2), beyond the edge counts as outside
        core = core & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core
