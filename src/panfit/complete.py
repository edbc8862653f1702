"""COMPLETE: a viewer, given items, candidates -> the best finished outfits, through the viewer's code table.

Never imports train.
"""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from panfit.codes import CachedScores, CodeTables, key_of
from panfit.compose import Canvas, Pool, best_outfits, diverse_outfits
from panfit.encode import FloatArray, evaluating
from panfit.outfits import ABSENT, IntArray
from panfit.search import CodeIndex

WHOLE_SHARE = 0.25
"""From this share of a category on, its whole index is made and kept; below, one of the candidates alone."""
KEPT_INDEXES = 16
"""Indexes of whole categories that are kept: a person completes more than one outfit."""


class Completer:
    """Fills open slots for any viewer.

    Args:
        tables: the viewers' codes.
    """

    def __init__(self, tables: CodeTables) -> None:
        self.tables = tables
        self._category_rows = tables.coder.inputs.categories.cpu().numpy()  # (N,)
        self._scores = CachedScores(tables)
        self._indexes: OrderedDict[tuple[bytes, int], CodeIndex] = OrderedDict()

    def fill(
        self,
        viewer: Tensor,
        worn: IntArray,
        choices: Mapping[int, IntArray],
        *,
        top: int,
        repeat: int | None,
        width: int,
    ) -> tuple[IntArray, FloatArray]:
        """The best outfits around ``worn``.

        Args:
            viewer: embedding (D,).
            worn: (S,) item rows, ABSENT where nothing is given.
            choices: open slot -> its candidates, item rows (n,) of one category, rising.
            top, repeat, width: see `panfit.compose`; repeat None: no limit.

        Returns:
            (k, S) item rows and (k,) scores y of Eq. 4, falling.
        """
        with evaluating(self.tables.coder.model):
            return self._fill(viewer, worn, choices, top, repeat, width)

    def _fill(
        self, viewer: Tensor, worn: IntArray, choices: Mapping[int, IntArray], top: int, repeat: int | None, width: int
    ) -> tuple[IntArray, FloatArray]:
        coder = self.tables.coder
        given = np.where(worn == ABSENT, 0, worn)  # (S,) anything where nothing is given
        canvas = Canvas(
            predictor=coder.model.predictor,
            viewer_code=coder.viewer_codes(viewer[None], binary=True)[0],  # (D,)
            given=worn,
            given_codes=self.tables.codes(viewer, given),  # (S, V, D)
        )
        pools = {slot: self._pool(viewer, rows) for slot, rows in choices.items()}
        if repeat is None:
            outfits, _ = best_outfits(canvas, pools, top=top, width=width)
        else:
            outfits, _ = diverse_outfits(canvas, pools, top=top, repeat=repeat, width=width)
        scores = self._scores(viewer, outfits, binary=True)  # (k,) what `score` says, to the last bit
        order = np.argsort(-scores, kind="stable")
        return outfits[order], scores[order]

    def nearest(self, viewer: Tensor, item: int, rows: IntArray, top: int) -> tuple[IntArray, FloatArray]:
        """Which of the items in ``rows`` (n,), of one category and rising, have codes like an item's to this viewer.

        Returns:
            (k,) item rows and (k,) shares of equal bits, falling.
        """
        if not len(rows):
            return rows, np.zeros(0)
        code = self.tables.codes(viewer, np.array([item])).flatten(1).cpu().numpy()  # (1, V * D)
        pool = self._pool(viewer, rows)
        found = pool.index.search(code, top, allowed=pool.allowed)
        return pool.items[found.rows[0]], (1 + found.scores[0] / code.shape[1]) / 2

    def _pool(self, viewer: Tensor, rows: IntArray) -> Pool:
        """The candidates (n,) with their codes; of much of a category, as a part of the kept whole."""
        category = int(self._category_rows[rows[0]])
        whole = np.flatnonzero(self._category_rows == category)  # (m,)
        if len(rows) < WHOLE_SHARE * len(whole):
            packed = self.tables.packed(viewer, rows)  # (n, V * D / 8)
            return Pool(rows, packed, CodeIndex(packed), np.ones(len(rows), dtype=np.bool_))
        packed = self.tables.packed(viewer, whole)  # (m, V * D / 8)
        key = key_of(viewer), category
        index = self._indexes.pop(key, None) or CodeIndex(packed)
        self._indexes[key] = index
        while len(self._indexes) > KEPT_INDEXES:
            self._indexes.popitem(last=False)
        allowed = np.zeros(len(whole), dtype=np.bool_)  # (m,)
        allowed[np.searchsorted(whole, rows)] = True
        return Pool(whole, packed, index, allowed)
