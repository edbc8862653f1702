"""Fingerprints of items: what tells that an item's input is the same as before, wherever it stands in the catalogue.

A cached code is good as long as its item's fingerprint is. Imports no model.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panfit.features.inputs import ItemInputs
from panfit.features.store import FeatureStore, Manifest
from panfit.outfits import IntArray

FINGERPRINT_BYTES = 16
"""Two different items share a fingerprint with probability 2^-128."""


def item_fingerprints(inputs: ItemInputs, *, first: int = 0) -> NDArray[np.uint8]:
    """(N - first, 16): of each item's photo or map, category and text vector, from row ``first`` on."""
    return fingerprints_of(inputs, np.arange(first, len(inputs)))


def fingerprints_of(inputs: ItemInputs, rows: IntArray) -> NDArray[np.uint8]:
    """(n, 16): of the photos or maps, categories and text vectors of items (n,).

    Photos and maps in memory are read whole. Of a feature store only the manifest is read: a map is told by its
    trunk's weights and preparation, its row, and the CRC-32 of its block, against which the bytes themselves are
    checked when they are read (`FeatureStore.rows`). A block whose bytes changed thus changes all of its items.
    """
    categories = inputs.categories.cpu().numpy().astype("<i8")  # (N,)
    text = None if inputs.text is None else inputs.text.cpu().numpy()  # (N, T)
    manifest = inputs.source.manifest if isinstance(inputs.source, FeatureStore) else None
    told = () if manifest is None else _told(manifest)
    kind = repr((inputs.kind, inputs.input_shape, str(inputs.dtype))).encode()
    found = np.empty((len(rows), FINGERPRINT_BYTES), dtype=np.uint8)  # (n, 16)
    for place, row in enumerate(rows.tolist()):
        digest = hashlib.blake2b(kind, digest_size=FINGERPRINT_BYTES)
        if manifest is not None and row < len(inputs.source):
            digest.update(repr((*told, row, manifest.checksums[row // manifest.block_items])).encode())
        else:
            digest.update(_bytes(inputs.raw(np.array([row]))))
        digest.update(categories[row].tobytes())
        digest.update(b"no text" if text is None else _bytes(text[row]))
        found[place] = np.frombuffer(digest.digest(), dtype=np.uint8)
    return found


def _told(manifest: Manifest) -> tuple[dict[str, Any], list[int]]:
    """What all maps of a store are told by: how they were made, and the shape of one."""
    told = manifest.model_dump(mode="json", include={"extractor", "weights", "preparation", "dtype", "block_items"})
    return told, list(manifest.shape[1:])


def _bytes(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values).tobytes()
