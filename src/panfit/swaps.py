"""SWAPS: for each worn item, the one that would serve its wearer best in its place. Never imports train."""

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from torch import Tensor

from panfit.answers import Search
from panfit.choices import choices_of
from panfit.complete import Completer, Unfinished
from panfit.errors import DataError
from panfit.outfits import ABSENT, BoolArray, Dataset, IntArray


def swap_choices(
    dataset: Dataset, worn: IntArray, *, offered: BoolArray, among: IntArray | None = None
) -> dict[int, IntArray]:
    """What may replace each worn item: the other items of its category.

    Args:
        dataset: whose items.
        worn: (S,) item rows, ABSENT where nothing is worn.
        offered: (N,) False for items that were withdrawn.
        among: item rows to choose from; None: all.

    Returns:
        Slot -> item rows (n,), rising; only the slots whose item something may replace.
    """
    nothing = np.zeros(0, dtype=np.int64)
    found: dict[int, IntArray] = {}
    for slot in np.flatnonzero(worn != ABSENT).tolist():
        with suppress(DataError):  # nothing to choose from: this item stays
            found |= choices_of(dataset, worn, [slot], offered=offered, among=among, exclude=nothing)
    return found


def swapped(
    completer: Completer,
    viewer: Tensor,
    worn: IntArray,
    choices: Mapping[int, IntArray],
    *,
    search: Search = "exact",
) -> IntArray:
    """The best outfit after a swap in each slot: a search for each, all at once.

    Args:
        completer: of the model and its items.
        viewer: embedding (D,).
        worn: (S,) item rows.
        choices: slot -> what may replace its item (`swap_choices`).
        search: see `Completer.fill`; "exact" misses nothing.

    Returns:
        (k, S) item rows, one outfit for each slot of ``choices``; each differs from ``worn`` in that slot alone.
    """
    asked = []
    for slot, rows in choices.items():
        others = np.where(np.arange(len(worn)) == slot, ABSENT, worn)  # (S,)
        asked.append(Unfinished(viewer, others, {slot: rows}, top=1, width=1, search=search))
    best = [found.outfits[0] for found in completer.finish(asked)]  # (S,) each
    return np.array(best, dtype=np.int64).reshape(len(best), len(worn))
