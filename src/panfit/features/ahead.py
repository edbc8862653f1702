"""Work that is made ready in threads while its consumer is busy: photos are decoded while the trunk runs.

Imports the standard library only.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def num_workers() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(
    make: Callable[[T], U], asked: Iterable[T], *, workers: int | None = None
) -> Generator[tuple[T, Future[U]], None, None]:
    """Each of ``asked``, in order, with the future of what ``make`` makes of it; made in threads, a few ahead.

    At most ``workers`` + 1 results wait at a time, whoever is slower: memory is bounded. When the consumer stops early,
    what has not been begun is dropped.

    Args:
        make: called in a thread; what it raises, the future's ``result()`` raises.
        asked: what it is called with.
        workers: threads; None: one a processor.
    """
    count = num_workers() if workers is None else workers
    remaining = iter(asked)
    pool = ThreadPoolExecutor(count, thread_name_prefix="ahead")
    waiting: deque[tuple[T, Future[U]]] = deque()
    try:
        waiting.extend((each, pool.submit(make, each)) for each in islice(remaining, count + 1))
        while waiting:
            yield waiting.popleft()
            waiting.extend((each, pool.submit(make, each)) for each in islice(remaining, 1))
    finally:
        pool.shutdown(cancel_futures=True)
