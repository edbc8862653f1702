"""`panfit batch`: calls the library, says where the file is; Ctrl-C keeps what is done and says how to go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from panfit.cli.batch_command import batch
from panfit.exits import Pipeline
from tests.batch_run import NUM_USERS, make_run

app = typer.Typer(cls=Pipeline, add_completion=False, pretty_exceptions_enable=False)
app.command()(batch)


@app.callback()
def only() -> None:
    """With a callback, the one command keeps its name."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("cli-batch"))


def call(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
    """Run `panfit batch` in process; returns what it said on stdout and on stderr."""
    result = CliRunner().invoke(app, ["batch", *map(str, arguments)])
    assert result.exit_code == status, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.stdout, result.stderr


def test_everybody_to_a_file(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "recs.parquet"
    shown, told = call(run, "--out", out, "--top", "3", "--source", "composed")
    assert shown.startswith(f"{out}: {3 * NUM_USERS} outfits for {NUM_USERS} users; ")
    assert f"{NUM_USERS}/{NUM_USERS}" in told
    assert pq.read_metadata(out).num_rows == 3 * NUM_USERS
    shown, told = call(run, "--out", out, "--top", "3", "--source", "composed", "--quiet", "--json")
    assert told == ""
    report = json.loads(shown)
    assert (report["out"], report["users"], report["found"], report["rows"]) == (
        str(out),
        NUM_USERS,
        NUM_USERS,
        3 * NUM_USERS,
    )
    assert f"{NUM_USERS} of them found done" in call(run, "--out", out, "--top", "3", "--source", "composed")[0]


def test_some_users_by_a_file(run: Path, tmp_path: Path) -> None:
    users = tmp_path / "users.txt"
    users.write_text("\ufeffu7\n\n  u1  \nu7\n", "utf-8")
    call(run, "--out", tmp_path / "recs.parquet", "--top", "1", "--users", users, "--data", run.parent / "data")
    assert pq.read_table(tmp_path / "recs.parquet")["user_id"].to_pylist() == ["u1", "u7"]
    users.write_text("u7\nann\nbob\n", "utf-8")
    assert "'ann', 'bob'" in call(run, "--out", tmp_path / "other", "--users", users, status=2)[1]
    users.write_bytes(b"\xff\xfe\x00")
    assert "wanted a UTF-8 text" in call(run, "--out", tmp_path / "other", "--users", users, status=2)[1]
    assert "No such file" in call(run, "--out", tmp_path / "other", "--users", tmp_path / "none", status=2)[1]


def test_another_file_is_replaced_only_when_asked(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "recs.parquet"
    out.write_text("a letter", "utf-8")
    assert "--overwrite" in call(run, "--out", out, status=2)[1]
    assert out.read_text("utf-8") == "a letter"
    call(run, "--out", out, "--top", "1", "--overwrite")
    assert pq.read_metadata(out).num_rows == NUM_USERS


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C another way")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    tmp_path_factory: pytest.TempPathFactory, workers: str
) -> None:
    folder = tmp_path_factory.mktemp("ctrl-c")
    run = make_run(folder, num_users=41)
    out = folder / "recs.parquet"
    arguments = ["--top", "4", "--block-users", "1", "--source", "composed"]
    command = "import tests.test_cli_batch as t; t.app()"
    started = [sys.executable, "-c", command, "batch", str(run), "--out", str(out), "--workers", workers, *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])}
    going = subprocess.Popen(
        started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    parts = Path(f"{out}.partial")
    while going.poll() is None and not list(parts.glob("*.parquet")):
        time.sleep(0.01)
    os.killpg(going.pid, signal.SIGINT)  # as a terminal does: to the command and to its workers
    shown, told = going.communicate(timeout=50)
    assert going.returncode == 130, told
    assert shown == ""
    said = told.splitlines()[-1]
    assert said.startswith("interrupted after ")
    assert said.endswith(" of 41 users. Run the same command again to go on")
    assert "Traceback" not in told
    num_done = len(list(parts.glob("*.parquet")))
    assert 1 <= num_done < 41
    assert f", {num_done} of them found done" in call(run, "--out", out, *arguments)[0]
    assert pq.read_metadata(out).num_rows == 4 * 41
