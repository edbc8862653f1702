"""Eq. 5's triplets: which likes a step sees, and the outfits its users are not known to like (decision D9).

Everything here is numpy and a generator that is passed in; nothing is scored. Imports no model and no torch.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panfit.config import NegativesConfig
from panfit.outfits import ABSENT, IntArray, Outfits

MAX_DRAWS = 50
"""How often a negative that is a known like, or wears an item twice, is drawn anew before it is marked invalid."""

_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class KnownLikes:
    """Membership of (user, outfit) in a set of likes, for whole arrays at once.

    An outfit is a set of items: two tops in the other order are the same outfit. Likes are kept as sorted 64-bit
    hashes. Two different likes share a hash with a chance of about 2^-64 a pair; the only harm would be one negative
    too few.
    """

    def __init__(self, likes: Outfits) -> None:
        self._keys = np.unique(_keys(likes.users, likes.items))  # (L,)

    def contains(self, users: IntArray, items: IntArray) -> NDArray[np.bool_]:
        """(...) users and (..., S) items -> (...) True where the user is known to like just that outfit."""
        if not len(self._keys):
            return np.zeros(users.shape, dtype=np.bool_)
        keys = _keys(users, items)  # (...)
        place = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)  # (...)
        found: NDArray[np.bool_] = self._keys[place] == keys
        return found


def _keys(users: IntArray, items: IntArray) -> NDArray[np.uint64]:
    keys: NDArray[np.uint64] = users.astype(np.uint64)
    ordered = np.sort(items, axis=-1)  # (..., S)
    for place in range(items.shape[-1]):
        keys = (keys ^ (keys >> np.uint64(29))) * _HASH_FACTOR
        keys = keys + (ordered[..., place] - ABSENT).astype(np.uint64)
    return keys


def _wears_twice(items: IntArray) -> NDArray[np.bool_]:
    """(..., S) -> (...) True where an outfit has one item in two slots."""
    ordered = np.sort(items, axis=-1)  # (..., S)
    again = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] != ABSENT)  # (..., S - 1)
    return np.asarray(again.any(axis=-1))


def sample_negatives(
    likes: Outfits, pools: Sequence[IntArray], *, per_like: int, known: KnownLikes, rng: np.random.Generator
) -> tuple[IntArray, NDArray[np.bool_]]:
    """S1's random negatives: each filled slot of a like drawn anew, independently, from its pool.

    Args:
        likes: (B) liked outfits.
        pools: for each of the S slots, the item rows to draw from.
        per_like: K, negatives for each like.
        known: likes that must not come out.
        rng: the source of chance.

    Returns:
        items (B, K, S), empty slots as in the like; valid (B, K), False where only such came up that must not.
        PAN sec. 2.3; decisions D9, D14.
    """
    num_likes, num_slots = likes.items.shape
    users = np.repeat(likes.users[:, None], per_like, axis=1)  # (B, K)
    items = np.empty((num_likes, per_like, num_slots), dtype=np.int64)
    redraw = np.ones((num_likes, per_like), dtype=np.bool_)
    for _ in range(MAX_DRAWS):
        for slot, pool in enumerate(pools):
            filled = likes.mask[:, slot, None] & redraw  # (B, K)
            items[..., slot][redraw] = ABSENT
            if filled.any():
                items[..., slot][filled] = rng.choice(pool, size=int(filled.sum()))
        redraw = known.contains(users, items) | _wears_twice(items)  # (B, K)
        if not redraw.any():
            break
    return items, ~redraw


def batch_pools(likes: Outfits, slot_categories: Sequence[str]) -> tuple[IntArray, ...]:
    """For each slot, the items of its category that the batch wears: negatives from them encode no further photo."""
    pools: dict[str, IntArray] = {}
    for category in set(slot_categories):
        columns = [slot for slot, other in enumerate(slot_categories) if other == category]
        worn = np.unique(likes.items[:, columns])
        pools[category] = worn[worn != ABSENT]
    return tuple(pools[category] for category in slot_categories)


class RandomNegatives:
    """S1's random negatives for any method: the same pools, the same refusal of known likes (decision D9).

    Attributes:
        known: the train likes that never come out.
    """

    def __init__(
        self,
        train_likes: Outfits,
        split_pools: tuple[IntArray, ...],
        slot_categories: tuple[str, ...],
        *,
        config: NegativesConfig,
    ) -> None:
        self.known = KnownLikes(train_likes)
        self._split_pools, self._slot_categories, self._config = split_pools, slot_categories, config

    def draw(self, likes: Outfits, rng: np.random.Generator) -> tuple[IntArray, NDArray[np.bool_]]:
        """Items (B, K, S) and valid (B, K), as `sample_negatives` gives them."""
        from_batch = self._config.source == "batch"
        pools = batch_pools(likes, self._slot_categories) if from_batch else self._split_pools
        return sample_negatives(likes, pools, per_like=self._config.per_like, known=self.known, rng=rng)
