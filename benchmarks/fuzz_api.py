"""Thousands of requests, valid and not, of whatever the service's OpenAPI allows and forbids: does it do as it says?

    python -m benchmarks.fuzz_api RUN [--data DIR] [--cases 60] [--seed 1] [--codes DIR]

schemathesis draws the requests, in this process. What fails: an answer of 5xx (a documented 503 aside), a status
that is not documented, an answer of another form or media type than documented. Of three requests one is valid and
names real ids, one is valid, and one is not. The likes go into a database in a temporary folder; the run's folder is
not written to.
"""

import argparse
import contextlib
import copy
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import SkipTest

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.python.asgi import get_client, shutdown_lifespans
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import panfit
from panfit.recommend import Recommender
from panfit.serve.app import create_app
from panfit.serve.likes import LikesStore
from panfit.serve.settings import Limits, ServeConfig

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LISTS = ("among", "exclude", "outfits", "likes", "dislikes", "slots")
SHOWN = 30
"""Real ids of each kind that are drawn from."""
NUM_USERS = 6
"""Users of the model who are asked about: a person's first question may take long."""
PATIENCE_S = 300
NO_LIMIT = 1_000_000_000


@dataclass
class Found:
    """What came of it.

    Attributes:
        cases: requests that were sent.
        statuses: operation -> status -> how many.
        failures: what was wrong, with the request as a curl command.
    """

    cases: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def fuzz(recommender: Recommender, folder: Path, *, cases: int, seed: int, limits: Limits | None = None) -> Found:
    """Ask every operation: at most ``cases`` requests with real ids, as many that are valid, as many that are not.

    Args:
        recommender: nobody else may use it meanwhile.
        folder: for the database.
        cases: of each operation and kind.
        seed: the same gives the same requests, newcomers' ids aside.
        limits: the service's; the rate is never limited.
    """
    unhurried = (limits or Limits(top=20, list_items=50)).model_copy(
        update={"requests_per_minute": NO_LIMIT, "burst": NO_LIMIT}
    )
    config = ServeConfig(database=f"sqlite:///{folder / 'likes.db'}", limits=unhurried)
    store = LikesStore(config.database)
    store.open()
    outfits = [recommender.dataset.catalogue.ids(row) for row in recommender.candidates[:SHOWN].tolist()]
    owner = store.create("owner of opinions", outfits)
    newcomers = [owner.id, *(store.create(f"newcomer {number}").id for number in range(2))]
    doomed = [store.create("doomed").id for _ in range(SHOWN)]
    store.close()
    app = create_app(recommender, config)
    described = app.openapi()
    real = with_real_ids(described, recommender, newcomers, doomed, [opinion.id for opinion in owner.opinions])
    positive, negative = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
    found = Found()
    try:
        _wait_until_ready(app)
        for told, mode in ((real, positive), (described, positive), (described, negative)):
            schema = schemathesis.openapi.from_dict(told)
            schema.app = app
            for result in schema.get_all_operations():
                assert isinstance(result, Ok), result.err()
                _ask(result.ok().as_strategy(generation_mode=mode), found, cases=cases, seed=seed)
    finally:
        shutdown_lifespans()
    return found


def with_real_ids(
    described: dict[str, Any],
    recommender: Recommender,
    newcomers: Sequence[str],
    doomed: Sequence[str],
    opinions: Sequence[str],
) -> dict[str, Any]:
    """A description whose ids are real ones; all else stays as it was.

    Args:
        described: the service's OpenAPI.
        recommender: whose ids.
        newcomers: to be asked about; the first one has the opinions.
        doomed: newcomers to be erased.
        opinions: their ids.
    """
    dataset = recommender.dataset
    users = [*dataset.user_ids[:NUM_USERS], *newcomers]
    items = _spread(dataset.catalogue.item_ids)
    category = dict(zip(dataset.catalogue.item_ids, dataset.catalogue.item_categories, strict=True))
    outfits = [list(each) for each in _spread([dataset.catalogue.ids(row) for row in recommender.candidates.tolist()])]
    real: dict[str, Sequence[Any]] = {
        "user": users,
        "against": users,
        "like_user": users,
        "item": items,
        "among": items,
        "exclude": items,
        "outfit": outfits,
        "outfits": outfits,
        "likes": outfits,
        "dislikes": outfits,
        "slots": [slot.name for slot in dataset.slots],
        "category": list(dataset.catalogue.categories),
        "opinion": opinions,
    }
    worn = {
        slot.name: _drawn({}, [item for item in items if category[item] == slot.category]) for slot in dataset.slots
    }
    told = copy.deepcopy(described)
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                name = parameter["name"]
                if name == "item" and path.endswith(".png"):
                    parameter["schema"] = _drawn({}, [[each or "" for each in outfit] for outfit in outfits])
                    continue
                if name == "id" and "newcomers" in path:
                    ids: Sequence[Any] = newcomers[:1] if "opinion" in path else newcomers
                    if method == "delete" and path.endswith("{id}"):
                        ids = doomed
                elif name in ("id", "after"):
                    ids = users if "users" in path else items
                else:
                    ids = real.get(name, ())
                parameter["schema"] = _drawn(parameter["schema"], ids)
    for name, schema in told["components"]["schemas"].items():
        if name.endswith("In"):
            properties = schema["properties"]
            for field_name in properties:
                ids = real.get(field_name, ())
                properties[field_name] = _drawn(properties[field_name], ids, is_list=field_name in LISTS)
            if "given" in properties:
                properties["given"] = {"type": "object", "properties": worn, "additionalProperties": False}
    form = told["paths"]["/v1/score-photos"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    form["properties"] = {"user": _drawn({}, users), **worn}
    return told


def _drawn(schema: dict[str, Any], ids: Sequence[Any], *, is_list: bool = False) -> dict[str, Any]:
    """One of the ids, or some of them; where there are none to choose from, anything that the schema allows."""
    if not ids:
        return schema
    one = {"enum": list(ids)}
    return {"type": "array", "items": one, "minItems": 1, "maxItems": 4} if is_list else one


def _spread(values: Sequence[Any]) -> list[Any]:
    return list(values[:: max(1, len(values) // SHOWN)])[:SHOWN]


def _wait_until_ready(app: Any) -> None:
    """Start the app, and ask until it says so."""
    until = time.monotonic() + PATIENCE_S
    with get_client(app) as client:
        while client.get("/ready").status_code != 200:
            if time.monotonic() > until:
                raise TimeoutError(f"not ready within {PATIENCE_S} s")
            time.sleep(0.02)


def _ask(strategy: Any, found: Found, *, cases: int, seed: int) -> None:
    @seeded(seed)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def ask(case: Case[Any]) -> None:
        response = case.call(timeout=PATIENCE_S)
        found.cases += 1
        label = f"{case.method.upper()} {case.path}"
        found.statuses.setdefault(label, Counter())[response.status_code] += 1
        try:
            busy = response.status_code == 503  # allowed, where it is documented
            case.validate_response(response, checks=CHECKS[1:] if busy else CHECKS)
        except (Failure, FailureGroup) as failure:
            found.failures.append(f"{label}: {response.status_code}: {failure}\n{case.as_curl_command()}")

    with contextlib.suppress(Unsatisfiable, SkipTest):  # who takes nothing cannot be asked wrongly
        ask()


def main() -> int:
    """Ask, print what came of it, and fail where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cases", type=int, default=60, help="of each operation, valid and not")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--codes", type=Path, help="where code tables are kept; nowhere, if not given")
    asked = parser.parse_args()
    recommender = panfit.load(asked.run, data=asked.data, cache=asked.codes)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(recommender, Path(folder), cases=asked.cases, seed=asked.seed)
    for label, statuses in found.statuses.items():
        print(f"{label:50}", "  ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
    for failure in found.failures:
        print(failure, file=sys.stderr)
    print(f"{found.cases} cases in {time.monotonic() - began:.0f} s, {len(found.failures)} failure(s)")
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
