"""Fixed negatives: outfits that a user is not known to like, drawn once for every method to answer.

Random ones are recombined from the split's own items (decision D9), hard ones are likes of other users. Paper
section 3.1.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from panfit.data.known import KnownOutfits
from panfit.errors import DataError
from panfit.outfits import ABSENT, IntArray, Kind, Outfits

_ROUNDS = 30
"""How often a draw that hit a known like is repeated before the remaining choices are listed one by one."""


class NothingToDrawError(DataError):
    """A user for whom no negative exists: everything that could be drawn is a known like of his."""

    def __init__(self, user: int) -> None:
        self.user = user
        super().__init__(f"user row {user} is known to like every outfit that could be drawn as a negative")


def draw_negatives(
    likes: Outfits,
    pools: Sequence[IntArray],
    *,
    kind: Kind,
    per_like: int,
    known: KnownOutfits,
    rng: np.random.Generator,
) -> Outfits:
    """Fixed negatives of each like, (B * per_like) outfits, like-major.

    Args:
        likes: the split's B likes.
        pools: for each slot, the item rows to draw from (`Dataset.split_items`); used by kind "random".
        kind: random: each filled slot of the like gets any item of its pool; hard: a like of another user.
        per_like: negatives for each like.
        known: likes that must not be drawn.
        rng: the only source of randomness.

    Raises:
        NothingToDrawError: for a user who likes everything that could be drawn.
    """
    wanted = likes.take(np.repeat(np.arange(len(likes)), per_like))  # (B * per_like) whose negatives are drawn
    items = np.empty_like(wanted.items)
    open_rows = np.arange(len(wanted))
    for _ in range(_ROUNDS):
        if not len(open_rows):
            return Outfits(wanted.users, items)
        if kind == "random":
            drawn = _recombine(wanted.items[open_rows], pools, rng)
        else:
            drawn = likes.items[rng.integers(len(likes), size=len(open_rows))]
        items[open_rows] = drawn
        open_rows = open_rows[~allowed(wanted.users[open_rows], drawn, known)]
    for row in open_rows:  # tiny pools, or users who like nearly everything: list what is left
        rest = _remaining(wanted, int(row), likes, pools, kind=kind, known=known)
        items[row] = rest[int(rng.integers(len(rest)))]
    return Outfits(wanted.users, items)


def _recombine(items: IntArray, pools: Sequence[IntArray], rng: np.random.Generator) -> IntArray:
    """(B, S) -> (B, S): every filled slot gets an item of its pool; an empty slot stays empty."""
    columns = [
        np.where(items[:, slot] == ABSENT, ABSENT, pool[rng.integers(len(pool), size=len(items))])
        if len(pool)
        else np.full(len(items), ABSENT)
        for slot, pool in enumerate(pools)
    ]
    return np.column_stack(columns).astype(np.int64)


def allowed(users: IntArray, items: IntArray, known: KnownOutfits) -> NDArray[np.bool_]:
    """(B,) True where an outfit is no known like of its user and wears no item twice."""
    worn = np.sort(items, axis=1)
    again = (worn[:, 1:] == worn[:, :-1]) & (worn[:, 1:] != ABSENT)
    twice: NDArray[np.bool_] = np.asarray(again.any(axis=1), dtype=np.bool_)
    return ~(known.contains(users, items) | twice)


def _remaining(
    wanted: Outfits, row: int, likes: Outfits, pools: Sequence[IntArray], *, kind: Kind, known: KnownOutfits
) -> IntArray:
    """(R, S) every outfit that may still be drawn for one row. Raises NothingToDrawError when there is none."""
    user = int(wanted.users[row])
    if kind == "random":
        filled = wanted.mask[row]
        choices = [pool if fill else [ABSENT] for pool, fill in zip(pools, filled, strict=True)]
        outfits = np.array(list(product(*choices)), dtype=np.int64)  # (R, S)
    else:
        outfits = np.unique(likes.items, axis=0)
    rest = outfits[allowed(np.full(len(outfits), user), outfits, known)]
    if not len(rest):
        raise NothingToDrawError(user)
    return rest
