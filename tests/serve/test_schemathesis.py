"""schemathesis asks what the description allows and forbids: no 5xx, no undocumented status, no answer of another form.

`python -m benchmarks.fuzz_api` asks thousands of times, of a trained run.
"""

from pathlib import Path

from benchmarks.fuzz_api import fuzz
from tests.serve.shop_service import make_recommender

CASES = 5
"""Of each operation, valid ones and others."""


def test_the_service_does_as_it_says(tmp_path: Path) -> None:
    found = fuzz(make_recommender(tmp_path), tmp_path, cases=CASES, seed=7)
    assert not found.failures, "\n\n".join(found.failures[:5])
    assert found.cases > CASES * 3 * 18
    answered = {label for label, statuses in found.statuses.items() if {200, 201, 204} & statuses.keys()}
    assert answered == set(found.statuses)  # requests got through everywhere
