"""COMPLETE: a viewer, given items, candidates -> the best finished outfits, through the viewer's code table.

Never imports train.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from panfit.answers import Search
from panfit.codes import CachedScores, CodeTables, key_of
from panfit.compose import Canvas, Pool, best_outfits, diverse_outfits
from panfit.encode import FloatArray, evaluating
from panfit.outfits import ABSENT, IntArray
from panfit.search import CodeIndex
from panfit.shortlist import LEAST, SHARE, Shortlister

WHOLE_SHARE = 0.25
"""From this share of a category on, its whole index is made and kept; below, one of the candidates alone."""
PATIENCE = 20_000
"""Candidates that are encoded without asking for a shortlist: some seconds on a CPU, for the largest maps."""
KEPT_INDEXES = 16
"""Indexes of whole categories that are kept: a person completes more than one outfit."""


class Completer:
    """Fills open slots for any viewer.

    Args:
        tables: the viewers' codes.

    Attributes:
        shortlister: names candidates worth encoding (`panfit.shortlist`); None until there are prototypes.
    """

    def __init__(self, tables: CodeTables) -> None:
        self.tables = tables
        self.shortlister: Shortlister | None = None
        self._scores = CachedScores(tables)
        self._indexes: OrderedDict[tuple[bytes, int, int], CodeIndex] = OrderedDict()

    def fill(
        self,
        viewer: Tensor,
        worn: IntArray,
        choices: Mapping[int, IntArray],
        *,
        top: int,
        repeat: int | None,
        width: int,
        search: Search = "auto",
    ) -> tuple[IntArray, FloatArray]:
        """The best outfits around ``worn``.

        Args:
            viewer: embedding (D,).
            worn: (S,) item rows, ABSENT where nothing is given.
            choices: open slot -> its candidates, item rows (n,) of one category, rising.
            top, repeat, width: see `panfit.compose`; repeat None: no limit.
            search: "exact": every candidate is encoded; "two-stage": a shortlist of them, of which the best are
                exact; "auto": two-stage where there are prototypes and very many candidates are still to be encoded.

        Returns:
            (k, S) item rows and (k,) scores y of Eq. 4, falling.

        Raises:
            ValueError: "two-stage" without prototypes.
        """
        with evaluating(self.tables.coder.model):
            return self._fill(viewer, worn, choices, top, repeat, width, search)

    def _fill(
        self,
        viewer: Tensor,
        worn: IntArray,
        choices: Mapping[int, IntArray],
        top: int,
        repeat: int | None,
        width: int,
        search: Search,
    ) -> tuple[IntArray, FloatArray]:
        coder = self.tables.coder
        given = np.where(worn == ABSENT, 0, worn)  # (S,) anything where nothing is given
        canvas = Canvas(
            predictor=coder.model.predictor,
            viewer_code=coder.viewer_codes(viewer[None], binary=True)[0],  # (D,)
            given=worn,
            given_codes=self.tables.codes(viewer, given),  # (S, V, D)
        )
        narrowed = self._narrowed(canvas, viewer, choices, max(top, width), search)
        pools = {slot: self._pool(viewer, rows, alone=rows is not choices[slot]) for slot, rows in narrowed.items()}
        if repeat is None:
            outfits, _ = best_outfits(canvas, pools, top=top, width=width)
        else:
            outfits, _ = diverse_outfits(canvas, pools, top=top, repeat=repeat, width=width)
        scores = self._scores(viewer, outfits, binary=True)  # (k,) what `score` says, to the last bit
        order = np.argsort(-scores, kind="stable")
        return outfits[order], scores[order]

    def _narrowed(
        self, canvas: Canvas, viewer: Tensor, choices: Mapping[int, IntArray], least: int, search: Search
    ) -> Mapping[int, IntArray]:
        """The candidates, or of each slot a shortlist of at least ``least``, where that is asked for or worth it."""
        if search == "two-stage" and self.shortlister is None:
            raise ValueError('search="two-stage" needs prototypes: call prepare() first')
        if search == "exact" or self.shortlister is None:
            return choices
        narrowed = {}
        for slot, rows in choices.items():
            missing = int(np.count_nonzero(~self.tables.is_made(viewer, rows)))
            if search == "auto" and missing <= PATIENCE:
                narrowed[slot] = rows
            else:
                size = max(LEAST, least, math.ceil(SHARE * len(rows)))
                narrowed[slot] = self.shortlister.shortlist(viewer, canvas.query(slot, choices), rows, size)
        return narrowed

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

    def _pool(self, viewer: Tensor, rows: IntArray, *, alone: bool = False) -> Pool:
        """The candidates (n,) with their codes; of much of a category, as a part of the kept whole unless ``alone``."""
        of_category = self.tables.coder.inputs.categories.cpu().numpy()  # (N,)
        category = int(of_category[rows[0]])
        whole = np.flatnonzero(of_category == category)  # (m,)
        if alone or len(rows) < WHOLE_SHARE * len(whole):
            packed = self.tables.packed(viewer, rows)  # (n, V * D / 8)
            return Pool(rows, packed, CodeIndex(packed), np.ones(len(rows), dtype=np.bool_))
        if self.tables.are_kept and len(of_category) <= PATIENCE:
            self.tables.table(viewer)  # a whole table is written to disk, and the next process has it at once
        packed = self.tables.packed(viewer, whole)  # (m, V * D / 8)
        key = key_of(viewer), category, len(whole)  # new items make a new index
        index = self._indexes.pop(key, None) or CodeIndex(packed)
        self._indexes[key] = index
        while len(self._indexes) > KEPT_INDEXES:
            self._indexes.popitem(last=False)
        allowed = np.zeros(len(whole), dtype=np.bool_)  # (m,)
        allowed[np.searchsorted(whole, rows)] = True
        return Pool(whole, packed, index, allowed)
