"""The command line: order, exit statuses, JSON on stdout, messages on stderr, the whole pipeline on a tiny world."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group
from typer.testing import CliRunner

import panfit
from panfit.cli import app
from panfit.data.wardrobe import WardrobeConfig, draw_wardrobe
from panfit.errors import DataError
from panfit.exits import Pipeline
from tests.shop import make_shop

SETTINGS = """
seed = 3
[images]
size = 32
[text]
dim = 16
[backbone]
width = 4
[model]
code_bits = 8
image_hidden = 8
text_hidden = 8
[train]
epochs = 2
batch_size = 16
"""


def call(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
    """Run a command in process; returns what it said on stdout and on stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wardrobe, a config, and a run on it."""
    folder = tmp_path_factory.mktemp("cli")
    draw_wardrobe(WardrobeConfig.tiny(), folder / "data")
    (folder / "config.toml").write_text(SETTINGS, "utf-8")
    call("train", folder / "config.toml", "--data", folder / "data", "--out", folder / "run", "--quiet")
    return folder


def test_help_lists_the_stages_in_the_pipelines_order() -> None:
    shown, _ = call("--help")
    places = [shown.index(f"│ {name} ") for name in Pipeline.ORDER]
    assert places == sorted(places)


def test_every_place_in_the_pipeline_has_its_command() -> None:
    assert set(get_group(app).commands) == set(Pipeline.ORDER)
    assert len(set(Pipeline.ORDER)) == len(Pipeline.ORDER)


def test_a_name_that_no_command_bears_is_no_command() -> None:
    assert "No such command 'dress'" in call("dress", status=2)[1]


def test_without_arguments_the_help_is_shown() -> None:
    shown, told = call(status=2)
    assert "recommend" in shown + told


def test_every_command_has_help_for_each_of_its_options() -> None:
    for name in get_group(app).commands:
        shown, _ = call(name, "--help")
        assert "Usage" in shown


def test_the_version_is_the_packages() -> None:
    assert call("--version")[0] == f"panfit {panfit.__version__}\n"


def test_the_console_command_keeps_results_and_messages_apart(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "panfit", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})

    wrong = run("train", str(tmp_path / "none.toml"), "--data", "x", "--out", "y")
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert wrong.stderr == f"error: {tmp_path}/none.toml: there is no such config file\n"
    assert run("recommend").returncode == 2


def test_import_check_and_their_problems(tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "shop")
    shown, _ = call("import", "table", shop, "--out", tmp_path / "data", "--name", "corner", "--copy-images")
    assert "corner" in shown
    assert (tmp_path / "data" / "images").is_dir()
    report = json.loads(call("check", tmp_path / "data", "--json")[0])
    assert report["problems"] == []
    assert report["summary"]["users"] == 4
    assert "no problems" in call("check", tmp_path / "data")[0]

    (shop / "images" / "top-3.jpg").unlink()
    _, told = call("import", "table", shop, "--out", tmp_path / "bad", status=2)
    assert "top-3.jpg" in told
    assert not (tmp_path / "bad").exists()
    shown, told = call("import", "table", shop, "--out", tmp_path / "bad", "--skip-bad")
    assert "left out: " in told
    assert "left out, listed above" in shown

    (tmp_path / "data" / "images" / "images" / "shoe-1.jpg").write_bytes(b"no photo")
    report = json.loads(call("check", tmp_path / "data", "--json", status=2)[0])
    assert len(report["problems"]) == 1
    assert "1 problem(s)" in call("check", tmp_path / "data", status=2)[0]


def test_a_wardrobe_is_drawn_by_name_seed_and_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WardrobeConfig, "benchmark", WardrobeConfig.tiny)
    shown, _ = call("import", "wardrobe", "--out", tmp_path / "drawn", "--seed", "3", "--signal", "0")
    assert str(tmp_path / "drawn") in shown.replace("\n", "")
    world = json.loads((tmp_path / "drawn" / "truth" / "truth.json").read_text("utf-8"))["settings"]
    assert (world["name"], world["seed"], world["signal"]) == ("wardrobe", 3, 0.0)
    assert json.loads(call("check", tmp_path / "drawn", "--json")[0])["problems"] == []


def test_training_tells_where_the_best_checkpoint_is_and_resumes(world: Path) -> None:
    train = ("train", world / "config.toml", "--data", world / "data", "--quiet", "--out")
    assert "--resume" in call(*train, world / "run", status=2)[1]
    shown = json.loads(call(*train, world / "run", "--resume", "--json")[0])
    assert shown["epochs"] == 2
    assert shown["run"] == str(world / "run")
    _, told = call(*train, world / "other", "--set", "train.epoch=1", status=2)
    assert "train.epoch" in told
    assert not (world / "other").exists()


def test_evaluate_prints_the_promised_object(world: Path) -> None:
    shown = json.loads(call("evaluate", world / "run", "--negatives", "hard", "--json")[0])
    assert {"split", "negatives", "fitb", "auc", "ndcg", "relaxed", "ci95", "users", "seconds"} <= set(shown)
    assert shown["negatives"] == "hard"
    assert set(shown["relaxed"]) >= {"fitb", "auc", "ndcg"}
    low, high = shown["ci95"]["auc"]
    assert low <= shown["auc"] <= high
    assert "per_user" not in shown


def test_evaluate_against_another_run_is_paired_and_writes_a_file(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    run = world / "run"
    shown, _ = call("evaluate", run, "--against", run, "--out", out)
    assert "+0.0000" in shown
    written = json.loads(out.read_text("utf-8"))
    assert len(written["per_user"]["user_id"]) == written["users"] == 6
    assert written["difference"]["auc"]["difference"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_recommend_and_score_agree(world: Path) -> None:
    top = json.loads(call("recommend", world / "run", "--user", "u1", "--top", "3", "--json")[0])
    assert [len(outfit["items"]) for outfit in top["outfits"]] == [3, 3, 3]
    scores = [outfit["score"] for outfit in top["outfits"]]
    assert scores == sorted(scores, reverse=True)
    options = [option for outfit in top["outfits"] for option in ("--outfit", ",".join(outfit["items"]))]
    again = json.loads(call("score", world / "run", "--user", "u1", *options, "--json")[0])
    assert [outfit["score"] for outfit in again["outfits"]] == pytest.approx(scores)
    shown, _ = call("recommend", world / "run", "--user", "u1", "--top", "2")
    assert top["outfits"][0]["items"][0] in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend", "RUN", "--user", "nobody"], "no user 'nobody'"),
        (["score", "RUN", "--user", "u1", "--outfit", "a,b"], "do not fit the slots"),
        (["evaluate", "RUN/none"], "no such run folder"),
        (["evaluate", "RUN", "--data", "RUN"], "dataset.json"),
        (["check", "RUN"], "dataset.json"),
        (["features", "DATA", "--backbone", "hf"], "hf_model"),
        (["train", "CONFIG", "--data", "DATA", "--out", "NEW", "--set", "train.epochs=-1"], "train.epochs"),
        (["train", "CONFIG", "--data", "DATA", "--out", "CONFIG"], "in the way"),
    ],
)
def test_a_users_mistake_is_one_message(world: Path, arguments: list[str], message: str) -> None:
    places = {"RUN/none": "none", "RUN": "run", "DATA": "data", "CONFIG": "config.toml", "NEW": "new"}
    filled = [str(world / places[word]) if word in places else word for word in arguments]
    shown, told = call(*filled, status=2)
    assert message in shown + told
    assert "Traceback" not in shown + told


def test_features_stores_a_trunks_maps(world: Path) -> None:
    shown, _ = call("features", world / "data", "--backbone", "small", "--size", "32", "--name", "maps")
    assert shown.endswith("93 x 128 x 4 x 4\n")
    assert (world / "data" / "features" / "maps").is_dir()


def test_interruption_full_disk_and_our_own_mistakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def raising(error: BaseException) -> None:
        def check_dataset(folder: Path) -> None:
            raise error

        monkeypatch.setattr("panfit.data.check.check_dataset", check_dataset)

    raising(KeyboardInterrupt())
    assert call("check", tmp_path, status=130)[1] == "interrupted\n"
    raising(OSError(errno.ENOSPC, "No space left on device", "here/file"))
    assert call("check", tmp_path, status=2)[1].startswith("error: here/file: No space left on device. Make room")
    raising(DataError("[bold]brackets[/bold] stay"))
    assert call("check", tmp_path, status=2)[1] == "error: [bold]brackets[/bold] stay\n"
    raising(ZeroDivisionError("ours"))
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert isinstance(result.exception, ZeroDivisionError)
