"""CODES: what every viewer sees of every item, as packed bits, built on demand.

PAN's item codes depend on who looks, so a table of codes belongs to a pair of eyes: a bit a bit, V * D / 8 bytes an
item. Never imports train.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.encode import FloatArray, ItemCoder
from panfit.model.hashing import pack_codes, unpack_codes
from panfit.outfits import ABSENT, IntArray
from panfit.scoring import predict

Packed = NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Called with (items done, items in all)."""


class CodeTables:
    """The viewers' tables of binary codes; those asked for last stay in memory.

    Args:
        coder: makes the codes.
        max_bytes: bound on what is held; the last viewer's table is held even beyond it.
    """

    def __init__(self, coder: ItemCoder, *, max_bytes: int) -> None:
        self.coder = coder
        self._max_bytes = max_bytes
        self._held: OrderedDict[bytes, _Table] = OrderedDict()

    def packed(self, viewer: Tensor, items: IntArray) -> Packed:
        """Packed codes (n, V * D / 8) of items (n,) as the embedding (D,) sees them; only those not held are made."""
        table = self._table(viewer)
        missing = np.unique(items[~table.is_made[items]])  # (m,)
        if len(missing):
            table.codes[missing] = self._make(viewer, missing)
            table.is_made[missing] = True
        return table.codes[items]

    def codes(self, viewer: Tensor, items: IntArray) -> Tensor:
        """Codes (n, V, D) in {-1, +1} of items (n,) as the embedding (D,) sees them."""
        packed = torch.from_numpy(self.packed(viewer, items))  # (n, V * D / 8)
        return unpack_codes(packed).unflatten(1, (-1, len(viewer))).to(viewer.device)

    def table(self, viewer: Tensor, *, progress: Progress | None = None) -> Packed:
        """The viewer's whole table (N, V * D / 8), in the catalogue's order; not to be written to."""
        every = np.arange(len(self.coder.inputs))
        self.packed(viewer, every)
        return self._table(viewer).codes

    def _make(self, viewer: Tensor, items: IntArray) -> Packed:
        nobody_else = np.zeros(len(items), dtype=np.int64)
        codes = self.coder.codes(viewer[None], nobody_else, items, binary=True)  # (m, V, D)
        return pack_codes(codes).flatten(1).cpu().numpy()

    def _table(self, viewer: Tensor) -> "_Table":
        key = key_of(viewer)
        table = self._held.pop(key, None)
        if table is None:
            modalities = 1 if self.coder.inputs.text is None else 2
            table = _Table(len(self.coder.inputs), modalities * len(viewer) // 8)
        self._held[key] = table
        while len(self._held) > 1 and sum(each.codes.nbytes for each in self._held.values()) > self._max_bytes:
            self._held.popitem(last=False)
        return table


class _Table:
    def __init__(self, num_items: int, num_bytes: int) -> None:
        self.codes: Packed = np.zeros((num_items, num_bytes), dtype=np.uint8)  # (N, V * D / 8)
        self.is_made = np.zeros(num_items, dtype=np.bool_)  # (N,)


class CachedScores:
    """A viewer's scores of outfits, through codes that are kept for the viewers asked about last."""

    def __init__(self, tables: CodeTables) -> None:
        self._tables = tables

    def __call__(self, viewer: Tensor, outfits: IntArray, *, binary: bool) -> FloatArray:
        """Embedding (D,), outfits (B, S) of item rows -> (B,) scores y of Eq. 4; only binary codes are kept."""
        coder = self._tables.coder
        items = np.unique(outfits[outfits != ABSENT])  # (n,)
        slots = np.where(outfits == ABSENT, ABSENT, np.searchsorted(items, outfits))  # (B, S)
        if binary:
            codes = self._tables.codes(viewer, items)  # (n, V, D)
        else:
            codes = coder.codes(viewer[None], np.zeros(len(items), dtype=np.int64), items, binary=False)
        only_viewer = np.zeros((len(outfits), 1), dtype=np.int64)  # (B, 1)
        viewer_code = coder.viewer_codes(viewer[None], binary=binary)  # (1, D)
        return predict(coder.model, viewer_code, codes, np.concatenate([only_viewer, slots], axis=1))


def key_of(viewer: Tensor) -> bytes:
    """What tells one embedding (D,) from another: a hash of its bits."""
    return hashlib.blake2b(viewer.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).digest()
