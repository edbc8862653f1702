"""RATES: how often one client may ask: a token bucket for each of the clients who asked lately."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CLIENTS = 20_000
"""That are remembered, some 4 MB; whoever has not asked for longest is forgotten, and his bucket is full again."""


class Rates:
    """Buckets that hold ``burst`` requests and are filled up steadily.

    Args:
        per_minute: how fast a bucket fills.
        burst: what it holds, and at first has.
        max_clients: buckets that are kept.
        now: seconds that never go back; a test brings its own.
    """

    def __init__(
        self,
        per_minute: float,
        burst: float,
        *,
        max_clients: int = MAX_CLIENTS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second, self._burst = per_minute / 60, float(burst)
        self._max_clients, self._now = max_clients, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (what is in it, since when)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str, cost: float = 1.0) -> float:
        """Take a request's cost out of a client's bucket.

        Returns:
            0 if there was enough; else nothing is taken, and in so many seconds there will be.
        """
        held = self._fill(client)
        enough = held >= min(cost, self._burst)
        if enough:
            held -= min(cost, self._burst)
        self._put(client, held)
        return 0.0 if enough else (min(cost, self._burst) - held) / self._per_second

    def punish(self, client: str, cost: float) -> None:
        """Take so much, into debt if need be: for what nobody does often who means well.

        The debt is what makes it last: a bucket that were merely emptied would hold the next try a moment later.
        """
        self._put(client, self._fill(client) - cost)

    def _fill(self, client: str) -> float:
        now = self._now()
        held, since = self._buckets.pop(client, (self._burst, now))
        return min(self._burst, held + max(0.0, now - since) * self._per_second)

    def _put(self, client: str, held: float) -> None:
        self._buckets[client] = held, self._now()
        while len(self._buckets) > self._max_clients:
            self._buckets.popitem(last=False)


def retry_after(seconds: float) -> str:
    """Retry-After's value: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))
