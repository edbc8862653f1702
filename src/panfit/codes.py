"""CODES: what every viewer sees of every item, as packed bits, built on demand, kept in memory and on disk.

PAN's item codes depend on who looks, so a table of codes belongs to a pair of eyes: a bit a bit, V * D / 8 bytes an
item. Never imports train.
"""

import hashlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from panfit.code_files import CodeFiles, check_folder
from panfit.encode import FloatArray, ItemCoder, Progress
from panfit.features.fingerprints import item_fingerprints
from panfit.features.inputs import ItemInputs
from panfit.map_files import MapFile
from panfit.model.hashing import pack_codes, unpack_codes
from panfit.outfits import ABSENT, BoolArray, IntArray
from panfit.scoring import predict
from panfit.sweep import Packed, Sweep

WORTH_A_SWEEP = 256
"""From so many items on `Sweep` makes them, which starts threads and keeps what the next viewer needs too."""
MOST_MAPPED = 1024
"""Tables that are held as memory maps at a time: they cost no memory of ours, but a system has only so many maps."""


class CodeTables:
    """The viewers' tables of binary codes; those asked for last stay at hand.

    With a folder, a table that is whole is written there and from then on mapped into memory, in this process and in
    later ones; when the catalogue has changed, only what is new in it is encoded (`panfit.code_files`).

    Args:
        coder: makes the codes.
        max_bytes: bound on what is held in memory, memory maps aside; the last viewer's table is held even beyond it.
        folder: where tables are kept; None: in memory alone.

    Attributes:
        progress: told whenever many codes are made, where a call names nobody else to tell; None: nobody.

    Raises:
        CacheError: ``folder`` holds something else; or later, where a table is asked for, a file there is damaged.
    """

    def __init__(self, coder: ItemCoder, *, max_bytes: int, folder: Path | None = None) -> None:
        self.coder = coder
        self._sweep = Sweep(coder)
        self._max_bytes = max_bytes
        self._held: OrderedDict[bytes, _Table] = OrderedDict()
        self.progress: Progress | None = None
        self._folder = folder
        self._files: CodeFiles | None = None
        self._map_file: MapFile | None = None
        self._fingerprints: Packed | None = None  # (N, 16)
        if folder is not None:
            check_folder(folder)

    def packed(self, viewer: Tensor, items: IntArray, *, progress: Progress | None = None) -> Packed:
        """Packed codes (n, V * D / 8) of items (n,) as the embedding (D,) sees them; only those not held are made."""
        table = self._table(viewer)
        missing = np.unique(items[~table.is_made(items)])  # (m,)
        if self.are_kept and 2 * len(missing) > table.num_items:  # the rest too: only whole tables are kept
            missing = np.setdiff1d(np.arange(table.num_items), table.items)  # (m,)
        if len(missing):
            table.add(missing, self._make(viewer, missing, progress))
            self._settle(viewer, table)
        return table.take(items)

    @property
    def folder(self) -> Path | None:
        """Where tables are kept; None: nowhere."""
        return self._folder

    @property
    def are_kept(self) -> bool:
        """Whether whole tables are written to a folder."""
        return self._folder is not None

    def is_made(self, viewer: Tensor, items: IntArray) -> BoolArray:
        """(n,) whether the codes of items (n,) are there already, as the embedding (D,) sees them."""
        return self._table(viewer).is_made(items)

    def codes(self, viewer: Tensor, items: IntArray) -> Tensor:
        """Codes (n, V, D) in {-1, +1} of items (n,) as the embedding (D,) sees them."""
        packed = torch.from_numpy(self.packed(viewer, items))  # (n, V * D / 8)
        codes: Tensor = unpack_codes(packed).unflatten(1, (-1, len(viewer)))  # (n, V, D)
        return codes.to(viewer.device)

    def table(self, viewer: Tensor, *, progress: Progress | None = None) -> Packed:
        """The viewer's whole table (N, V * D / 8), in the catalogue's order; not to be written to."""
        if not self._table(viewer).is_whole:
            self.packed(viewer, np.arange(len(self.coder.inputs)), progress=progress)
        return self._table(viewer).codes

    def whole(self, viewer: Tensor) -> Packed | None:
        """The viewer's whole table (N, V * D / 8), not to be written to; None where some of it is still to be made."""
        table = self._table(viewer)
        return np.asarray(table.codes) if table.is_whole else None

    def extend(self, inputs: ItemInputs) -> None:
        """Take inputs that have more items behind those known so far (`ItemCoder.extend`); what is made stays made."""
        self.coder.extend(inputs)
        self._files, self._map_file = None, None  # another catalogue
        for table in self._held.values():
            table.num_items = len(inputs)

    def _make(self, viewer: Tensor, items: IntArray, progress: Progress | None) -> Packed:
        """Packed codes (n, V * D / 8) of items (n,), distinct and rising."""
        self.read_maps()
        if len(items) >= WORTH_A_SWEEP:
            packed = self._sweep.packed(viewer, items, progress=progress or self.progress)
        else:
            codes = self.coder.codes(viewer[None], np.zeros_like(items), items, binary=True)  # (n, V, D)
            packed = pack_codes(codes).flatten(1).cpu().numpy()
        if self._map_file is not None:
            self._map_file.write()
        return packed

    def read_maps(self) -> None:
        """Take the maps that an earlier process left in the folder, if it did. Raises CacheError."""
        if self._code_files() is not None and self._map_file is not None:
            self._map_file.read()

    def _table(self, viewer: Tensor) -> "_Table":
        """The viewer's table, now the last one that was asked for."""
        key = key_of(viewer)
        table = self._held.get(key)
        if table is None:
            table = self._held[key] = self._open(viewer)
            self._evict()
        self._held.move_to_end(key)
        return table

    def _open(self, viewer: Tensor) -> "_Table":
        """What the folder has of the viewer's table."""
        num_items, num_bytes = len(self.coder.inputs), self._sweep.num_bytes
        files, name = self._code_files(), key_of(viewer).hex()
        if files is None:
            return _Table(num_items, np.arange(0), np.zeros((0, num_bytes), dtype=np.uint8))
        mapped = files.read(name, num_bytes)
        if mapped is not None:
            return _Table(num_items, np.arange(num_items), mapped, is_mapped=True)
        table = _Table(num_items, *files.older(name, num_bytes))
        self._settle(viewer, table)
        return table

    def _settle(self, viewer: Tensor, table: "_Table") -> None:
        """Write a table that has come to be whole, and hold the file in its stead."""
        files = self._code_files()
        if files is not None and table.is_whole and not table.is_mapped:
            name = key_of(viewer).hex()
            mapped = files.read(name, self._sweep.num_bytes) if files.write(name, table.codes) else None
            if mapped is not None:
                table.codes, table.is_mapped = mapped, True
        self._evict()

    def _evict(self) -> None:
        held = self._held
        while len(held) > 1 and (
            sum(table.num_bytes for table in held.values()) > self._max_bytes or len(held) > MOST_MAPPED
        ):
            held.popitem(last=False)

    def _code_files(self) -> CodeFiles | None:
        if self._folder is not None and self._files is None:
            known = self._fingerprints if self._fingerprints is not None else np.zeros((0, 16), dtype=np.uint8)
            new = item_fingerprints(self.coder.inputs, first=len(known))
            self._fingerprints = np.concatenate([known, new])
            self._files = CodeFiles(self._folder, model=self.coder.fingerprint(), items=self._fingerprints)
            self._map_file = MapFile(self._files, self.coder.maps)
        return self._files


class _Table:
    """One viewer's codes of some of the N items; it holds no more than those.

    Attributes:
        num_items: N.
        items: (m,) item rows, rising.
        codes: (m, V * D / 8) their packed codes.
        is_mapped: the codes are a file's, not in memory of ours.
    """

    def __init__(self, num_items: int, items: IntArray, codes: Packed, *, is_mapped: bool = False) -> None:
        self.num_items = num_items
        self.items, self.codes, self.is_mapped = items, codes, is_mapped

    @property
    def is_whole(self) -> bool:
        return len(self.items) == self.num_items

    @property
    def num_bytes(self) -> int:
        return 0 if self.is_mapped else self.codes.nbytes + self.items.nbytes

    def is_made(self, items: IntArray) -> BoolArray:
        """Items (n,) -> (n,). Raises IndexError for an item that there is not."""
        if len(items) and not 0 <= items.min() <= items.max() < self.num_items:
            raise IndexError(f"items from {items.min()} to {items.max()}; there are {self.num_items}")
        if self.is_whole:
            return np.ones(len(items), dtype=np.bool_)
        place = np.searchsorted(self.items, items)  # (n,)
        found: BoolArray = np.append(self.items, ABSENT)[place] == items  # (n,)
        return found

    def take(self, items: IntArray) -> Packed:
        """Items (n,), all made -> (n, V * D / 8), a copy."""
        rows = items if self.is_whole else np.searchsorted(self.items, items)  # (n,)
        return np.asarray(self.codes)[rows]

    def add(self, items: IntArray, codes: Packed) -> None:
        """Items (n,) that are not made yet, and their codes (n, V * D / 8)."""
        joined = np.concatenate([self.items, items])  # (m + n,)
        order = np.argsort(joined, kind="stable")
        self.items = joined[order]
        self.codes = codes if not len(self.codes) else np.concatenate([self.codes, codes])[order]
        self.is_mapped = False


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
