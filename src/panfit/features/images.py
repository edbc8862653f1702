"""A catalogue's photos: decoded once and kept beside the data set, then normalized and augmented batch by batch.

All photos that cannot be used are reported together. torch is imported only where tensors begin.
"""

import hashlib
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panfit.config import ImageConfig
from panfit.errors import DataError, FeatureStoreError, Problem
from panfit.features.ahead import ahead
from panfit.features.filling import Prepare, Progress, write_store
from panfit.features.photos import PhotoError, fit_photo, open_image, open_photo
from panfit.features.store import Manifest, open_store
from panfit.outfits import Dataset, IntArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "PhotoError",
    "open_photo",
    "fit_photo",
    "photo_array",
    "photo_paths",
    "decode_photos",
    "normalize",
    "augment",
]

log = logging.getLogger("panfit")

PHOTOS_PER_BLOCK = 256
VERIFY_BYTES = 2**30
"""A photo cache up to this size is checked whole when it is opened; a larger one by its size and header."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def photo_array(dataset: Dataset, config: ImageConfig, *, progress: Progress | None = None) -> NDArray[np.uint8]:
    """Every item's photo, decoded once: (N, 3, size, size) uint8.

    Kept memory-mapped in DATASET/features/photos-<size>-<fit>, made anew when the tables or the photo files change; a
    killed run goes on where it was. A data set without a folder, or whose folder cannot be written, is decoded into
    memory.

    Raises:
        DataError: items without a photo, or photos that cannot be used; all of them.
        FeatureStoreError: the disk is full.
    """
    paths = photo_paths(dataset)
    item_shape = (3, config.size, config.size)

    def decode(rows: IntArray) -> NDArray[np.uint8]:
        return decode_photos([paths[row] for row in rows], config)

    if dataset.folder is None:
        return _decode_into_memory(len(paths), item_shape, decode, progress)
    folder = dataset.folder / "features" / f"photos-{config.size}-{config.fit}"
    manifest = Manifest.describe(
        dataset,
        item_shape=item_shape,
        extractor="photos",
        preparation=preparation_of(config),
        sources=fingerprint_photos(paths),
        dtype="uint8",
        block_items=PHOTOS_PER_BLOCK,
    )
    photos = _cached(folder, dataset, manifest)
    if photos is not None:
        return photos
    try:
        write_store(folder, manifest=manifest, prepare=decode, encode=_decoded, progress=progress, replace=True)
    except OSError as error:
        log.warning("%s cannot be written (%s): the photos are decoded into memory", folder.parent, error.strerror)
        return _decode_into_memory(len(paths), item_shape, decode, progress)
    photos = _cached(folder, dataset, manifest)
    if photos is None:
        log.warning("%s cannot be used: the photos are decoded into memory", folder)
        return _decode_into_memory(len(paths), item_shape, decode, progress)
    return photos


def _decoded(photos: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All the work was done ahead."""
    return photos


def preparation_of(config: ImageConfig) -> str:
    """How photos were prepared, as a feature store's manifest says it: "224 px, squash"."""
    return f"{config.size} px, {config.fit}"


def prepared_as(preparation: str) -> ImageConfig:
    """The opposite of `preparation_of`. Raises ValueError for what it never writes."""
    found = re.fullmatch(r"(\d+) px, (\w+)", preparation)
    if found is None:
        raise ValueError(f"no preparation of photos: {preparation!r}")
    return ImageConfig.model_validate({"size": int(found[1]), "fit": found[2]})


def photo_paths(dataset: Dataset) -> list[Path]:
    """The N photo files. Raises DataError with every item that has none."""
    catalogue = dataset.catalogue
    table = str((dataset.folder or Path(dataset.name)) / "items.parquet")
    problems = [
        Problem(
            table,
            f"item {item_id!r} without a photo",
            "a photo for every item, since the trunk runs on photos",
            "Give it a photo, leave the item out, or train on stored maps (backbone.source)",
            row + 1,
        )
        for row, (item_id, image) in enumerate(zip(catalogue.item_ids, catalogue.images, strict=True))
        if image is None
    ]
    if problems:
        raise DataError(f"{len(problems)} of {len(catalogue)} items have no photo", problems)
    return [catalogue.image_root / image for image in catalogue.images if image is not None]


def decode_photos(
    pictures: Sequence[Path | Image.Image], config: ImageConfig, *, names: Sequence[str] | None = None
) -> NDArray[np.uint8]:
    """n photo files, or pictures in memory, -> (n, 3, size, size). Raises DataError with all that cannot be used.

    ``names``: what errors call the pictures in memory; a file is called by its path.
    """
    photos = np.empty((len(pictures), 3, config.size, config.size), dtype=np.uint8)
    problems: list[Problem] = []
    for row, picture in enumerate(pictures):
        try:
            if isinstance(picture, Image.Image):
                opened = open_image(picture, f"picture {row + 1}" if names is None else names[row])
            else:
                opened = open_photo(picture, at_least=config.size)
            photos[row] = fit_photo(opened, config.size, config.fit)
        except PhotoError as error:
            problems += error.problems
    if problems:
        raise DataError(f"{len(problems)} photos cannot be used", problems)
    return photos


def normalize(photos: "Tensor") -> "Tensor":
    """(N, 3, H, W) uint8 -> float32 with ImageNet's mean and standard deviation taken out, as the trunks expect."""
    import torch

    if photos.dtype != torch.uint8 or photos.ndim != 4 or photos.shape[1] != 3:
        raise ValueError(f"photos must be (N, 3, H, W) uint8, not {tuple(photos.shape)} {photos.dtype}")
    mean = torch.tensor(IMAGENET_MEAN, device=photos.device).view(1, 3, 1, 1) * 255  # (1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=photos.device).view(1, 3, 1, 1) * 255  # (1, 3, 1, 1)
    return (photos.float() - mean) / std


def augment(photos: "Tensor", config: ImageConfig, generator: "torch.Generator") -> "Tensor":
    """(N, 3, H, W) uint8 -> the same, each photo mirrored and cropped by chance of its own (training only).

    With ``config.flip`` a photo is mirrored left-right with probability one half; with ``config.crop`` c > 0 a square
    window of side 1 - c*v, v uniform in [0, 1), at a uniform place, is resized back to the full size.
    """
    import torch
    from torch.nn import functional

    num_photos = len(photos)
    if config.flip:
        mirrored = torch.rand(num_photos, generator=generator) < 0.5  # (N,)
        photos = torch.where(mirrored.view(-1, 1, 1, 1).to(photos.device), photos.flip(-1), photos)
    if config.crop > 0:
        draws = torch.rand(num_photos, 3, generator=generator)  # (N, 3)
        side = 1 - config.crop * draws[:, 0]  # (N,) share of the full side, whose coordinates run from -1 to 1
        shift = (2 * draws[:, 1:] - 1) * (1 - side).unsqueeze(1)  # (N, 2) x and y of the window's center
        window = torch.zeros(num_photos, 2, 3)
        window[:, 0, 0] = side
        window[:, 1, 1] = side
        window[:, :, 2] = shift
        grid = functional.affine_grid(window.to(photos.device), list(photos.shape), align_corners=False)  # (N, H, W, 2)
        cropped = functional.grid_sample(photos.float(), grid, padding_mode="border", align_corners=False)
        photos = cropped.round().clamp(0, 255).to(torch.uint8)
    return photos


def _decode_into_memory(
    num_items: int, item_shape: tuple[int, ...], decode: Prepare, progress: Progress | None
) -> NDArray[np.uint8]:
    photos = np.empty((num_items, *item_shape), dtype=np.uint8)
    problems: list[Problem] = []
    starts = range(0, num_items, PHOTOS_PER_BLOCK)
    blocks = [np.arange(start, min(start + PHOTOS_PER_BLOCK, num_items)) for start in starts]  # (n,) each
    for rows, ready in ahead(decode, blocks):
        try:
            photos[rows] = ready.result()
        except DataError as error:
            problems += error.problems
        if progress is not None:
            progress(int(rows[-1]) + 1, num_items)
    if problems:
        raise DataError(f"{len(problems)} of {num_items} photos cannot be used", problems)
    return photos


def _cached(folder: Path, dataset: Dataset, manifest: Manifest) -> NDArray[np.uint8] | None:
    """The photos of a finished cache that is whole and says what ``manifest`` says; else None."""
    if not folder.exists():
        return None
    try:
        store = open_store(folder, dataset, extractor="photos")
        if store.manifest.differences(manifest):
            return None
        if manifest.num_bytes <= VERIFY_BYTES:
            store.verify()
    except FeatureStoreError as error:
        log.warning("the photo cache is made anew: %s", error)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return store.maps


def fingerprint_photos(paths: list[Path]) -> str:
    """A hash of the photo files' names, sizes and times: the tables' checksum does not see a replaced photo."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = path.stat()
            digest.update(f"{path.name} {found.st_size} {found.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{path.name} missing\n".encode())
    return digest.hexdigest()
