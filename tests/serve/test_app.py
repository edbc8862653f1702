"""The app starts, stops, and says what goes wrong; nothing happens before its lifespan."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from panfit.errors import CheckpointError, DataError
from panfit.serve.api.document import FILES
from panfit.serve.app import create_app
from panfit.serve.engine import BusyError, Engine, Work
from panfit.serve.likes import LikesStore, UnavailableError
from panfit.serve.settings import ServeConfig
from tests.serve.shop_service import USERS, Shop, make_config, make_recommender, open_shop, outfit


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    with open_shop(tmp_path) as shop:
        yield shop


def engines() -> int:
    return sum(thread.name == "engine" for thread in threading.enumerate())


def test_nothing_happens_before_the_lifespan(tmp_path: Path) -> None:
    before = engines()
    app = create_app(make_recommender(tmp_path), make_config(tmp_path))
    assert not (tmp_path / "likes.db").exists()
    assert engines() == before
    with TestClient(app) as client:
        assert (tmp_path / "likes.db").exists()
        assert engines() == before + 1
        assert client.get("/health").json() == {"status": "ok"}
    assert engines() == before


def test_newcomers_outlive_an_app(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        newcomer = shop.client.post("/v1/newcomers", json={"name": "eve", "likes": [outfit(1, 1, 1)]}).json()
        answer = shop.client.get("/v1/recommendations", params={"user": newcomer["id"]})
    with open_shop(tmp_path) as shop:
        assert shop.client.get(f"/v1/newcomers/{newcomer['id']}").json() == newcomer
        again = shop.client.get("/v1/recommendations", params={"user": newcomer["id"]})
    assert again.content == answer.content
    assert again.headers["etag"] == answer.headers["etag"]


def test_questions_that_wait_at_the_end_are_answered(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(shop.client.get, "/v1/recommendations", params={"user": user}) for user in USERS]
        shop.client.portal.call(anyio.to_thread.run_sync, shop.app.state.service.engine.stop)  # type: ignore[union-attr]
        statuses = {each.result().status_code for each in asked}
    assert statuses <= {200, 503}  # answered, or refused in form: none hangs, none fails


def test_two_apps_in_one_process_do_not_meet(tmp_path: Path) -> None:
    with open_shop(tmp_path / "a") as one, open_shop(tmp_path / "b") as other:
        newcomer = one.client.post("/v1/newcomers", json={}).json()["id"]
        assert one.client.get(f"/v1/newcomers/{newcomer}").status_code == 200
        assert other.client.get(f"/v1/newcomers/{newcomer}").status_code == 404


def test_a_store_may_be_given(tmp_path: Path) -> None:
    likes = LikesStore(f"sqlite:///{tmp_path / 'given.db'}")
    app = create_app(make_recommender(tmp_path), make_config(tmp_path), likes=likes)
    with TestClient(app) as client:
        client.post("/v1/newcomers", json={})
        assert likes.count() == 1
    assert not (tmp_path / "likes.db").exists()


def test_a_database_that_cannot_be_had_stops_the_start(tmp_path: Path) -> None:
    config = ServeConfig(database=f"sqlite:///{tmp_path / 'nowhere' / 'likes.db'}")
    before = engines()
    with pytest.raises(DataError, match="nowhere"), TestClient(create_app(make_recommender(tmp_path), config)):
        pass
    assert engines() == before


@pytest.mark.parametrize(
    ("error", "status", "kind", "retry"),
    [
        (BusyError("too many wait"), 503, "busy", "1"),
        (UnavailableError("the database is gone"), 503, "busy", "1"),
        (CheckpointError("this run is of Fhn"), 501, "not-of-this-model", None),
    ],
)
def test_errors_that_are_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, kind: str, retry: str | None
) -> None:
    async def ask(_: object) -> None:
        raise error

    monkeypatch.setattr(shop.app.state.service.engine, "ask", ask)
    response = shop.client.get("/v1/recommendations", params={"user": "ann"})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.get("retry-after") == retry
    assert response.json()["type"] == f"urn:panfit:problem:{kind}"
    assert response.json()["detail"] == str(error)


def test_an_unexpected_error_is_logged_and_tells_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(_: object) -> None:
        raise RuntimeError("the secret")

    monkeypatch.setattr(shop.app.state.service.engine, "ask", ask)
    response = shop.client.get("/v1/recommendations", params={"user": "ann"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {"type": "urn:panfit:problem:internal", "title": "Internal error", "status": 500}
    assert "the secret" in caplog.text  # its traceback


def test_a_middleware_that_fails_tells_nothing_either(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                raise RuntimeError("the secret")
            await self.app(scope, receive, send)

    app = create_app(make_recommender(tmp_path), make_config(tmp_path))
    app.add_middleware(Broken)
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/health")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert "the secret" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/v1/users", 405), ("GET", "/v1/score", 405)]
)
def test_what_is_not_there_is_a_problem(shop: Shop, method: str, path: str, status: int) -> None:
    response = shop.client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_a_body_that_cannot_be_read(shop: Shop) -> None:
    as_json = {"Content-Type": "application/json"}
    assert shop.client.post("/v1/score", content="{", headers=as_json).status_code == 400
    assert shop.client.post("/v1/score", content=b'{"user": "\xff"}', headers=as_json).status_code == 400
    assert shop.client.post("/v1/score", content="[" * 100_000, headers=as_json).status_code == 400
    assert shop.client.post("/v1/score", content="{}").status_code == 415
    assert shop.client.post("/v1/score", data={"user": "ann"}).status_code == 415
    assert shop.client.post("/v1/score", headers=as_json).status_code == 422
    assert shop.client.post("/v1/score", content="[]", headers=as_json).status_code == 422


def test_half_a_surrogate_pair_is_no_text(shop: Shop) -> None:
    as_json = {"Content-Type": "application/json"}
    for content in (r'{"user": "\ud800", "outfits": []}', r'{"user": "ann", "outfits": [], "\ud800": 1}'):
        response = shop.client.post("/v1/score", content=content, headers=as_json)
        assert response.status_code == 422
        assert response.json()["problems"]


def test_ready_waits_for_the_database(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shop.client.get("/ready").json() == {"status": "ready"}

    def ping() -> None:
        raise UnavailableError("no database")

    monkeypatch.setattr(shop.app.state.service.likes, "ping", ping)
    response = shop.client.get("/ready")
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert shop.client.get("/health").status_code == 200  # the process lives all the same


@pytest.mark.parametrize(
    ("state", "work", "told"),
    [
        ("starting", None, "starting"),
        ("starting", Work("preparing"), "starting: preparing"),
        ("starting", Work("looking at the items", 3, 22), "starting: looking at the items, 3 of 22"),
        ("failed", None, "failed"),
        ("stopped", None, "stopped"),
    ],
)
def test_ready_waits_for_the_model(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, state: str, work: Work | None, told: str
) -> None:
    monkeypatch.setattr(Engine, "state", state)
    monkeypatch.setattr(shop.app.state.service.engine, "progress", work)
    monkeypatch.setattr(shop.app.state.service.engine, "failure", "of something secret")
    response = shop.client.get("/ready")
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert response.json()["detail"] == told


def test_docs_ask_nobody_else(shop: Shop) -> None:
    page = shop.client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?:|//|<script>|<style|\son\w+=", page.text)  # nothing inline, nothing from elsewhere
    files = re.findall(r'(?:src|href)="(docs/static/[^"]+)"', page.text)
    assert {Path(file).name for file in files} == {"swagger-ui.css", "swagger-ui-bundle.js", "start.js"}
    for file in files:
        content = shop.client.get(f"/{file}")
        assert content.status_code == 200
        assert "sourceMappingURL" not in content.text
    assert re.search(r'url: "openapi.json"', shop.client.get("/docs/static/start.js").text)
    assert shop.client.get("/openapi.json").status_code == 200
    assert shop.client.get("/docs/static/..%2f..%2fapp.py").status_code == 404


def test_what_is_vendored_brings_its_licenses() -> None:
    names = {path.name for path in FILES.iterdir()}
    assert {"swagger-ui-LICENSE.txt", "swagger-ui-NOTICE.txt", "swagger-ui-bundle-LICENSE.txt"} < names
    assert not [name for name in names if name.endswith(".map")]
