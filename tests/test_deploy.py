"""What is deployed: the Dockerfile's commands are run here, without Docker; nginx's and other files are read."""

import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from panfit.loading import load
from panfit.serve.settings import ServeConfig
from tests.batch_run import make_run
from tests.serve.process import ROOT, SECONDS, Serving, serving

DEPLOY = ROOT / "deploy"
TOKEN = "a-token-of-the-tests"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")


def instructions(name: str) -> list[str]:
    """The Dockerfile's instructions of one name, in order, their lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def words(text: str) -> list[str]:
    """An instruction's words in its exec form: ["a", "b"]."""
    found = re.search(r"\[(.*)\]$", text)
    assert found, f"{text!r} is not of the exec form: a shell would stand between us and SIGTERM"
    return shlex.split(found[1].replace('", "', '" "'))


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(instructions("ENV")[-1]))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, dict[str, str]]]:
    """The image's command, in the image's environment, with the image's folders put elsewhere."""
    folder = tmp_path_factory.mktemp("image")
    run = make_run(folder / "srv")
    load(run, cache=None)  # as training leaves it: its photos are decoded beside the data set
    (folder / "data").mkdir()
    (folder / "token").write_text(TOKEN + "\n", "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environ = {
        name: value.replace("/srv", str(folder / "srv")).replace("/data", str(folder / "data"))
        if name.startswith("PANFIT_")
        else value
        for name, value in image_environment().items()
        if name != "PATH"
    }
    environ["PANFIT_DATA"] = str(run.parent / "data")
    environ["PANFIT_DATABASE"] = f"sqlite:///{folder / 'data' / 'likes.db'}"
    environ |= {"PANFIT_PORT": port, "PANFIT_TOKEN_FILE": str(folder / "token"), "PANFIT_TRUSTED_PROXY": "127.0.0.1"}
    command = words(instructions("ENTRYPOINT")[-1]) + words(instructions("CMD")[-1])
    assert command == ["panfit", "serve"]
    before = sorted(str(path) for path in (folder / "srv").rglob("*"))
    with serving(environ=environ, token=TOKEN, command=(sys.executable, "-m", *command)) as running:
        yield running, environ
        assert running.end(signal.Signals[instructions("STOPSIGNAL")[0]]) == 0
    assert sorted(str(path) for path in (folder / "srv").rglob("*")) == before, "the mounts are read-only"


def test_the_images_command_serves_and_its_healthcheck_says_so(service: tuple[Serving, dict[str, str]]) -> None:
    running, environ = service
    check = words(instructions("HEALTHCHECK")[0].partition("CMD")[2].strip())
    assert check[0] == "python"
    healthy = subprocess.run([sys.executable, *check[1:]], env=os.environ | environ, timeout=SECONDS)
    assert healthy.returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    down = [sys.executable, *check[1:]]
    done = subprocess.run(down, env=os.environ | environ | {"PANFIT_PORT": port}, capture_output=True, timeout=SECONDS)
    assert done.returncode != 0
    assert running.ask("GET", "/v1/users")[0] == 200
    running.token, token = None, running.token
    assert running.ask("GET", "/v1/users")[0] == 401
    running.token = token
    assert running.url.endswith(f":{environ['PANFIT_PORT']}/")


def test_the_image_is_built_from_what_is_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8")
    for copied in instructions("COPY"):
        *sources, _ = copied.split()
        if sources[0].startswith("--from"):
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"\n!{source}\n" in ignored, f".dockerignore keeps {source} out"
    assert ignored.count("\n*\n") == 1, "everything else stays out"
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = re.search(r"'\.\[(.*?)\]'", DOCKERFILE)
    assert extras
    for extra in extras[1].split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    torch = re.search(r"'(torch[^']*)'", DOCKERFILE)
    assert torch
    assert f'"{torch[1]}"' in project


def test_the_image_does_not_run_as_root() -> None:
    user, group = instructions("USER")[-1].split(":")
    assert user == group == "10001"
    assert DOCKERFILE.index(f"--uid {user}") < DOCKERFILE.index(f"USER {user}")


def test_the_compose_file_holds_no_secret_and_opens_no_door() -> None:
    yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed, so compose.yaml is not read")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    panfit, database = compose["services"]["panfit"], compose["services"]["database"]
    assert "ports" not in database
    assert database["networks"] == ["back"]
    assert compose["networks"]["back"] == {"internal": True}
    assert [port["host_ip"] for port in panfit["ports"]] == ["127.0.0.1"]
    assert panfit["read_only"]
    assert panfit["cap_drop"] == ["ALL"]
    assert (ROOT / "deploy" / panfit["build"]["context"] / panfit["build"]["dockerfile"]).is_file()
    assert set(panfit["build"]["args"]) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert panfit["depends_on"]["database"]["condition"] == "service_healthy"
    assert "healthcheck" in database
    for service in (panfit, database):
        assert set(service["secrets"]) <= set(compose["secrets"])
        assert service["deploy"]["resources"]["limits"]["memory"]
        mounted = {volume["source"] for volume in service["volumes"] if volume["type"] == "volume"}
        assert mounted <= set(compose["volumes"])
        for name, value in service["environment"].items():
            assert not re.search("PASSWORD|TOKEN", name) or value.startswith("/run/secrets/"), name
            if str(value).startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert mentioned_variables(yaml.safe_dump(panfit["environment"])) <= known_variables()


@pytest.mark.parametrize("name", ["Dockerfile", "panfit.service", "../docs/serving.md"])
def test_every_variable_that_is_named_is_one(name: str) -> None:
    assert mentioned_variables((DEPLOY / name).read_text("utf-8")) <= known_variables()


def mentioned_variables(text: str) -> set[str]:
    return set(re.findall(r"\bPANFIT_[A-Z_]+\b", text)) - {"PANFIT_CPUS", "PANFIT_MEMORY"}


def known_variables() -> set[str]:
    """Those that `panfit serve` reads."""
    source = (ROOT / "src/panfit/cli/serve_command.py").read_text("utf-8")
    return set(re.findall(r'"(PANFIT_[A-Z_]+)"', source))


def test_the_environment_reads_what_the_command_reads() -> None:
    source = (ROOT / "src/panfit/serve/run.py").read_text("utf-8")
    listening = {"PANFIT_HOST", "PANFIT_PORT", "PANFIT_WORKERS"}  # the other server's own business
    assert set(re.findall(r'"(PANFIT_[A-Z_]+)"', source)) == known_variables() - listening


def test_nginx_takes_the_file_and_passes_requests_on(service: tuple[Serving, dict[str, str]], tmp_path: Path) -> None:
    nginx, openssl = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"), shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("nginx or openssl is not installed, so deploy/nginx.conf is not tried")
    _, environ = service
    (tmp_path / "tls").mkdir()
    (tmp_path / "temporary").mkdir()
    key, certificate = tmp_path / "tls" / "privkey.pem", tmp_path / "tls" / "fullchain.pem"
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shop.example"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        plain, secure = one.getsockname()[1], two.getsockname()[1]
    conf = (DEPLOY / "nginx.conf").read_text("utf-8")
    for line in re.findall(r" *listen \[::\].*\n", conf):
        conf = conf.replace(line, "")
    conf = conf.replace("listen 80;", f"listen 127.0.0.1:{plain};").replace("listen 443", f"listen 127.0.0.1:{secure}")
    conf = conf.replace("server localhost:8000;", f"server 127.0.0.1:{environ['PANFIT_PORT']};")
    folders = "".join(
        f"{kind}_temp_path temporary/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf = conf.replace("http {\n", f"http {{\n{folders}", 1)
    (tmp_path / "nginx.conf").write_text(conf, "utf-8")
    (tmp_path / "mime.types").write_text("types { text/html html; }\n", "utf-8")
    shutil.copy(DEPLOY / "panfit-proxy.conf", tmp_path)
    command = [nginx, "-p", f"{tmp_path}/", "-c", "nginx.conf", "-e", "error.log", "-g", "daemon off; pid nginx.pid;"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=SECONDS)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + SECONDS
            while (answer := https(secure, "/health"))[0] == 0:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.02)
            assert answer[0] == 200
            assert "max-age" in answer[1]["Strict-Transport-Security"]
            assert https(secure, "/v1/users")[0] == 401
            assert https(secure, "/v1/users", Authorization=f"Bearer {TOKEN}")[0] == 200
            assert https(secure, "/metrics")[0] in (200, 401)
        finally:
            process.terminate()


def https(port: int, path: str, **headers: str) -> tuple[int, Any]:
    """(status, headers), by a certificate that nobody checks; (0, {}) where nobody listens yet."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS, context=trusting) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers
    except urllib.error.URLError:
        return 0, {}


def test_nginx_takes_a_little_more_than_the_service() -> None:
    found = re.search(r"client_max_body_size (\d+)m;", (DEPLOY / "nginx.conf").read_text("utf-8"))
    assert found
    assert 0 < int(found[1]) * 2**20 - ServeConfig(database="sqlite:///x.db").limits.body_bytes <= 2**20


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed, so deploy/panfit.service is not tried")
    unit = (DEPLOY / "panfit.service").read_text("utf-8").replace("/srv/panfit/venv/bin/panfit", sys.executable)
    (tmp_path / "panfit.service").write_text(unit, "utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / "panfit.service")],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    told = [line for line in done.stderr.splitlines() if "panfit.service" in line]
    assert told == [], done.stderr
