"""Seeded draws of what a source lacks: splits, and (through `negatives` and `fitb`) fixed negatives and questions.

Negatives and questions are drawn once, at import, and stored: every method then answers the same ones. Everything is
drawn from the split's own items (decision D9), never a like that the user is known to have. Paper section 3.1.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from panfit.data.fitb import draw_fitb
from panfit.data.known import KnownOutfits
from panfit.data.negatives import NothingToDrawError, draw_negatives
from panfit.errors import DataError
from panfit.outfits import ABSENT, KINDS, SPLITS, Dataset, IntArray, Outfits, Slot, Split

__all__ = ["draw_splits", "draw_item_splits", "draw_negatives", "draw_fitb", "complete", "known_outfits"]

NEGATIVES_PER_LIKE = 10
"""Fixed negatives of each kind for each val and test like, as Polyvore-U ships them."""
DRAWN_SPLITS: tuple[Split, ...] = ("val", "test")
"""The splits that are evaluated, and so need negatives and questions; train draws its own anew each epoch."""

_log = logging.getLogger("panfit")


# ---- splits


def draw_splits(users: IntArray, *, rng: np.random.Generator, val: float = 0.1, test: float = 0.2) -> IntArray:
    """Shares of each user's likes -> (B,) index into SPLITS.

    A user's first like goes to train, the second to test, the third to val; with more, the shares decide (rounded, at
    least one each), so that everybody who is evaluated is also trained on.

    Args:
        users: (B,) user row of each like.
        rng: the only source of randomness.
        val: share of a user's likes for val, 0..1.
        test: share for test, 0..1; ``val + test`` below 1.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise ValueError(f"val {val} and test {test} must be shares that leave some for train")
    splits = np.zeros(len(users), dtype=np.int64)  # (B,) train
    order = rng.permutation(len(users))
    order = order[np.argsort(users[order], kind="stable")]  # each user's likes together, in random order
    starts = np.flatnonzero(np.diff(users[order]))
    for mine in np.split(order, starts + 1):  # the places of one user's likes
        count = len(mine)
        num_test = max(round(test * count), 1) if test and count >= 2 else 0
        num_val = max(round(val * count), 1) if val and count >= 3 else 0
        num_test = min(num_test, max(count - num_val - 1, 0))
        splits[mine[:num_test]] = SPLITS.index("test")
        splits[mine[num_test : num_test + num_val]] = SPLITS.index("val")
    return splits


def draw_item_splits(
    items: IntArray, num_items: int, *, rng: np.random.Generator, val: float = 0.2, test: float = 0.25, rounds: int = 8
) -> IntArray:
    """Partition the items, and keep an outfit in the split that holds all of its items -> (B,) index into SPLITS or -1.

    A blind partition would keep only val^S of the outfits for val. So the random start is improved: item by item, each
    moves to the split that most of its outfits' other items are in, as long as no split outgrows its share.

    Args:
        items: (B, S) item rows, ABSENT where a slot is empty.
        num_items: N, rows of the catalogue.
        rng: the only source of randomness.
        val: share of the worn items for val, 0..1.
        test: share of the worn items for test, 0..1.
        rounds: passes of improvement; 0 keeps the blind partition.
    """
    if min(val, test) <= 0 or val + test >= 1:
        raise ValueError(f"val {val} and test {test} must be shares that leave some for train")
    worn = np.unique(items[items != ABSENT])
    shares = np.array([1 - val - test, val, test])
    capacity = np.ceil(shares * len(worn) * 1.05).astype(np.int64)  # (3,) a little room to move in
    place = np.full(num_items + 1, -1, dtype=np.int64)  # (N + 1,) split of each item; the last: ABSENT
    place[rng.permutation(worn)] = np.searchsorted(np.cumsum(shares) * len(worn), np.arange(len(worn)), side="right")
    sizes = np.bincount(place[worn], minlength=3)  # (3,)
    flat = items.ravel()
    order = np.argsort(flat, kind="stable")
    first = np.searchsorted(flat[order], np.arange(num_items + 1))
    for _ in range(rounds):
        moved = 0
        for item in rng.permutation(worn):
            outfits = order[first[item] : first[item + 1]] // items.shape[1]  # outfits that wear it
            others = items[outfits]  # (b, S)
            near = place[others[(others != item) & (others != ABSENT)]]
            votes = np.bincount(near, minlength=3) / shares  # rare splits count more, or all would join train
            old = int(place[item])
            best = max(range(3), key=lambda split: (votes[split], split == old))
            if best != old and sizes[best] < capacity[best] and sizes[old] > 1:
                place[item] = best
                sizes[old] -= 1
                sizes[best] += 1
                moved += 1
        if not moved:
            break
    splits = place[items]  # (B, S), -1 where absent
    mask = items != ABSENT
    low = np.where(mask, splits, len(SPLITS)).min(axis=1)
    high = np.where(mask, splits, -1).max(axis=1)
    return np.where(low == high, low, -1)


# ---- what a data set lacks


@dataclass(frozen=True)
class _Streams:
    """Independent generators by purpose: what one part draws does not depend on which others the source brought."""

    seed: int

    def of(self, split: Split, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS.index(split), purpose])


def complete(dataset: Dataset, *, seed: int) -> Dataset:
    """Draw the val and test negatives (10 random, 10 hard for each like) and FITB questions that are missing.

    What the data set brings stays as it is. The same seed gives the same draws. Where a kind cannot exist (hard
    negatives of a single user, questions of tiny pools) it stays missing, with a warning.

    Raises:
        DataError: a user likes every outfit that the split's items can make.
    """
    streams = _Streams(seed)
    negatives = dict(dataset.negatives)
    fitb = dict(dataset.fitb)
    known = known_outfits(dataset)
    for split in DRAWN_SPLITS:
        likes = dataset.likes.get(split)
        if likes is None or not len(likes):
            continue
        pools = dataset.split_items(split)
        for purpose, kind in enumerate(KINDS):
            if (split, kind) not in negatives:
                rng = streams.of(split, purpose)
                try:
                    negatives[split, kind] = draw_negatives(
                        likes, pools, kind=kind, per_like=NEGATIVES_PER_LIKE, known=known, rng=rng
                    )
                except NothingToDrawError as error:
                    user = dataset.user_ids[error.user]
                    if kind == "random":
                        raise DataError(
                            f"user {user!r} likes every outfit that the items of the {split} split can make, so no "
                            f"negative can be drawn; the split needs more items, or the user's {split} likes must go"
                        ) from None
                    _log.warning("no hard negatives for %s: nobody else likes what user %r does not", split, user)
        if split not in fitb:
            questions = draw_fitb(likes, pools, known=known, rng=streams.of(split, len(KINDS)))
            if len(questions) < len(likes):
                _log.warning(
                    "%d of %d %s likes got no question: too few items", len(likes) - len(questions), len(likes), split
                )
            if len(questions):
                fitb[split] = questions
    return replace(dataset, negatives=negatives, fitb=fitb)


def known_outfits(dataset: Dataset) -> KnownOutfits:
    """Every like of every split, and with it the same outfit with the items of one category in another order."""
    likes = [dataset.likes[split] for split in SPLITS if split in dataset.likes]
    orders = _slot_orders(dataset.slots)
    return KnownOutfits([Outfits(part.users, part.items[:, list(order)]) for order in orders for part in likes])


def _slot_orders(slots: Sequence[Slot]) -> list[tuple[int, ...]]:
    """The orders of the slots that only exchange slots of one category; the first is the given one."""
    return [
        order
        for order in permutations(range(len(slots)))
        if all(slots[to].category == slot.category for to, slot in zip(order, slots, strict=True))
    ]
