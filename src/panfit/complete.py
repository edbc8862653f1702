"""COMPLETE: viewers, given items, candidates -> the best finished outfits, through each viewer's code table.

Outfits of many viewers are finished together: what Eq. 4 has to say is computed for all of them at once; only the
searches go through one viewer's codes after another's. Never imports train.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from panfit.answers import Search
from panfit.codes import CodeTables
from panfit.compose import WIDTH, Canvas, Pool, best_outfits, diverse_outfits
from panfit.encode import FloatArray, evaluating
from panfit.model.hashing import unpack_codes
from panfit.outfits import ABSENT, IntArray
from panfit.pools import PATIENCE, Pools
from panfit.scoring import predict_parts
from panfit.search import search_each
from panfit.shortlist import LEAST, SHARE, Shortlister
from panfit.sweep import Packed

TOGETHER = 1024
"""Answers that a round is asked for at the most: their codes are unpacked at once, 12 MiB of three times 1024 bits."""

BLOCK_NUMBERS = 1 << 18
"""Numbers that Eq. 4 is given at a time: the memory of larger blocks is given back each time, and fetched anew."""


@dataclass(frozen=True, eq=False)
class Unfinished:
    """An outfit with open slots, and who is to wear it.

    Attributes:
        viewer: embedding (D,).
        worn: (S,) item rows, ABSENT where nothing is given.
        choices: open slot -> its candidates, item rows (n,) of one category, rising.
        top, repeat, width: see `panfit.compose`; repeat None: no limit.
        search: "exact": every candidate is encoded; "two-stage": a shortlist of them, of which the best are exact;
            "auto": two-stage where there are prototypes and very many candidates are still to be encoded.
    """

    viewer: Tensor
    worn: IntArray
    choices: Mapping[int, IntArray]
    top: int
    repeat: int | None = None
    width: int = WIDTH
    search: Search = "auto"


@dataclass(frozen=True, eq=False)
class Finished:
    """The best ways to finish an outfit.

    Attributes:
        outfits: (k, S) item rows.
        scores: (k,) y of Eq. 4, falling; what `Recommender.score` says, to the last bit.
        general, personal: (k,) what the scores are the sum of, to float32's precision.
    """

    outfits: IntArray
    scores: FloatArray
    general: FloatArray
    personal: FloatArray


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
        self._pools = Pools(tables)

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
        """`finish` of a single outfit: (k, S) item rows and (k,) scores y of Eq. 4, falling."""
        (found,) = self.finish([Unfinished(viewer, worn, choices, top, repeat, width, search)])
        return found.outfits, found.scores

    def finish(self, asked: Sequence[Unfinished]) -> list[Finished]:
        """The best outfits around each of those that are asked for: what it would get alone, to the last bit.

        Raises:
            ValueError: "two-stage" without prototypes.
        """
        with evaluating(self.tables.coder.model):
            return [found for together in self._rounds(asked) for found in self._finish(together)]

    def is_light(self, asked: Unfinished) -> bool:
        """Whether it is a matter of a millisecond: one slot is open, and all codes are there."""
        if len(asked.choices) > 1:
            return False
        if self.tables.whole(asked.viewer) is not None:
            return True
        rows = np.concatenate([asked.worn[asked.worn != ABSENT], *asked.choices.values()])
        return bool(self.tables.is_made(asked.viewer, rows).all())

    def _rounds(self, asked: Sequence[Unfinished]) -> Iterator[list[Unfinished]]:
        """Those that are finished together: as many as memory allows; one, where Eq. 4 is another in a batch."""
        most = TOGETHER if self.tables.coder.model.predictor.is_rowwise else 0
        together: list[Unfinished] = []
        for each in asked:
            if together and sum(other.top for other in together) + each.top > most:
                yield together
                together = []
            together.append(each)
        if together:
            yield together

    def _finish(self, asked: Sequence[Unfinished]) -> list[Finished]:
        coder = self.tables.coder
        viewer_codes = coder.viewer_codes(torch.stack([each.viewer for each in asked]), binary=True)  # (A, D)
        pools = [self._slot_pools(each, viewer_code) for each, viewer_code in zip(asked, viewer_codes, strict=True)]
        looks = [_Look(self.tables, each.viewer) for each in asked]
        given = [look.packed(_somewhere(each)) for look, each in zip(looks, asked, strict=True)]  # (S, V * D / 8) each
        given_codes = self._unpacked(np.stack(given), viewer_codes)  # (A, S, V, D) anything where nothing is given
        outfits: list[IntArray] = [each.worn[None] for each in asked]  # (k, S) each
        single = [place for place, each in enumerate(asked) if len(each.choices) == 1]
        for place, found in zip(single, self._searched(asked, viewer_codes, given_codes, pools, single), strict=True):
            outfits[place] = found
        for place, each in enumerate(asked):
            options = self._canvas(each, viewer_codes[place], given_codes[place]), pools[place]
            if len(each.choices) > 1 and each.repeat is None:
                outfits[place], _ = best_outfits(*options, top=each.top, width=each.width)
            elif len(each.choices) > 1 and each.repeat is not None:
                outfits[place], _ = diverse_outfits(*options, top=each.top, repeat=each.repeat, width=each.width)
        return self._scored(looks, viewer_codes, outfits)

    def _searched(
        self,
        asked: Sequence[Unfinished],
        viewer_codes: Tensor,
        given_codes: Tensor,
        pools: Sequence[Mapping[int, Pool]],
        places: Sequence[int],
    ) -> list[IntArray]:
        """Of those at some places, with one open slot each: the best outfits, (k, S) each. It is `best_outfits`.

        Every candidate makes another outfit, so none is repeated, and ties are the search's own: by the item rows.
        """
        if not places:
            return []
        slots = [next(iter(asked[place].choices)) for place in places]
        masks = torch.from_numpy(np.stack([asked[place].worn != ABSENT for place in places]))  # (a, S)
        queries, _ = self.tables.coder.model.predictor.completion_query(
            viewer_codes[list(places)],
            given_codes[list(places)],
            masks.to(viewer_codes.device),
            torch.tensor(slots, device=viewer_codes.device),
        )  # (a, V, D)
        own = [pools[place][slot] for place, slot in zip(places, slots, strict=True)]
        tops = [asked[place].top + len(asked[place].worn) - 1 for place in places]  # some may be worn already
        found = search_each(
            [pool.index for pool in own], queries.flatten(1).cpu().numpy(), tops, [pool.allowed for pool in own]
        )
        outfits = []
        for place, slot, pool, best in zip(places, slots, own, found, strict=True):
            items = pool.items[best.rows[0]]  # (k,)
            items = items[(items[:, None] != asked[place].worn).all(axis=1)][: asked[place].top]
            filled = np.repeat(asked[place].worn[None], len(items), axis=0)  # (k, S)
            filled[:, slot] = items
            outfits.append(filled)
        return outfits

    def _scored(self, looks: Sequence["_Look"], viewer_codes: Tensor, outfits: Sequence[IntArray]) -> list[Finished]:
        """Viewers' codes (A, D) and the outfits (k, S) found for each -> the same with their scores, sorted."""
        packed, slots, num_codes = [], [], 0
        for place, (look, rows) in enumerate(zip(looks, outfits, strict=True)):
            items = np.unique(rows[rows != ABSENT])  # (n,)
            packed.append(look.packed(items))
            places = np.where(rows == ABSENT, ABSENT, num_codes + np.searchsorted(items, rows))  # (k, S)
            slots.append(np.column_stack([np.full(len(rows), place), places]))  # (k, 1 + S)
            num_codes += len(items)
        codes = self._unpacked(np.concatenate(packed), viewer_codes)  # (P, V, D)
        table = np.concatenate(slots)  # (B, 1 + S)
        parts = predict_parts(self.tables.coder.model, viewer_codes, codes, table, block_numbers=BLOCK_NUMBERS)
        found, first = [], 0
        for rows in outfits:
            own = slice(first, first + len(rows))
            first += len(rows)
            order = np.argsort(-parts.score[own], kind="stable")
            kinds = (each[own][order] for each in (parts.score, parts.general, parts.personal))  # (k,) each
            found.append(Finished(rows[order], *kinds))
        return found

    @staticmethod
    def _unpacked(packed: Packed, viewer_codes: Tensor) -> Tensor:
        """Packed codes (..., V * D / 8) -> codes (..., V, D), beside the viewers' own (A, D)."""
        codes: Tensor = unpack_codes(torch.from_numpy(packed)).unflatten(-1, (-1, viewer_codes.shape[1]))
        return codes.to(viewer_codes.device)

    def _canvas(self, asked: Unfinished, viewer_code: Tensor, given_codes: Tensor) -> Canvas:
        return Canvas(self.tables.coder.model.predictor, viewer_code, asked.worn, given_codes)

    def _slot_pools(self, asked: Unfinished, viewer_code: Tensor) -> dict[int, Pool]:
        """What each open slot is filled from; the viewer's own code is (D,)."""
        narrowed = self._narrowed(asked, viewer_code)
        return {
            slot: self._pools.pool(asked.viewer, rows, alone=rows is not asked.choices[slot])
            for slot, rows in narrowed.items()
        }

    def _narrowed(self, asked: Unfinished, viewer_code: Tensor) -> Mapping[int, IntArray]:
        """The candidates, or of each slot a shortlist of so many that answers do not run out, where that is asked for
        or worth it."""
        choices = asked.choices
        if asked.search == "two-stage" and self.shortlister is None:
            raise ValueError('search="two-stage" needs prototypes: call prepare() first')
        if asked.search == "exact" or self.shortlister is None:
            return choices
        narrowed = {}
        for slot, rows in choices.items():
            missing = int(np.count_nonzero(~self.tables.is_made(asked.viewer, rows)))
            if asked.search == "auto" and missing <= PATIENCE:
                narrowed[slot] = rows
            else:
                size = max(LEAST, asked.top, asked.width, math.ceil(SHARE * len(rows)))
                given_codes = self.tables.codes(asked.viewer, _somewhere(asked))  # (S, V, D)
                query = self._canvas(asked, viewer_code, given_codes).query(slot, choices)  # (V * D,)
                narrowed[slot] = self.shortlister.shortlist(asked.viewer, query, rows, size)
        return narrowed

    def nearest(self, viewer: Tensor, item: int, rows: IntArray, top: int) -> tuple[IntArray, FloatArray]:
        """Which of the items in ``rows`` (n,), of one category and rising, have codes like an item's to this viewer.

        Returns:
            (k,) item rows and (k,) shares of equal bits, falling.
        """
        if not len(rows):
            return rows, np.zeros(0)
        code = self.tables.codes(viewer, np.array([item])).flatten(1).cpu().numpy()  # (1, V * D)
        pool = self._pools.pool(viewer, rows)
        found = pool.index.search(code, top, allowed=pool.allowed)
        return pool.items[found.rows[0]], (1 + found.scores[0] / code.shape[1]) / 2


def _somewhere(asked: Unfinished) -> IntArray:
    """(S,) the items that are worn, and anything else where nothing is."""
    worn = asked.worn[asked.worn != ABSENT]  # (w,)
    first = worn if len(worn) else next(iter(asked.choices.values()))
    return np.where(asked.worn == ABSENT, first[0], asked.worn)


class _Look:
    """One viewer's codes, for as long as no items join; a whole table is looked up once.

    Args:
        tables: his among them.
        viewer: embedding (D,).
    """

    def __init__(self, tables: CodeTables, viewer: Tensor) -> None:
        self._tables, self._viewer = tables, viewer
        self._whole = tables.whole(viewer)

    def packed(self, items: IntArray) -> Packed:
        """Packed codes (n, V * D / 8) of items (n,)."""
        return self._tables.packed(self._viewer, items) if self._whole is None else self._whole[items]
