"""KEPT: what was dear to compute, within a bound on its bytes; what was not asked for the longest leaves first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from panfit.answers import Ranking
from panfit.explain import Explanation
from panfit.serve.queries import Ranked

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

OBJECT_BYTES = 96
"""About what a small Python object takes, with its place in a list."""


class Kept(Generic[Key, Value]):
    """A mapping that forgets. Any thread may use it.

    Args:
        max_bytes: of all values together; 0: nothing is kept.
        size: of a value, in bytes.
    """

    def __init__(self, max_bytes: int, size: Callable[[Value], int]) -> None:
        self._max_bytes, self._size = max_bytes, size
        self._held: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def num_bytes(self) -> int:
        """Of all values that are held."""
        return self._num_bytes

    def get(self, key: Key) -> Value | None:
        """The value, now the last one that was asked for; None where it is not held."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Value) -> None:
        """Hold a value; one that is larger than the bound is not held, and drives nothing out."""
        size = self._size(value)
        if size > self._max_bytes:
            return
        with self._lock:
            _, old = self._held.pop(key, (None, 0))
            self._held[key] = value, size
            self._num_bytes += size - old
            while self._num_bytes > self._max_bytes:
                _, (_, left) = self._held.popitem(last=False)
                self._num_bytes -= left

    def drop(self, is_meant: Callable[[Key], bool]) -> None:
        """Forget the values of some keys."""
        with self._lock:
            for key in [key for key in self._held if is_meant(key)]:
                self._num_bytes -= self._held.pop(key)[1]


def ranking_bytes(ranking: Ranking) -> int:
    """What a user's ranking takes."""
    return ranking.nbytes + OBJECT_BYTES


def answer_bytes(answer: Any) -> int:
    """About what an answer takes: of `Ranked`, `Explanation`, `Alike`. The ids themselves are the catalogue's."""
    if isinstance(answer, Ranked):
        return sum(OBJECT_BYTES + 8 * len(outfit) for outfit in answer.outfits) + 24 * len(answer.scores) + OBJECT_BYTES
    if isinstance(answer, Explanation):
        maps = (answer.channel_maps, answer.spatial_maps, answer.relative_maps)
        own = sum(each.nbytes + OBJECT_BYTES for kind in maps for each in kind.values()) + 10 * OBJECT_BYTES
        return own + (0 if answer.against is None else answer_bytes(answer.against))
    ids, shares = answer
    return 8 * len(ids) + int(shares.nbytes) + OBJECT_BYTES
