"""`panfit serve`: what it hands to the service, and what it refuses, before anything is loaded."""

import socket
from pathlib import Path
from typing import Any

import pytest

from panfit.cli import serve_command
from panfit.cli.serve_command import DEMO_RUN, DEMO_TRUNK
from panfit.demo import RECIPES
from panfit.serve.start import Start, url_of
from tests.test_cli import call

TOKEN = "0123456789abcdef"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "run")


def make_folder(run: Path) -> Path:
    """What looks like a run from outside."""
    (run / "best").mkdir(parents=True)
    (run / "best" / "config.json").write_text("{}", "utf-8")
    return run


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the service was started with, instead of a service."""
    calls: list[dict[str, Any]] = []

    def serve(start: Start, listener: socket.socket, *, workers: int, ready: Any) -> None:
        ready(url_of(listener))
        calls.append({"start": start, "workers": workers, "address": listener.getsockname()})
        listener.close()

    monkeypatch.setattr("panfit.serve.run.serve", serve)
    for name in ("PANFIT_RUN", "PANFIT_TOKEN", "PANFIT_DATABASE", "PANFIT_PORT"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_a_run_is_served_on_this_machine_alone(run: Path, served: list[dict[str, Any]]) -> None:
    shown, told = call("serve", run, "--port", "0")
    host, port = served[0]["address"]
    assert (host, served[0]["workers"]) == ("127.0.0.1", 1)
    assert shown == f"The page: http://127.0.0.1:{port}/\n"
    assert told == f"loading {run} ...\n"
    start = served[0]["start"]
    assert start == Start(run, start.config)
    assert start.config.database == f"sqlite:///{run}/likes.db"
    assert (start.config.token, start.config.secure_cookies, start.config.trusted_proxies) == (None, False, ())


def test_every_option_arrives(run: Path, served: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN, "utf-8")
    (tmp_path / "limits.toml").write_text("top = 3\n", "utf-8")
    options = ("--data", tmp_path, "--host", "0.0.0.0", "--port", "0", "--token-file", tmp_path / "token")
    more = ("--database", "sqlite:///x.db", "--workers", "3", "--trusted-proxy", "127.0.0.1", "--trusted-proxy", "::1")
    rest = ("--secure-cookies", "--limits", tmp_path / "limits.toml", "--allow-changed", "--codes", tmp_path / "codes")
    call("serve", run, *options, *more, *rest, "--trunk-weights", tmp_path / "trunk.safetensors")
    start = served[0]["start"]
    assert start == Start(
        run,
        start.config,
        data=tmp_path,
        allow_changed=True,
        trunk_weights=tmp_path / "trunk.safetensors",
        codes=tmp_path / "codes",
    )
    config = start.config
    assert (config.database, config.trusted_proxies) == ("sqlite:///x.db", ("127.0.0.1", "::1"))
    assert (config.secure_cookies, config.limits.top, served[0]["workers"]) == (True, 3, 3)
    assert config.token.get_secret_value() == TOKEN


def test_the_environment_says_it_too(run: Path, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"RUN": run, "TOKEN": TOKEN, "PORT": "0", "HOST": "0.0.0.0", "DATABASE": "sqlite:///y.db", "WORKERS": "2"}
    for name, value in values.items():
        monkeypatch.setenv(f"PANFIT_{name}", str(value))
    monkeypatch.setenv("PANFIT_TRUSTED_PROXY", "10.0.0.1 10.0.0.2")
    monkeypatch.setenv("PANFIT_SECURE_COOKIES", "true")
    call("serve")
    config = served[0]["start"].config
    assert (served[0]["start"].run, served[0]["workers"], served[0]["address"][0]) == (run, 2, "0.0.0.0")
    assert config.token.get_secret_value() == TOKEN
    assert (config.database, config.trusted_proxies) == ("sqlite:///y.db", ("10.0.0.1", "10.0.0.2"))
    assert config.secure_cookies


def test_without_a_run_the_demos_is_served(
    served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "or run `panfit demo` first" in call("serve", "--port", "0", status=2)[1]
    assert served == []
    make_folder(tmp_path / "demo" / DEMO_RUN)
    call("serve", "--port", "0")
    start = served[0]["start"]
    assert (start.run, start.trunk_weights) == (Path("demo") / DEMO_RUN, Path("demo") / DEMO_TRUNK)


def test_the_demos_run_is_the_last_of_its_recipes() -> None:
    assert Path("runs") / RECIPES[-1].folder == DEMO_RUN


def test_a_demo_can_be_served_when_it_is_done(
    served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run_demo(out: Path, **_: Any) -> Path:
        make_folder(out / DEMO_RUN)
        return out / "report.html"

    monkeypatch.setattr("panfit.demo.run_demo", run_demo)
    monkeypatch.setattr("panfit.cli.serve_command.PORT", 0)
    shown, _ = call("demo", "--out", tmp_path / "mine", "--serve")
    assert shown.startswith(f"The report: {tmp_path}/mine/report.html\nThe page: http://127.0.0.1:")
    assert served[0]["start"].run == tmp_path / "mine" / DEMO_RUN
    assert served[0]["start"].trunk_weights == tmp_path / "mine" / DEMO_TRUNK


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "no token is set"),
        (["--host", "192.0.2.1", "--insecure-no-token"], "cannot listen on 192.0.2.1"),
        (["--trusted-proxy", "nginx"], "--trusted-proxy nginx: found no address"),
        (["--token-file", "no-such-file"], "no-such-file: No such file or directory"),
        (["--limits", "no-such-file"], "no-such-file: No such file or directory"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_served(
    run: Path, served: list[dict[str, Any]], arguments: list[str], message: str
) -> None:
    shown, told = call("serve", run, "--port", "0", *arguments, status=2)
    assert shown == ""
    assert told.startswith("error: ")
    assert message in told
    assert served == []


def test_a_run_that_is_not_there_and_a_port_that_is_taken(run: Path, served: list[dict[str, Any]]) -> None:
    assert "there is no such run folder" in call("serve", run / "none", status=2)[1]
    assert "no best checkpoint here" in call("serve", run.parent, status=2)[1]
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"port {port}: Address already in use" in call("serve", run, "--port", port, status=2)[1]
    assert served == []


def test_a_short_token_is_refused_and_not_repeated(
    run: Path, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANFIT_TOKEN", "hunter2")
    told = call("serve", run, status=2)[1]
    assert "found 7 characters; wanted at least 16" in told
    assert "hunter2" not in told
    assert served == []


def test_there_is_no_option_for_a_token() -> None:
    assert "No such option" in call("serve", "--token", TOKEN, status=2)[1]


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_without_the_extra_it_says_what_to_install(
    run: Path, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(serve_command, "find_spec", lambda name: None if name == "prometheus_client" else object())
    arguments = [run] if command == "serve" else ["--out", run / "demo", "--serve"]
    told = call(command, *arguments, status=2)[1]
    assert "prometheus-client is not installed. Install it with: pip install 'panfit[serve]'" in told
    assert served == []


def test_a_browser_is_opened_where_that_is_asked(
    run: Path, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    call("serve", run, "--port", "0")
    assert opened == []
    shown, _ = call("serve", run, "--port", "0", "--open")
    assert [f"The page: {url}\n" for url in opened] == [shown]


def test_a_rivals_run_cannot_be_served(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Rival:
        pan = None

    monkeypatch.setattr("panfit.loading.load", lambda *_, **__: Rival())
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("panfit.serve.access_log.to_stderr", lambda: None)
    told = call("serve", run, "--port", "0", "--database", f"sqlite:///{tmp_path}/x.db", status=2)[1]
    assert "only PAN can be served" in told
    assert "Traceback" not in told
