"""Which (user, outfit) pairs are among given likes, for whole columns at once; and which rows say the same.

Rows are found by 64-bit hashes and then compared, so that the answers are exact. Imports numpy and the nouns only.
"""

from collections.abc import Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from panfit.outfits import BoolArray, IntArray, Outfits

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class KnownOutfits:
    """Likes that can be asked for by the million. Two tops in the other order are another outfit here.

    Args:
        parts: the likes; one that comes several times counts once.
    """

    def __init__(self, parts: Sequence[Outfits]) -> None:
        if not parts:
            raise ValueError("no likes, not even empty ones")
        rows = rows_of(parts)  # (L, 1 + S)
        for salt in count():
            keys = _keys(rows, salt)  # (L,)
            order = np.argsort(keys, kind="stable")  # (L,)
            keys, ordered = keys[order], rows[order]
            is_same_key = keys[1:] == keys[:-1]  # (L - 1,)
            if np.array_equal(ordered[1:][is_same_key], ordered[:-1][is_same_key]):
                break  # else two likes share a hash: another salt parts them
        self._salt, self._keys, self._rows = salt, keys, ordered

    def contains(self, users: IntArray, items: IntArray) -> BoolArray:
        """(B,) users and (B, S) items -> (B,) True where just that is among the likes."""
        if not len(self._keys) or not len(users):
            return np.zeros(len(users), dtype=np.bool_)
        rows = np.column_stack([users, items])  # (B, 1 + S)
        keys = _keys(rows, self._salt)  # (B,)
        order = np.argsort(keys)  # (B,) neighbors are then found near one another: many times faster
        place = np.empty(len(keys), dtype=np.int64)  # (B,)
        place[order] = np.searchsorted(self._keys, keys[order])
        place[place == len(self._keys)] = 0
        found: BoolArray = self._keys[place] == keys
        likely = np.flatnonzero(found)
        found[likely] = (self._rows[place[likely]] == rows[likely]).all(axis=1)
        return found


def rows_of(parts: Sequence[Outfits]) -> IntArray:
    """(L, 1 + S): user and items of every outfit, part after part."""
    return np.concatenate([np.column_stack([part.users, part.items]) for part in parts])


def first_places(rows: IntArray) -> IntArray:
    """(B, C) -> (B,) where a row that says the same stands first; its own place, if nowhere before."""
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort(rows.T)  # (B,) stable: of those that say the same, the first stands first
    is_other = np.ones(len(rows), dtype=np.bool_)  # (B,) True where another row begins
    is_other[1:] = (rows[order[1:]] != rows[order[:-1]]).any(axis=1)
    first = np.empty(len(rows), dtype=np.int64)
    first[order] = order[is_other][np.cumsum(is_other) - 1]
    return first


def _keys(rows: IntArray, salt: int) -> NDArray[np.uint64]:
    """(B, C) -> (B,) hashes; other ones for another salt."""
    keys = np.full(len(rows), salt, dtype=np.uint64)  # (B,)
    for column in rows.T:
        keys = (keys ^ (keys >> np.uint64(29))) * _FACTOR
        keys += column.astype(np.uint64)  # ABSENT wraps round, and stays itself
    return keys
