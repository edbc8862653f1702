"""Work made ready in threads: in order, a few ahead, errors where the result is asked for."""

import threading
from contextlib import closing

import pytest

from panfit.features.ahead import ahead, num_workers


def test_results_come_in_order_and_are_those_of_a_loop() -> None:
    made = [(each, ready.result()) for each, ready in ahead(lambda number: number**2, range(17), workers=3)]
    assert made == [(number, number**2) for number in range(17)]
    assert list(ahead(lambda number: number, [])) == []


def test_work_goes_on_while_the_consumer_is_busy() -> None:
    together = threading.Barrier(3, timeout=30)  # two makers and the consumer: a loop would wait here for ever
    results = ahead(lambda number: together.wait() and number, range(2), workers=2)
    _, first = next(results)
    together.wait()
    first.result()
    assert len(list(results)) == 1


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_no_more_than_a_few_are_ahead(workers: int) -> None:
    begun: list[int] = []
    with closing(ahead(begun.append, range(40), workers=workers)) as results:
        for number, ready in results:
            ready.result()
            assert len(begun) <= number + workers + 2
            if number == 20:
                break
    assert max(begun) <= 20 + workers + 2


def test_an_error_is_raised_where_its_result_is_asked_for() -> None:
    futures = [ready for _, ready in ahead(lambda number: 6 // number, [3, 0, 2], workers=2)]
    assert futures[0].result() == 2
    with pytest.raises(ZeroDivisionError):
        futures[1].result()
    assert futures[2].result() == 3


def test_there_is_a_processor() -> None:
    assert num_workers() >= 1
