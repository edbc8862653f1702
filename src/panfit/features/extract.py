"""`panfit features`: a frozen trunk's maps of every photo, computed once and stored (the second regime of D4)."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panfit.config import Config
from panfit.errors import ConfigError
from panfit.features.filling import Progress, write_store
from panfit.features.images import decode_photos, fingerprint_photos, normalize, photo_paths, preparation_of
from panfit.features.inputs import extractor_name, store_folder
from panfit.features.store import FeatureStore, Manifest, open_store
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
    progress: Progress | None = None,
) -> FeatureStore:
    """Run ``config.backbone``'s trunk, in evaluation mode, over every photo; store its maps as DATASET/features/<name>.

    A killed run goes on where it was; a finished store of the same trunk, weights and photos is left as it is.

    Args:
        dataset: a data set with a folder, whose items all have photos.
        config: ``images`` and ``backbone`` are used; random initial weights are drawn from ``seed``.
        name: the store's name, for ``backbone.store``.
        device: where the trunk runs.
        progress: told (photos done, photos in all).

    Raises:
        DataError: photos that are missing or cannot be used; all of them.
        FeatureStoreError: another store has that name, the disk is full, or a map is not finite.
    """
    from panfit.model.backbone import build_backbone

    backbone_config = config.backbone
    if backbone_config.source != "images":
        raise ConfigError('features are extracted from photos: set backbone.source = "images"')
    if backbone_config.name != "hf" and backbone_config.weights is None:
        log.warning("backbone.weights is not set: the stored maps come from random weights (seed %d)", config.seed)
    folder = store_folder(dataset, name)
    paths = photo_paths(dataset)
    generator = torch.Generator().manual_seed(config.seed)
    size = config.images.size
    backbone = build_backbone(backbone_config, (3, size, size), generator=generator).eval().to(device)
    manifest = Manifest.describe(
        dataset,
        item_shape=backbone.map_shape,
        extractor=extractor_name(backbone_config),
        preparation=preparation_of(config.images),
        weights=hash_weights(backbone.trunk),
        sources=fingerprint_photos(paths),
        dtype="float16",
        block_items=PHOTOS_PER_BATCH,
    )

    @torch.inference_mode()
    def encode(rows: IntArray) -> NDArray[np.float32]:
        photos = torch.from_numpy(decode_photos([paths[row] for row in rows], config.images))  # (n, 3, size, size)
        maps: NDArray[np.float32] = backbone.feature_map(normalize(photos.to(device))).float().cpu().numpy()
        return maps

    write_store(folder, manifest=manifest, encode=encode, progress=progress)
    return open_store(Path(folder), dataset, extractor=manifest.extractor)


def hash_weights(trunk: nn.Module) -> str:
    """SHA-256 of the trunk's tensors by name: the same for the same weights, wherever they were loaded from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
