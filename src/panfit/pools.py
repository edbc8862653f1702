"""POOLS: a viewer and candidates -> what is searched; whole categories' indexes are kept. Never imports train."""

from collections import OrderedDict

import numpy as np
from torch import Tensor

from panfit.codes import CodeTables, key_of
from panfit.compose import Pool
from panfit.features.inputs import ItemInputs
from panfit.outfits import IntArray
from panfit.search import CodeIndex

WHOLE_SHARE = 0.25
"""From this share of a category on, its whole index is made and kept; below, one of the candidates alone."""
PATIENCE = 20_000
"""Candidates that are encoded without asking for a shortlist: some seconds on a CPU, for the largest maps."""
INDEX_BYTES = 128 << 20
"""Of indexes of whole categories that are kept: a person completes more than one outfit. The last one always is."""
MOST_INDEXES = 512
"""Each may hold its viewer's table mapped, and a system has only so many maps."""


class Pools:
    """Makes pools of candidates for any viewer.

    Args:
        tables: the viewers' codes.
        index_bytes: bound on what kept indexes hold beside the tables.

    Attributes:
        num_bytes: what they hold.
    """

    def __init__(self, tables: CodeTables, *, index_bytes: int = INDEX_BYTES) -> None:
        self._tables = tables
        self._index_bytes = index_bytes
        self._indexes: OrderedDict[tuple[bytes, int, int], CodeIndex] = OrderedDict()
        self.num_bytes = 0
        self._shelves: _Shelves | None = None

    def pool(self, viewer: Tensor, rows: IntArray, *, alone: bool = False) -> Pool:
        """The candidates (n,), of one category and rising, with their codes as an embedding (D,) sees them.

        Of much of a category they are a part of the kept whole, unless they shall stand ``alone``.
        """
        shelves = self._of_catalogue()
        category = int(shelves.categories[rows[0]])
        shelf = shelves.shelf(category)  # (m,)
        if alone or len(rows) < WHOLE_SHARE * len(shelf):
            return Pool(rows, CodeIndex(self._tables.packed(viewer, rows)), np.ones(len(rows), dtype=np.bool_))
        allowed = np.zeros(len(shelf), dtype=np.bool_)  # (m,)
        allowed[shelves.places[rows]] = True
        return Pool(shelf, self._index(viewer, category, shelf), allowed)

    def _index(self, viewer: Tensor, category: int, shelf: IntArray) -> CodeIndex:
        """Of a whole category, items (m,)."""
        key = key_of(viewer), category, len(shelf)  # new items make a new index
        index = self._indexes.get(key)
        if index is None:
            if self._tables.are_kept and len(self._tables.coder.inputs) <= PATIENCE:
                self._tables.table(viewer)  # a whole table is written to disk, and the next process has it at once
            whole = self._tables.whole(viewer)  # (N, V * D / 8)
            index = CodeIndex(self._tables.packed(viewer, shelf)) if whole is None else CodeIndex(whole, shelf)
            self._indexes[key] = index
            self.num_bytes += index.num_bytes
            self._evict()
        self._indexes.move_to_end(key)
        return index

    def _evict(self) -> None:
        while len(self._indexes) > 1 and (self.num_bytes > self._index_bytes or len(self._indexes) > MOST_INDEXES):
            self.num_bytes -= self._indexes.popitem(last=False)[1].num_bytes

    def _of_catalogue(self) -> "_Shelves":
        inputs = self._tables.coder.inputs
        if self._shelves is None or self._shelves.inputs is not inputs:  # at first, and after items were added
            self._shelves = _Shelves(inputs)
        return self._shelves


class _Shelves:
    """Which items are of which category.

    Attributes:
        inputs: the N items.
        categories: (N,) of each.
        places: (N,) of each, among those of its category.
    """

    def __init__(self, inputs: ItemInputs) -> None:
        self.inputs = inputs
        self.categories = inputs.categories.cpu().numpy()
        self.places = np.zeros(len(self.categories), dtype=np.int64)
        self._shelves = {int(each): np.flatnonzero(self.categories == each) for each in np.unique(self.categories)}
        for shelf in self._shelves.values():
            self.places[shelf] = np.arange(len(shelf))

    def shelf(self, category: int) -> IntArray:
        """(m,) the items of a category, rising."""
        return self._shelves[category]
