"""`panfit features`: a frozen trunk's maps of every photo, computed once and stored (the second regime of D4)."""

import contextlib
import hashlib
import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panfit.arithmetic import Precision, halve, settled
from panfit.config import Config
from panfit.errors import ConfigError, FeatureStoreError
from panfit.features.filling import Filler, Progress, fill_store, write_store
from panfit.features.images import decode_photos, fingerprint_photos, normalize, photo_paths, preparation_of
from panfit.features.inputs import extractor_name, store_folder
from panfit.features.store import FeatureStore, Manifest, open_store, read_manifest
from panfit.outfits import Dataset, IntArray

log = logging.getLogger("panfit")

PHOTOS_PER_BATCH = 32
"""Photos the trunk sees at once; also the store's block, so that a resumed run encodes the very same batches."""


def extract_features(
    dataset: Dataset,
    config: Config,
    *,
    name: str,
    device: str | torch.device = "cpu",
    precision: Precision = "auto",
    elsewhere: Filler | None = None,
    progress: Progress | None = None,
) -> FeatureStore:
    """Run ``config.backbone``'s trunk, in evaluation mode, over every photo; store its maps as DATASET/features/<name>.

    Photos are decoded in threads while the trunk is busy with those before them. A killed run goes on where it was; a
    finished store of the same trunk, weights and photos is left as it is.

    Args:
        dataset: a data set with a folder, whose items all have photos.
        config: ``images`` and ``backbone`` are used; random initial weights are drawn from ``seed``.
        name: the store's name, for ``backbone.store``.
        device: where the trunk runs.
        precision: the trunk's arithmetic. "auto": bf16 on a processor that has it, or what a finished store was made
            in. Stored maps are float16 either way.
        elsewhere: what computes and writes the maps in this process's place (`panfit.features_ray.filler_on_ray`).
        progress: told (photos done, photos in all).

    Raises:
        DataError: photos that are missing or cannot be used; all of them.
        FeatureStoreError: another store has that name, the disk is full, or a map is not finite.
    """
    backbone_config = config.backbone
    if backbone_config.source != "images":
        raise ConfigError('features are extracted from photos: set backbone.source = "images"')
    if backbone_config.name != "hf" and backbone_config.weights is None:
        log.warning("backbone.weights is not set: the stored maps come from random weights (seed %d)", config.seed)
    folder = store_folder(dataset, name)
    encoder = PhotoEncoder(dataset, config, device="cpu" if elsewhere is not None else device)
    manifest = Manifest.describe(
        dataset,
        item_shape=encoder.map_shape,
        extractor=extractor_name(backbone_config),
        preparation=preparation_of(config.images),
        weights=encoder.weights,
        sources=fingerprint_photos(encoder.paths),
        dtype="float16",
        block_items=PHOTOS_PER_BATCH,
        arithmetic=_arithmetic(precision, torch.device(device), folder),
    )
    if elsewhere is not None:
        fill_store(folder, manifest=manifest, fill=elsewhere, progress=progress)
    else:
        encoder.compute_in(manifest.arithmetic)
        write_store(folder, manifest=manifest, prepare=encoder.decode, encode=encoder.encode, progress=progress)
    return open_store(Path(folder), dataset, extractor=manifest.extractor)


class PhotoEncoder:
    """A frozen trunk in evaluation mode, and the photos that it is to see.

    Args:
        dataset: a data set with a folder, whose items all have photos.
        config: ``images`` and ``backbone`` are used; random initial weights are drawn from ``seed``.
        device: where the trunk runs.

    Attributes:
        paths: of every item's photo.
        weights: `hash_weights` of the trunk.

    Raises DataError for items without photos.
    """

    def __init__(self, dataset: Dataset, config: Config, *, device: str | torch.device = "cpu") -> None:
        from panfit.model.backbone import build_backbone

        self.paths = photo_paths(dataset)
        generator = torch.Generator().manual_seed(config.seed)
        size = config.images.size
        self._images, self._device, self._is_half = config.images, device, False
        self._backbone = build_backbone(config.backbone, (3, size, size), generator=generator).eval().to(device)
        self.weights = hash_weights(self._backbone.trunk)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a photo's map."""
        return self._backbone.map_shape

    def compute_in(self, arithmetic: Literal["float32", "bf16"]) -> None:
        """Choose the trunk's arithmetic, once; bf16 casts its weights."""
        self._is_half = arithmetic == "bf16"
        if self._is_half:
            halve(self._backbone.trunk)

    def decode(self, rows: IntArray) -> NDArray[np.uint8]:
        """Item rows (n,) -> their photos (n, 3, size, size). Raises DataError for those that cannot be used."""
        return decode_photos([self.paths[row] for row in rows], self._images)

    @torch.inference_mode()
    def encode(self, decoded: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Decoded photos (n, 3, size, size) -> their maps (n, C, H, W)."""
        photos = normalize(torch.from_numpy(decoded).to(self._device))  # (n, 3, size, size)
        with torch.autocast(photos.device.type, torch.bfloat16, enabled=self._is_half):
            maps = self._backbone.feature_map(photos)  # (n, C, H, W), a place's channels side by side
        halves: NDArray[np.float16] = maps.half().cpu().contiguous().numpy()  # torch rounds far faster than numpy
        return halves


def _arithmetic(precision: Precision, device: torch.device, folder: Path) -> Literal["float32", "bf16"]:
    """What maps are to be computed in; where anything will do, a finished store's own."""
    if precision == "auto" and folder.exists():
        with contextlib.suppress(FeatureStoreError):  # a damaged one is named when it is opened
            return read_manifest(folder).arithmetic
    return settled(precision, device)


def hash_weights(trunk: nn.Module) -> str:
    """SHA-256 of the trunk's tensors by name: the same for the same weights, wherever they were loaded from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
