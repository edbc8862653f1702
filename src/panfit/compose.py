"""COMPOSE: open slots and their candidates -> whole outfits, best first.

Slot after slot is filled for the best partial outfits (a beam). Each step is `Predictor.completion_query` (PAN Eq. 4,
linear in the open slot's code) and a search among the candidates' codes. With one open slot, or a beam as wide as there
are outfits, the result is exact. Never imports train.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from panfit.encode import FloatArray
from panfit.model.hashing import unpack_codes
from panfit.model.predictor import Predictor
from panfit.outfits import ABSENT, BoolArray, IntArray
from panfit.search import CodeIndex

WIDTH = 128
"""Partial outfits that are kept at each step, if nothing else is asked for."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The candidates of one slot.

    Attributes:
        items: (n,) item rows, rising.
        index: searches their codes as the wearer sees them.
        allowed: (n,) False for those that must not be chosen.
    """

    items: IntArray
    index: CodeIndex
    allowed: BoolArray

    def without(self, items: IntArray) -> "Pool":
        """The same pool, less some items (m,)."""
        return replace(self, allowed=self.allowed & ~np.isin(self.items, items))


@dataclass(frozen=True, eq=False)
class Canvas:
    """What is fixed: who wears it, and the given items.

    Attributes:
        predictor: of the model.
        viewer_code: (D,) the wearer's binary code.
        given: (S,) item rows, ABSENT where nothing is given.
        given_codes: (S, V, D) their codes as the wearer sees them; what stands in the other slots is ignored.
    """

    predictor: Predictor
    viewer_code: Tensor
    given: IntArray
    given_codes: Tensor

    def query(self, slot: int, open_slots: Collection[int]) -> FloatArray:
        """(V * D,) what one of the open slots is searched with while the others are empty (PAN Eq. 4)."""
        _, mask, codes = self.start(open_slots)
        query, _ = self.predictor.completion_query(self.viewer_code[None], codes, mask[None], slot)  # (1, V, D)
        return query.flatten().double().cpu().numpy()

    def start(self, open_slots: Collection[int]) -> tuple[IntArray, Tensor, Tensor]:
        """Items (1, S), mask (S,) of the finished outfit, and codes (1, S, V, D), zeros where nothing is given yet."""
        device = self.viewer_code.device
        is_given = self.given != ABSENT  # (S,)
        mask = is_given | np.isin(np.arange(len(self.given)), list(open_slots))  # (S,)
        codes = self.given_codes.masked_fill(torch.from_numpy(~is_given).to(device)[:, None, None], 0)  # (S, V, D)
        return self.given[None], torch.from_numpy(mask).to(device), codes[None]


def best_outfits(
    canvas: Canvas, pools: Mapping[int, Pool], *, top: int, width: int = WIDTH
) -> tuple[IntArray, FloatArray]:
    """The best outfits that fill every slot of ``pools``; two slots of one category never wear the same item.

    Args:
        canvas: wearer and given items.
        pools: open slot -> its candidates; slots that share a category share their candidates' rows.
        top: how many; fewer come back where there are fewer.
        width: of the beam.

    Returns:
        (k, S) item rows and (k,) scores y of Eq. 4, falling; ties by the item rows. Swapping the items of two slots
        of one category makes no new outfit.
    """
    device, num_slots = canvas.viewer_code.device, len(canvas.given)
    outfits, mask, codes = canvas.start(pools)  # (W, S), (S,), (W, S, V, D)
    scores = np.zeros(1)  # (W,)
    order = sorted(pools)
    for slot in order:
        is_last = slot == order[-1]
        keep = top if is_last else width
        viewers = canvas.viewer_code.expand(len(outfits), -1)  # (W, D)
        if not len(outfits):
            break
        # Slots still open hold codes of zeros but count as filled: a partial score under the final norms of Eq. 4.
        query, offset = canvas.predictor.completion_query(viewers, codes, mask.expand(len(outfits), -1), slot)
        pool = pools[slot]
        wanted = keep + num_slots - 1  # some may be worn already
        found = pool.index.search(query.flatten(1).cpu().numpy(), wanted, allowed=pool.allowed)
        parents = np.repeat(np.arange(len(outfits)), found.rows.shape[1])  # (W * k,)
        items = pool.items[found.rows.ravel()]  # (W * k,)
        scores = (offset.double().cpu().numpy()[:, None] + found.scores).ravel()  # (W * k,)
        is_new = ~(outfits[parents] == items[:, None]).any(axis=1)  # (W * k,)
        parents, items, places, scores = parents[is_new], items[is_new], found.rows.ravel()[is_new], scores[is_new]
        grown = outfits[parents]  # (c, S)
        grown[:, slot] = items
        best = _best_distinct(grown, scores, keep)  # (W,)
        outfits, scores = grown[best], scores[best]
        if is_last:
            break
        chosen = unpack_codes(torch.from_numpy(pool.index.codes(places[best]))).to(device)  # (W, V * D)
        codes = codes[torch.from_numpy(parents[best]).to(device)]  # (W, S, V, D), a copy
        codes[:, slot] = chosen.unflatten(1, codes.shape[2:])
    return outfits[:top], scores[:top]


def diverse_outfits(
    canvas: Canvas, pools: Mapping[int, Pool], *, top: int, repeat: int, width: int = WIDTH
) -> tuple[IntArray, FloatArray]:
    """`best_outfits` in which no item is chosen more than ``repeat`` times, so that ten answers are not one shirt.

    The next outfit is always the best of those that wear no item used up. Where none is left before ``top`` are found,
    each item may be used once more. Given items do not count.
    """
    chosen: dict[tuple[int, ...], tuple[IntArray, float]] = {}
    used: Counter[int] = Counter()
    slots = sorted(pools)
    while len(chosen) < top:
        spent = np.array([item for item, times in used.items() if times >= repeat], dtype=np.int64)  # (m,)
        left = {slot: pool.without(spent) for slot, pool in pools.items()}
        before = len(chosen)
        if all(pool.allowed.any() for pool in left.values()):
            # Those chosen may stand before the others: ask for so many that new ones are among them.
            outfits, scores = best_outfits(canvas, left, top=max(width, top + len(chosen)), width=width)
            for outfit, score in zip(outfits, scores.tolist(), strict=True):
                items = outfit[slots].tolist()
                key = tuple(sorted(outfit.tolist()))
                if key in chosen or len(chosen) == top or any(used[item] >= repeat for item in items):
                    continue
                chosen[key] = outfit, score
                used.update(items)
        if len(chosen) == before:
            if not len(spent):
                break  # nothing was ruled out: there are no more
            repeat += 1
    found = sorted(chosen.values(), key=lambda each: (-each[1], each[0].tolist()))
    if not found:
        return np.zeros((0, len(canvas.given)), dtype=np.int64), np.zeros(0)
    return np.stack([outfit for outfit, _ in found]), np.array([score for _, score in found])


def _best_distinct(outfits: IntArray, scores: FloatArray, count: int) -> IntArray:
    """Rows of the best ``count`` distinct outfits of (c, S), best first; ties by the item rows."""
    order = np.lexsort((*outfits.T[::-1], -scores))  # (c,)
    _, first = np.unique(np.sort(outfits[order], axis=1), axis=0, return_index=True)
    return order[np.sort(first)[:count]]
