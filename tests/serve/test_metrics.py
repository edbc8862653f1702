"""/metrics in Prometheus's format: what is counted, of few kinds, and nothing of whom it was about."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send

from panfit.serve.likes import UnavailableError
from panfit.serve.metrics import COUNT_SECONDS, Meter, Metrics
from tests.serve.shop_service import Shop, open_shop

TOKEN = "a-token-for-this-test"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("metrics")) as shop:
        yield shop


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """{(name, labels): value}."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


def test_requests_are_counted_by_route_and_status(shop: Shop) -> None:
    before = read(shop.client.get("/metrics").text)
    for user_id in ("ann", "Zoë 100%", "nobody", "nobody else"):
        shop.client.get(f"/v1/users/{user_id}")
    shop.client.get("/nowhere/at/all")
    shop.client.request("BREW", "/v1/users/ann")
    found = shop.client.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert found.headers["cache-control"] == "no-store"
    after = read(found.text)

    def grown(name: str, **values: str) -> float:
        key = (name, labels(**values))
        return after[key] - before.get(key, 0.0)

    route = "/v1/users/{id:any}"
    assert grown("panfit_http_requests_total", method="GET", route=route, status="200") == 2
    assert grown("panfit_http_requests_total", method="GET", route=route, status="404") == 2
    assert grown("panfit_http_requests_total", method="GET", route="(none)", status="404") == 1
    assert grown("panfit_http_requests_total", method="OTHER", route=route, status="405") == 1
    assert grown("panfit_http_request_seconds_count", method="GET", route=route) == 4
    assert 0 < grown("panfit_http_request_seconds_sum", method="GET", route=route) < 60
    assert after["panfit_http_requests_running", ()] == 1  # this one
    for secret in ("ann", "nobody", "nowhere", "BREW", "testclient"):
        assert secret not in found.text


def test_what_the_service_has_to_say_of_itself(shop: Shop) -> None:
    told = read(shop.client.get("/metrics").text)
    assert told["panfit_ready", ()] == 1
    assert told["panfit_database_up", ()] == 1
    assert told["panfit_questions_waiting", ()] == 0
    assert told["process_resident_memory_bytes", ()] > 1e7
    (worker,) = [key for key in told if key[0] == "panfit_worker"]
    assert re.fullmatch(r"\d+", dict(worker[1])["pid"])
    shop.client.get("/v1/photos/top-0?size=64")
    assert read(shop.client.get("/metrics").text)["panfit_thumbnail_bytes", ()] > 100


def test_batches_and_waits_are_counted(shop: Shop) -> None:
    before = read(shop.client.get("/metrics").text)
    for top in (1, 2, 3):
        shop.client.get(f"/v1/recommendations?user=ann&top={top}")
    after = read(shop.client.get("/metrics").text)

    def grown(name: str, **values: str) -> float:
        return after[name, labels(**values)] - before[name, labels(**values)]

    assert grown("panfit_batch_size_count") == grown("panfit_batch_size_sum") == 3
    assert grown("panfit_batch_size_bucket", le="1.0") == 3
    assert grown("panfit_wait_seconds_count") == 3
    assert 0 < grown("panfit_wait_seconds_sum") < 60


def test_every_name_is_explained(shop: Shop) -> None:
    for family in text_string_to_metric_families(shop.client.get("/metrics").text):
        assert family.documentation.endswith(".") or family.name.startswith("process_"), family.name


def test_two_apps_have_numbers_of_their_own(shop: Shop, tmp_path: Path) -> None:
    with open_shop(tmp_path) as other:
        for _ in range(3):
            other.client.get("/v1/users/ann")
        key = ("panfit_http_requests_total", labels(method="GET", route="/v1/users/{id:any}", status="200"))
        assert read(other.client.get("/metrics").text)[key] == 3


def test_metrics_need_the_token_and_count_who_had_none(tmp_path: Path) -> None:
    with open_shop(tmp_path, token=TOKEN) as shop:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert shop.client.get("/metrics", headers=headers).status_code == 401
        told = read(shop.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text)
        assert told["panfit_http_requests_total", labels(method="GET", route="(none)", status="401")] == 2


class Likes:
    """Counts how often it is asked to count."""

    asked, works = 0, True

    def count(self) -> int:
        if not self.works:
            raise UnavailableError("the database does not answer")
        self.asked += 1
        return 40 + self.asked


def make_metrics(now: Any) -> tuple[Metrics, Likes]:
    likes = Likes()
    engine = SimpleNamespace(num_waiting=7, kept_bytes=99, state="starting")
    return Metrics(SimpleNamespace(likes=likes, engine=engine), now=now), likes  # type: ignore[arg-type]


def test_newcomers_are_counted_now_and_then() -> None:
    at = [0.0]
    metrics, likes = make_metrics(lambda: at[0])
    app = FastAPI()

    def told() -> dict[Any, float]:
        return read(metrics.read(app).decode())

    assert told()["panfit_newcomers", ()] == 41
    at[0] = COUNT_SECONDS - 0.01
    assert told()["panfit_newcomers", ()] == 41
    at[0] = COUNT_SECONDS
    assert told()["panfit_newcomers", ()] == 42
    at[0], likes.works = 3 * COUNT_SECONDS, False
    found = told()
    assert (found["panfit_database_up", ()], found["panfit_newcomers", ()]) == (0, 42)
    assert (found["panfit_questions_waiting", ()], found["panfit_kept_answer_bytes", ()]) == (7, 99)
    assert found["panfit_ready", ()] == 0
    at[0], likes.works = 5 * COUNT_SECONDS, True
    assert told()["panfit_database_up", ()] == 1


def test_whoever_leaves_and_whatever_fails_is_counted_too() -> None:
    metrics, _ = make_metrics(lambda: 0.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fails":
            raise RuntimeError("went wrong")
        await anyio.sleep_forever()

    async def ask() -> None:
        meter = Meter(app, metrics)
        scope = {"type": "http", "method": "GET", "path": "/fails"}
        with pytest.raises(RuntimeError, match="went wrong"):
            await meter(scope, None, None)  # type: ignore[arg-type]
        with anyio.move_on_after(0.01):
            await meter({**scope, "path": "/"}, None, None)  # type: ignore[arg-type]

    anyio.run(ask)
    told = read(metrics.read(FastAPI()).decode())
    assert told["panfit_http_requests_total", labels(method="GET", route="(none)", status="none")] == 2
    assert told["panfit_http_requests_running", ()] == 0


def test_seconds_are_those_that_passed() -> None:
    metrics, _ = make_metrics(lambda: 0.0)
    at = [10.0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        at[0] += 0.3
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def send(_: Any) -> None:
        at[0] += 0.1

    meter = Meter(app, metrics, now=lambda: at[0])
    anyio.run(meter, {"type": "http", "method": "GET", "path": "/"}, None, send)  # type: ignore[arg-type]
    told = read(metrics.read(FastAPI()).decode())
    assert told["panfit_http_request_seconds_sum", labels(method="GET", route="(none)")] == pytest.approx(0.4)
    for bound, count in (("0.25", 0), ("0.5", 1), ("+Inf", 1)):
        assert told["panfit_http_request_seconds_bucket", labels(method="GET", route="(none)", le=bound)] == count
    assert told["panfit_http_requests_total", labels(method="GET", route="(none)", status="204")] == 1
