"""Fingerprints of items: what tells that an item's input is the same as before, wherever it stands in the catalogue.

A cached code is good as long as its item's fingerprint is. Imports no model.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panfit.features.inputs import ItemInputs
from panfit.features.store import FeatureStore, Manifest

FINGERPRINT_BYTES = 16
"""Two different items share a fingerprint with probability 2^-128."""


def item_fingerprints(inputs: ItemInputs, *, first: int = 0) -> NDArray[np.uint8]:
    """(N - first, 16): of each item's photo or map, category and text vector, from row ``first`` on.

    Photos and maps in memory are read whole. Of a feature store only the manifest is read: a map is told by its
    trunk's weights and preparation, its row, and the CRC-32 of its block, against which the bytes themselves are
    checked when they are read (`FeatureStore.rows`). A block whose bytes changed thus changes all of its items.
    """
    categories = inputs.categories.cpu().numpy().astype("<i8")  # (N,)
    text = None if inputs.text is None else inputs.text.cpu().numpy()  # (N, T)
    num_stored = len(inputs.source) if isinstance(inputs.source, FeatureStore) else 0
    prefixes = _of_store(inputs.source.manifest) if isinstance(inputs.source, FeatureStore) else []
    kind = repr((inputs.kind, inputs.input_shape, str(inputs.dtype))).encode()
    found = np.empty((len(inputs) - first, FINGERPRINT_BYTES), dtype=np.uint8)  # (N - first, 16)
    for row in range(first, len(inputs)):
        digest = hashlib.blake2b(kind, digest_size=FINGERPRINT_BYTES)
        digest.update(prefixes[row] if row < num_stored else _bytes(inputs.raw(np.array([row]))))
        digest.update(categories[row].tobytes())
        digest.update(b"no text" if text is None else _bytes(text[row]))
        found[row - first] = np.frombuffer(digest.digest(), dtype=np.uint8)
    return found


def _of_store(manifest: Manifest) -> list[bytes]:
    """For each of a store's items what its map is told by."""
    told = manifest.model_dump(mode="json", include={"extractor", "weights", "preparation", "dtype", "block_items"})
    shape = list(manifest.shape[1:])
    return [
        repr((told, shape, row, manifest.checksums[row // manifest.block_items])).encode()
        for row in range(manifest.shape[0])
    ]


def _bytes(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values).tobytes()
