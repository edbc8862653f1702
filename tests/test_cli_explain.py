"""`panfit explain`: a picture and numbers beside it, a table or JSON on stdout, and mistakes told in one line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panfit.data.wardrobe import WardrobeConfig, draw_wardrobe
from panfit.loading import load
from tests.test_cli import call

SETTINGS = """
seed = 3
[images]
size = 32
[text]
source = "none"
[backbone]
width = 4
[model]
code_bits = 8
image_hidden = 8
[train]
epochs = 1
batch_size = 16
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    draw_wardrobe(WardrobeConfig.tiny(), folder / "data")
    (folder / "config.toml").write_text(SETTINGS, "utf-8")
    call("train", folder / "config.toml", "--data", folder / "data", "--out", folder / "run", "--quiet")
    return folder / "run"


@pytest.fixture(scope="module")
def question(run: Path) -> list[str]:
    """A user and an outfit of this world, as options."""
    dataset = load(run).dataset
    likes = dataset.likes["test"]
    worn = ",".join(str(item_id) for item_id in dataset.catalogue.ids(likes.items[0].tolist()))
    return ["--user", dataset.user_ids[int(likes.users[0])], "--outfit", worn]


def test_a_picture_and_its_numbers_are_written(run: Path, question: list[str], tmp_path: Path) -> None:
    out = tmp_path / "heat.png"
    shown, _ = call("explain", run, *question, "--out", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heat.json", "heat.png"]
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture).std() > 10
    told = json.loads((tmp_path / "heat.json").read_text("utf-8"))
    worn = question[3].split(",")
    score = load(run).score(question[1], [worn])[0]
    assert told["score"] == pytest.approx(score, abs=1e-5)
    assert list(told["items"].values()) == worn
    assert f"{told['personal']:+.3f}" in shown
    assert all(f"{share:+.3f}" in shown for share in told["by_item"].values())
    assert str(out) in shown.replace("\n", "")


def test_json_on_stdout_is_the_file(run: Path, question: list[str], tmp_path: Path) -> None:
    shown, _ = call("explain", run, *question, "--out", tmp_path / "heat.png", "--json")
    assert json.loads(shown) == json.loads((tmp_path / "heat.json").read_text("utf-8"))


def test_a_second_user_stands_beside_the_first(run: Path, question: list[str], tmp_path: Path) -> None:
    other = next(user for user in load(run).dataset.user_ids if user != question[1])
    out = tmp_path / "heat.png"
    shown, _ = call("explain", run, *question, "--against", other, "--out", out)
    assert question[1] in shown
    assert other in shown
    told = json.loads((tmp_path / "heat.json").read_text("utf-8"))
    assert told["against"]["user"] == other
    with Image.open(out) as picture:
        height = picture.height
    call("explain", run, *question, "--out", out)  # over the old one
    with Image.open(out) as picture:
        assert picture.height < height
    assert json.loads((tmp_path / "heat.json").read_text("utf-8"))["against"] is None


def test_an_item_may_be_missing_and_looks_may_be_absolute(run: Path, question: list[str], tmp_path: Path) -> None:
    top, _, shoe = question[3].split(",")
    out = tmp_path / "heat.png"
    call("explain", run, *question[:2], "--outfit", f"{top},,{shoe}", "--out", out, "--look", "absolute")
    told = json.loads((tmp_path / "heat.json").read_text("utf-8"))
    assert told["items"]["bottom"] is None
    assert set(told["maps"]) == {"top", "shoe"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"--user": "u1x"}, "the nearest"),
        ({"--outfit": "top-0,bottom-1,shoe-00O1"}, "the nearest"),
        ({"--outfit": "top-0"}, "3 item ids in the order top, bottom, shoe"),
        ({"--against": "nobody-at-all"}, "no user 'nobody-at-all'"),
        ({"--out": "heat.jpg"}, "heat.png"),
        ({"--out": "nowhere/heat.png"}, "no folder nowhere"),
    ],
)
def test_mistakes_are_told_in_one_message(
    run: Path, question: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options = dict(zip(question[::2], question[1::2], strict=True)) | {"--out": "heat.png"} | change
    _, said = call("explain", run, *(part for option in options.items() for part in option), status=2)
    assert told in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_picture(run: Path, question: list[str], tmp_path: Path) -> None:
    (tmp_path / "heat.png").mkdir()
    assert "a folder" in call("explain", run, *question, "--out", tmp_path / "heat.png", status=2)[1]


def test_a_folder_that_cannot_be_written_to_is_named(
    run: Path, question: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> int:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    _, said = call("explain", run, *question, "--out", tmp_path / "heat.png", status=2)
    assert f"{tmp_path / 'heat.png'}: Permission denied" in said
    assert list(tmp_path.iterdir()) == []
