"""Reproducing a table: it runs, resumes and replaces, and its pages say what the result files and the paper say."""

import json
import re
import shutil
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from panfit import charts
from panfit.cli import app
from panfit.config import Config
from panfit.data.wardrobe import WardrobeConfig, draw_wardrobe
from panfit.data.wardrobe_truth import read_truth
from panfit.errors import ConfigError, DataError, FeatureStoreError, MissingExtraError
from panfit.evaluate import METRICS, Result, compare
from panfit.features.inputs import build_inputs
from panfit.features.store import open_store
from panfit.loading import load
from panfit.model.backbone import build_backbone
from panfit.outfits import Dataset, Outfits
from panfit.pointing import measure_pointing
from panfit.reproduce import recipe as reproduce_recipe
from panfit.reproduce import training
from panfit.reproduce.needs import check_rows
from panfit.reproduce.page import render_html
from panfit.reproduce.recipe import (
    check_trunk,
    config_folder,
    default_recipe,
    fingerprint,
    read_rows,
    read_trunk,
    recipe_folder,
    wants_trunk,
)
from panfit.reproduce.rows import PAPER, TABLES, Row, Scores
from panfit.reproduce.run import Reproduction, _starts_bare, reproduce
from panfit.reproduce.seeds import averaged
from panfit.reproduce.table import measured_line, measured_margin
from panfit.reproduce.words import render_markdown
from panfit.train.loop import fit
from panfit.train.pretrain import TRUNK_FILE, fit_trunk
from panfit.train.run_folder import CONFIG_FILE
from panfit.train.state import STATE_FILE, Progress
from tests.test_results import make_result

SETTINGS = """
[images]
size = 32
[text]
source = "none"
[backbone]
width = 2
frozen = true
[attention]
kind = "{attention}"
[model]
code_bits = 16
image_hidden = 8
[negatives]
hard_ratio = 0.0
[loss]
lambda_user = {lambda_user}
[optimizer]
name = "adamw"
user = 0.03
image_encoder = 0.01
[train]
epochs = 2
batch_size = 32
[pretrain]
epochs = 1
"""
"""Of every row, PAN all of them: the rivals have tests of their own."""
STEPS = {"none": ("none", 0.0), "ul": ("none", 0.1), "ul_hn": ("none", 0.2), "ul_hn_an": ("pan", 0.2)}
ROWS = ["none", "ul_hn_an"]
PRINTED = """
table1 polyvore-630 siamese  0.5103 0.7703 0.6109
table1 polyvore-630 bilstm   0.5515 0.8102 0.6629
table1 polyvore-630 csn      0.5536 0.8187 0.6744
table1 polyvore-630 fhn      0.6461 0.9176 0.8541
table1 polyvore-630 pan      0.6608 0.9311 0.8694
table1 polyvore-519 siamese  0.5304 0.8026 0.6648
table1 polyvore-519 bilstm   0.5232 0.7746 0.6210
table1 polyvore-519 csn      0.5617 0.8215 0.6703
table1 polyvore-519 fhn      0.6386 0.9137 0.8448
table1 polyvore-519 pan      0.6503 0.9242 0.8562
table2 polyvore-630 none     0.6283 0.9109 0.8422
table2 polyvore-630 ul       0.6399 0.9189 0.8528
table2 polyvore-630 ul_hn    0.6429 0.9235 0.8578
table2 polyvore-630 ul_hn_an 0.6458 0.9259 0.8602
table2 polyvore-519 none     0.6188 0.9027 0.8253
table2 polyvore-519 ul       0.6274 0.9103 0.8362
table2 polyvore-519 ul_hn    0.6301 0.9139 0.8392
table2 polyvore-519 ul_hn_an 0.6329 0.9153 0.8414
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return draw_wardrobe(WardrobeConfig.tiny(), tmp_path_factory.mktemp("world") / "data").dataset


def write_recipe(folder: Path, *, trunk: bool = False) -> Path:
    """A folder of settings for both tables, in which PAN is the same row in both."""
    folder.mkdir()
    attention, lambda_user = STEPS["ul_hn_an"]
    pan = SETTINGS.format(attention=attention, lambda_user=lambda_user)
    for row in TABLES["table1"].rows:
        (folder / row.config_file).write_text(pan, "utf-8")
    for name, (attention, lambda_user) in STEPS.items():
        text = SETTINGS.format(attention=attention, lambda_user=lambda_user)
        (folder / f"table2-{name}.toml").write_text(text, "utf-8")
    if trunk:
        (folder / "trunk.toml").write_text(pan, "utf-8")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_recipe(tmp_path_factory.mktemp("recipe") / "mine", trunk=True))


@pytest.fixture(scope="module")
def made(dataset: Dataset, recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """Two rows of Table 2, two seeds each."""
    out = tmp_path_factory.mktemp("reproduce") / "out"
    return reproduce("table2", dataset, out, seeds=2, recipe=recipe, rows=ROWS, progress=False)


@dataclass
class Trainings:
    """What is trained from now on.

    Attributes:
        runs: (folder, resumed) of every run that is asked for.
        steps: taken by all of them.
        trunks: the folders of shared trunks.
    """

    runs: list[tuple[str, bool]] = field(default_factory=list)
    steps: int = 0
    trunks: list[str] = field(default_factory=list)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """Counts the trainings of the test."""
    found = Trainings()

    def one_more(progress: Progress) -> None:
        found.steps += 1

    def counted(config: Config, dataset: Dataset, out: Path, **options: Any) -> Any:
        found.runs.append((out.name, options["resume"]))
        return fit(config, dataset, out, on_step=one_more, **options)

    def counted_trunk(config: Config, dataset: Dataset, out: Path, **options: Any) -> Path:
        found.trunks.append(out.name)
        return fit_trunk(config, dataset, out, **options)

    monkeypatch.setattr(training, "fit", counted)
    monkeypatch.setattr(training, "fit_trunk", counted_trunk)
    return found


def again(made: Reproduction, dataset: Dataset, recipe: str, **changes: Any) -> Reproduction:
    """The same call in the same folder."""
    options: dict[str, Any] = {"seeds": 2, "recipe": recipe, "rows": ROWS, "progress": False} | changes
    return reproduce("table2", dataset, made.html.parent, **options)


def contents(made: Reproduction, row: str, kind: str) -> list[dict[str, Any]]:
    """A row's result files, by seed."""
    paths = sorted((made.html.parent / "results").glob(f"*/{row}-table2.own-seed*-{kind}.json"))
    return [json.loads(path.read_text("utf-8")) for path in paths]


# ---- the paper


def test_the_papers_numbers_are_as_printed() -> None:
    printed = [line.split() for line in PRINTED.strip().splitlines()]
    wanted = {(table, data, row): Scores(*map(float, numbers)) for table, data, row, *numbers in printed}
    found = {
        (table, data, row): scores
        for table, sets in PAPER.items()
        for data, rows in sets.items()
        for row, scores in rows.items()
    }
    assert found == wanted


def test_the_papers_margins_are_to_the_digits_it_prints() -> None:
    paper = PAPER["table1"]["polyvore-630"]
    assert paper["pan"].minus(paper["fhn"]) == Scores(0.0147, 0.0135, 0.0153)


def test_the_papers_column_is_that_of_the_data() -> None:
    assert TABLES["table1"].column("polyvore-519") == "polyvore-519"
    assert TABLES["table1"].column("closet") == "polyvore-630"
    assert (default_recipe("polyvore-53"), default_recipe("closet")) == ("paper", "small")
    assert default_recipe("polyvore-519") == default_recipe("polyvore-32") == "paper/519"


# ---- running


def test_every_run_leaves_its_folder_and_result_files(made: Reproduction, dataset: Dataset) -> None:
    out = made.html.parent
    for row in ROWS:
        for kind in ("random", "hard"):
            assert [content["seed"] for content in contents(made, row, kind)] == [0, 1]
    files = [content for row in ROWS for content in contents(made, row, "random")]
    assert {path.name for path in (out / "runs").iterdir()} == {f"pan-{each['fingerprint'][:8]}" for each in files}
    assert len({each["fingerprint"] for each in files}) == 4
    assert {each["checksum"] for each in files} == {dataset.checksum}
    assert not list(out.glob(".*"))


def test_rows_learn_on_the_stored_maps_of_one_trunk(made: Reproduction, dataset: Dataset) -> None:
    out = made.html.parent
    (trunk,) = out.glob("trunk-*")
    for run in (out / "runs").iterdir():
        config = Config.read(run / CONFIG_FILE)
        assert (config.backbone.source, config.backbone.store) == ("stored", trunk.name)
        assert config.pretrain.epochs == 0
    assert dataset.folder is not None
    maps = open_store(dataset.folder / "features" / trunk.name, dataset, extractor="small").rows(np.arange(5))
    config = Config.parse({"images": {"size": 32}, "backbone": {"width": 2, "weights": str(trunk / TRUNK_FILE)}})
    backbone = build_backbone(config.backbone, (3, 32, 32), generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        wanted = backbone.feature_map(build_inputs(dataset, config).batch(np.arange(5)))  # (5, C, H, W)
    np.testing.assert_allclose(maps, wanted.numpy(), rtol=1e-2, atol=1e-3)  # float16


def test_results_keep_the_rows_own_settings_beside_the_trunks(made: Reproduction, recipe: str) -> None:
    rows = read_rows(Path(recipe), TABLES["table2"].choose(ROWS))
    trunk = read_trunk(Path(recipe))
    assert trunk is not None
    for row in ROWS:
        for content in contents(made, row, "random") + contents(made, row, "hard"):
            wanted = rows[row].model_copy(update={"seed": content["seed"]})
            assert Config.parse(content["config"]) == wanted
            assert content["trunk"]["backbone"] == trunk.backbone.model_dump()
            assert content["trunk"]["pretrain"] == trunk.pretrain.model_dump()
    pages = made.html.read_text("utf-8") + made.markdown.read_text("utf-8")
    assert str(made.html.parent) not in pages
    told = "One frozen trunk, pre-trained for 1 epoch on the catalogue: none, ul_hn_an."
    assert pages.count(told) == 2


def test_what_is_done_is_not_done_again(
    made: Reproduction, dataset: Dataset, recipe: str, trainings: Trainings
) -> None:
    before = made.markdown.read_text("utf-8")
    assert again(made, dataset, recipe).report.done == 4
    assert made.markdown.read_text("utf-8") == before
    overrides = ["bilstm.lambda_vse=0", "train.save_every_s=5"]  # no settings of these rows, or of a result
    assert again(made, dataset, recipe, overrides=overrides).report.done == 4
    assert trainings == Trainings()


def test_what_is_done_needs_no_trunk(
    made: Reproduction, dataset: Dataset, recipe: str, tmp_path: Path, trainings: Trainings
) -> None:
    assert dataset.folder is not None
    (trunk,) = made.html.parent.glob("trunk-*")
    places = [trunk, dataset.folder / "features"]
    for place in places:
        shutil.move(place, tmp_path / place.name)
    assert again(made, dataset, recipe).report.done == 4
    assert trainings == Trainings()
    assert not any(place.exists() for place in places)
    for place in places:
        shutil.move(tmp_path / place.name, place)


def test_two_tables_in_one_folder_train_a_trunk_and_a_row_that_they_share_once(
    recipe: str, tmp_path: Path, trainings: Trainings
) -> None:
    fresh = draw_wardrobe(WardrobeConfig.tiny(), tmp_path / "data").dataset
    options: dict[str, Any] = {"seeds": 1, "recipe": recipe, "progress": False}
    ablation = reproduce("table2", fresh, tmp_path / "out", rows=["ul_hn_an"], **options)
    (run,), steps = trainings.runs, trainings.steps
    assert steps > 0
    rivals = reproduce("table1", fresh, tmp_path / "out", rows=["pan"], **options)
    assert trainings.runs == [(run[0], False), (run[0], True)]
    assert trainings.steps == steps
    assert len(trainings.trunks) == 1
    assert rivals.report.lines[0].values == ablation.report.lines[0].values
    assert rivals.report.lines[0].seconds == pytest.approx(ablation.report.lines[0].seconds)
    elsewhere = reproduce("table1", fresh, tmp_path / "elsewhere", rows=["pan"], **options)
    assert len(trainings.trunks) == 1  # its maps are stored with the data
    assert elsewhere.report.lines[0].values == ablation.report.lines[0].values


def test_a_changed_setting_runs_again_and_replaces(
    dataset: Dataset, tmp_path: Path, trainings: Trainings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "panfit")
    mine = write_recipe(tmp_path / "mine")
    options: dict[str, Any] = {"seeds": 1, "recipe": str(mine), "progress": False}
    first = reproduce("table2", dataset, tmp_path / "out", rows=["none", "ul"], **options)
    config = mine / "table2-ul.toml"
    config.write_text(config.read_text("utf-8").replace("lambda_user = 0.1", "lambda_user = 0.4"), "utf-8")
    trainings.runs.clear()
    second = reproduce("table2", dataset, tmp_path / "out", rows=["none", "ul"], **options)
    (changed,) = contents(second, "ul", "hard")
    assert trainings.runs == [(f"pan-{changed['fingerprint'][:8]}", False)]
    assert changed["config"]["loss"]["lambda_user"] == 0.4
    assert "ul-table2.own-seed0-random.json is of other settings or data" in caplog.text
    assert first.report.lines[0].values == second.report.lines[0].values
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 3
    assert "trunk" not in changed  # this recipe has none: each row trains its own
    assert trainings.trunks == []


def test_an_interrupted_table_goes_on_exactly(
    made: Reproduction, dataset: Dataset, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(config: Config, dataset: Dataset, out: Path, **options: Any) -> Any:
        def stop(progress: Progress) -> None:
            if config.attention.kind == "pan" and progress.epoch == 1:
                raise KeyboardInterrupt

        return fit(config, dataset, out, on_step=stop, **options)

    options: dict[str, Any] = {"seeds": 2, "recipe": recipe, "rows": ROWS, "progress": False}
    monkeypatch.setattr(training, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reproduce("table2", dataset, tmp_path, **options)
    assert len([run for run in (tmp_path / "runs").iterdir() if (run / STATE_FILE).exists()]) == 2
    assert "1 of 4 runs are done; this page is written anew" in (tmp_path / "table2.md").read_text("utf-8")

    calls: list[tuple[str, int, bool]] = []

    def counted(config: Config, dataset: Dataset, out: Path, **options: Any) -> Any:
        calls.append((config.attention.kind, config.seed, options["resume"]))
        return fit(config, dataset, out, **options)

    monkeypatch.setattr(training, "fit", counted)
    finished = reproduce("table2", dataset, tmp_path, **options)
    assert calls == [("pan", 0, True), ("none", 1, False), ("pan", 1, False)]
    assert [line.values for line in finished.report.lines] == [line.values for line in made.report.lines]


def test_every_method_of_table_1_runs(dataset: Dataset, tmp_path: Path) -> None:
    mine = write_recipe(tmp_path / "mine", trunk=True)
    methods = {row.name: "pan" if row.name == "fhn" else row.name for row in TABLES["table1"].rows}
    for row in TABLES["table1"].rows:
        path = mine / row.config_file
        text = path.read_text("utf-8").replace('source = "none"', 'source = "titles"\ndim = 16')
        path.write_text(f'method = "{methods[row.name]}"\n{text}', "utf-8")
    found = reproduce("table1", dataset, tmp_path / "out", recipe=str(mine), smoke=True, progress=False)
    assert (found.report.done, found.report.total) == (7, 7)
    on_maps = {
        row: bool("trunk" in json.loads(path.read_text("utf-8")))
        for row in methods
        for path in (tmp_path / "out" / "results").glob(f"*/{row}-*-random.json")
    }
    assert on_maps == {row: row not in ("popularity", "linear") for row in methods}


def test_a_smoke_run_is_tiny_loud_and_replaces_nothing(made: Reproduction, dataset: Dataset, recipe: str) -> None:
    before = contents(made, "none", "random")
    smoke = again(made, dataset, recipe, smoke=True, rows=None, seeds=5)
    assert (smoke.report.done, smoke.report.num_seeds) == (4, 1)
    assert "SMOKE" in smoke.html.read_text("utf-8")
    assert "**SMOKE RUN" in smoke.markdown.read_text("utf-8")
    assert contents(made, "none", "random") == before
    assert again(made, dataset, recipe).report.smoke is False  # the page of the real runs is back


def test_a_smoke_run_of_the_papers_recipe_needs_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "table1-pan.toml"
    path.write_text('[backbone]\nname = "alexnet"\nweights = "none.pth"\n[train]\nepochs = 100\n', "utf-8")
    row = TABLES["table1"].rows[-1]
    config = read_rows(tmp_path, [row], ["train.batch_size=7"], smoke=True)["pan"]
    assert (config.backbone.name, config.backbone.weights, config.train.epochs) == ("small", None, 1)
    assert (config.pretrain.epochs, config.train.batch_size) == (0, 7)


def test_without_hard_negatives_the_column_is_left_out_and_said_so(
    dataset: Dataset, recipe: str, tmp_path: Path
) -> None:
    bare = replace(
        dataset, folder=None, negatives={key: value for key, value in dataset.negatives.items() if key[1] == "random"}
    )
    mine = str(write_recipe(tmp_path / "mine"))
    found = reproduce("table2", bare, tmp_path, seeds=1, recipe=mine, rows=["ul"], progress=False)
    assert "hard_auc" not in found.report.columns
    assert "no hard negatives" in found.markdown.read_text("utf-8")
    assert found.report.ceiling is None
    assert found.report.margin is None
    assert "Row by row" not in found.html.read_text("utf-8")
    with pytest.raises(FeatureStoreError, match="is in memory"):  # a shared trunk's maps lie beside the data
        reproduce("table2", bare, tmp_path, seeds=1, recipe=recipe, rows=["ul"], progress=False)


def test_a_fingerprint_is_of_what_files_hold_not_of_where_they_lie(dataset: Dataset, tmp_path: Path) -> None:
    prints = []
    for place, weights in ((tmp_path / "a", b"1"), (tmp_path / "b", b"1"), (tmp_path / "c", b"2")):
        place.write_bytes(weights)
        prints.append(fingerprint(Config.parse({"backbone": {"weights": str(place)}}), dataset))
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]
    assert fingerprint(Config(seed=1), dataset) != fingerprint(Config(), dataset)
    assert fingerprint(Config(), replace(dataset, checksum="other")) != fingerprint(Config(), dataset)


def test_a_fingerprint_counts_a_shared_trunk_by_its_settings(dataset: Dataset, recipe: str) -> None:
    small = Config.parse({"backbone": {"frozen": True}})
    trunks = [read_trunk(Path(recipe), [override]) for override in ("loss.lambda_user=0.4", "pretrain.epochs=2")]
    own, same, other = (fingerprint(small, dataset, trunk) for trunk in (read_trunk(Path(recipe)), *trunks))
    assert own == same != other
    assert own != fingerprint(small, dataset)
    unfrozen = Config()
    assert fingerprint(unfrozen, dataset, trunks[0]) == fingerprint(unfrozen, dataset)


def test_who_learns_on_a_shared_trunk() -> None:
    frozen = {"frozen": True}
    assert wants_trunk(Config.parse({"backbone": frozen}))
    assert wants_trunk(Config.parse({"backbone": frozen, "method": "csn"}))
    for others in (
        {},
        {"backbone": {**frozen, "name": "alexnet"}},
        {"backbone": {**frozen, "weights": "mine.safetensors"}},
        {"backbone": {**frozen, "source": "stored", "store": "mine"}},
        {"backbone": frozen, "method": "linear"},
    ):
        assert not wants_trunk(Config.parse(others))


def test_a_shared_trunk_must_make_the_maps_that_rows_ask_for(tmp_path: Path) -> None:
    trunk = tmp_path / "trunk.toml"
    trunk.write_text("[images]\nsize = 48\n[pretrain]\nepochs = 2\n[backbone]\nwidth = 8\n", "utf-8")
    found = read_trunk(tmp_path)
    assert found is not None
    sizes = {"images": {"size": 48}, "backbone": {"width": 4, "frozen": True}}
    rows = {"pan": Config.parse(sizes), "linear": Config.parse({**sizes, "method": "linear"})}
    with pytest.raises(ConfigError, match=r"row pan: found backbone\.width = 4; the shared trunk has 8$"):
        check_trunk(rows, found)
    check_trunk({"linear": rows["linear"]}, found)
    for wrong in ("pretrain.epochs=0", "backbone.name=alexnet"):
        with pytest.raises(ConfigError, match="wanted a trunk to pre-train"):
            read_trunk(tmp_path, [wrong])


# ---- numbers


def test_means_and_spreads_are_those_of_the_result_files(made: Reproduction) -> None:
    line = made.report.lines[1]
    files = {kind: contents(made, "ul_hn_an", kind) for kind in ("random", "hard")}
    for column, values in (
        ("fitb", [content["fitb"] for content in files["random"]]),
        ("hard_auc", [content["auc"] for content in files["hard"]]),
        ("relaxed_auc", [content["relaxed"]["auc"] for content in files["random"]]),
    ):
        assert line.mean(column) == statistics.mean(values)
        assert line.spread(column) == statistics.stdev(values)


def test_differences_are_those_of_results_averaged_over_seeds(made: Reproduction) -> None:
    assert len(made.report.steps) == 1
    assert made.report.steps[0] == made.report.margin
    for kind, column in (("random", "ndcg"), ("hard", "hard_auc")):
        better, worse = (
            averaged([Result.from_json(content) for content in contents(made, row, kind)])
            for row in ("ul_hn_an", "none")
        )
        metric = "auc" if kind == "hard" else column
        assert made.report.steps[0].differences[column] == compare(better, worse).differences[metric]
    assert made.report.steps[0].paper == Scores(0.0175, 0.015, 0.018)


def test_rows_are_compared_on_the_seeds_they_share() -> None:
    one, two = Row("a", "A", "", ""), Row("b", "B", "", "")
    files = {
        one: [content(0.8, seed=0), content(0.9, seed=1), content(0.1, seed=2)],
        two: [content(0.7, seed=1), content(0.5, seed=0)],
    }
    margin = measured_margin(one, two, files, {})
    assert margin is not None
    assert margin.num_seeds == 2
    assert margin.differences["auc"].value == pytest.approx(0.125)  # a user gains 0.25, one nothing
    assert margin.paper is None
    assert "hard_auc" not in margin.differences
    assert measured_margin(one, two, {one: files[one][2:], two: files[two]}, {}) is None


def content(auc: float, *, seed: int = 0, **extra: Any) -> dict[str, Any]:
    """A result file's content."""
    return {**make_result(auc).to_json(), "seed": seed, "seconds": 2.5, **extra}


def test_a_line_shows_pointing_where_it_was_measured() -> None:
    row = Row("a", "A", "", "")
    assert "pointing_own" not in measured_line(row, [content(0.8)]).values
    pointing = {"own": 0.6, "another": 0.4, "nobody": 0.3}
    line = measured_line(row, [content(0.8, pointing=pointing), content(0.8, seed=1, negatives="hard")])
    assert [line.mean(f"pointing_{eyes}") for eyes in pointing] == [0.6, 0.4, 0.3]
    assert line.seconds == 5.0


def test_attention_is_held_against_a_drawn_worlds_truth(made: Reproduction, dataset: Dataset) -> None:
    content = contents(made, "ul_hn_an", "random")[1]
    recommender = load(made.html.parent / "runs" / f"pan-{content['fingerprint'][:8]}", data=dataset)
    assert dataset.folder is not None
    wanted = measure_pointing(
        recommender.pan, recommender.inputs, read_truth(dataset.folder), dataset.split_items("test"),
        np.random.default_rng(0),
    )  # fmt: skip
    assert content["pointing"] == wanted.to_json()
    assert all("pointing" not in each for each in contents(made, "none", "random"))
    page, markdown = made.html.read_text("utf-8"), made.markdown.read_text("utf-8")
    for eyes in ("own", "another", "nobody"):
        mean = made.report.lines[1].mean(f"pointing_{eyes}")
        assert mean is not None
        assert f"<td>{mean:.4f}<small>" in page[page.index("Does attention look where the user cares?") :]
        assert f"{mean:.4f} ±" in markdown


def test_attention_is_held_against_nothing_where_nobody_knows(
    made: Reproduction, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = contents(made, "ul_hn_an", "random")[0]
    recommender = load(made.html.parent / "runs" / f"pan-{content['fingerprint'][:8]}", data=dataset)
    config = Config.parse(content["config"])
    assert training.where_it_looks(recommender, config) == content["pointing"]
    assert training.where_it_looks(recommender, config.model_copy(update={"method": "csn"})) is None
    assert dataset.folder is not None
    truth = read_truth(dataset.folder)
    monkeypatch.setattr(training, "truth_of", lambda _: replace(truth, groups=np.zeros_like(truth.groups)))
    assert training.where_it_looks(recommender, config) is None  # one group: there are no other eyes
    monkeypatch.undo()
    assert training.truth_of(replace(dataset, folder=None)) is None


def test_where_attention_looks_stands_beside_the_table(made: Reproduction) -> None:
    line = made.report.lines[1]
    looking = replace(line, values={**line.values, "pointing_own": [0.25, 0.75], "pointing_another": [0.125, 0.125]})
    report = replace(made.report, lines=[made.report.lines[0], looking])
    assert "<td>0.5000<small>± 0.3536</small></td><td>0.1250<small>" in render_html(report)
    assert "pointing, own eyes" in render_markdown(report)


def test_averaged_is_what_plain_loops_say(rng: np.random.Generator) -> None:
    names = [name for metric in METRICS for name in (metric, f"relaxed_{metric}")]
    counts = np.array([4, 0, 5])
    results = []
    for _ in range(4):
        values = {name: rng.random(3) for name in names}
        for name in names:
            values[name][1 if name.endswith("fitb") else 2] = np.nan  # no question; no ranking
        results.append(make_result(values=values, num_questions=counts))
    mean = averaged(results)
    for name in names:
        total, weight = 0.0, 0.0
        for user in range(3):
            value = sum(float(result.values[name][user]) for result in results) / 4
            of_user = float(counts[user]) if name.endswith("fitb") else float(user != 2)
            if of_user:
                assert mean.values[name][user] == pytest.approx(value)
                total, weight = total + of_user * value, weight + of_user
        found = mean.relaxed[name[8:]] if name.startswith("relaxed_") else getattr(mean, name)
        assert found == pytest.approx(total / weight)
    low, high = mean.ci95["auc"]
    assert low <= mean.auc <= high
    assert averaged(results, resamples=0).ci95 == {}


def test_averaged_refuses_results_of_different_things() -> None:
    for changed in ({"checksum": "other"}, {"user_ids": ("u1", "u2", "x")}, {"num_questions": np.array([4, 1, 5])}):
        with pytest.raises(DataError, match="cannot be averaged"):
            averaged([make_result(), make_result(**changed)])


# ---- pages


def test_both_pages_say_the_means_and_the_papers_numbers(made: Reproduction) -> None:
    for page in (made.html.read_text("utf-8"), made.markdown.read_text("utf-8")):
        for line in made.report.lines:
            for column in ("fitb", "auc", "ndcg", "hard_auc", "relaxed_auc"):
                assert f"{line.mean(column):.4f}" in page
                assert f"± {line.spread(column):.4f}" in page
            assert line.paper is not None
            assert f"{line.paper.auc:.4f}" in page
        assert f"{made.report.steps[0].differences['auc'].value:+.4f}".replace("-", "−") in page
        assert "+0.0150" in page  # the paper's margin
        assert "The paper’s numbers are of other data" in page
        assert made.report.ceiling is not None
        assert f"{made.report.ceiling.mean('auc'):.4f}" in page
        assert "attention.kind" in page


def test_the_html_page_stands_alone(made: Reproduction) -> None:
    page = made.html.read_text("utf-8")
    assert not re.search(r"http|//[a-z]|@import|<link|<script|url\((?!#)|(?:src|href)=\"(?!#)", page)
    assert page.count("<svg") == 1
    assert "SMOKE" not in page
    for tag in ("table", "tr", "td", "th", "section", "div", "p"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>")


def test_the_markdown_tables_are_tables(made: Reproduction) -> None:
    text = made.markdown.read_text("utf-8")
    tables = re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        rows = [line.strip("|").split("|") for line in table.strip().splitlines()]
        assert len({len(row) for row in rows}) == 1
        assert {cell.strip() for cell in rows[1]} == {"---"}


def test_bars_begin_at_the_start_and_what_is_missing_is_left_out() -> None:
    bars = {"a": charts.Bar(0.4, 0.0, None), "b": charts.Bar(None, 0.0, 0.9), "c": charts.Bar(0.7, 0.1, 0.8)}
    chart = charts.bar_chart({"AUC": bars}, starts={"AUC": 0.5}, ceilings={"AUC": 0.95}, accent="c")
    assert re.findall(r">(0\.\d{3})<", chart) == ["0.400", "0.900", "0.700", "0.800"]
    assert chart.count("fill: var(--accent)") == 1
    assert chart.count("fill: var(--second)") == 1  # the bar of "a", to the left


def test_without_matplotlib_the_page_says_how_to_get_charts(
    made: Reproduction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingExtraError("matplotlib", "plots")

    monkeypatch.setattr(charts, "require_matplotlib", missing)
    page = render_html(made.report)
    assert "<svg" not in page
    assert "pip install &#x27;panfit[plots]&#x27;" in page


def test_a_table_of_the_papers_own_data_makes_no_excuses(made: Reproduction) -> None:
    own = replace(made.report, dataset="polyvore-630")
    assert "other data" not in render_html(own) + render_markdown(own)
    assert "Table 2 on Polyvore-630" in render_html(own)


def test_an_odd_name_is_escaped(made: Reproduction) -> None:
    assert "<b>&lt;i&gt;" not in render_html(replace(made.report, dataset="<i>"))
    assert "<i>" not in render_html(replace(made.report, dataset="<i>", ceiling=None)).replace("<i>alpha", "")


# ---- what can be wrong


def test_rows_and_recipes_that_are_not_there(dataset: Dataset, recipe: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="table2 has the rows none, ul, ul_hn, ul_hn_an"):
        reproduce("table2", dataset, tmp_path, recipe=recipe, rows=["pan"])
    with pytest.raises(ConfigError, match="shipped are: paper, paper/519, paper/visual, small"):
        recipe_folder("large")
    (tmp_path / "table1-fhn.toml").write_text("", "utf-8")
    with pytest.raises(ConfigError, match=r"lacks table1-pan\.toml; there is: table1-fhn\.toml\. .* --rows fhn$"):
        reproduce("table1", dataset, tmp_path, recipe=str(tmp_path), rows=["fhn", "pan"])
    with pytest.raises(ConfigError, match="--seeds"):
        reproduce("table2", dataset, tmp_path, recipe=recipe, overrides=["seed=3"])
    with pytest.raises(ConfigError, match=r"train\.epoch: there is no such setting"):
        reproduce("table2", dataset, tmp_path, recipe=recipe, overrides=["train.epoch=3"])
    assert [path.name for path in tmp_path.iterdir()] == ["table1-fhn.toml"]


def test_recipes_are_looked_for_in_the_package_then_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (config_folder() / "paper").is_dir()
    package = tmp_path / "panfit"
    (package / "configs" / "small").mkdir(parents=True)
    monkeypatch.setattr(reproduce_recipe, "__file__", str(package / "reproduce" / "recipe.py"))
    assert recipe_folder("small") == package / "configs" / "small"


def configs(**methods: Mapping[str, Any]) -> dict[str, Config]:
    return {row: Config.parse({"method": row if row != "fhn" else "pan", **values}) for row, values in methods.items()}


def lacking(dataset: Dataset, rows: Mapping[str, Config]) -> str:
    with pytest.raises(DataError) as caught:
        check_rows(rows, dataset)
    return str(caught.value)


def test_what_every_row_lacks_is_told_at_once(dataset: Dataset) -> None:
    untitled = replace(dataset.catalogue, titles=(None, *dataset.catalogue.titles[1:]))
    bare = replace(dataset, catalogue=untitled, fitb={"val": dataset.fitb["val"]})
    told = lacking(bare, configs(bilstm={}, csn={}, fhn={}, pan={"text": {"source": "stored"}}))
    assert "rows bilstm, csn, fhn, pan: found no fill-in-the-blank questions in test" in told
    assert "row bilstm: found 1 of 93 items without a title" in told
    assert "--set bilstm.lambda_vse=0" in told
    assert "--set csn.lambda_vse=0 --set csn.lambda_text=0" in told
    assert "row pan: found no stored text vectors" in told
    assert "--rows" not in told.splitlines()[0]


def test_rows_that_lack_nothing_are_named(dataset: Dataset) -> None:
    bare = replace(dataset, catalogue=replace(dataset.catalogue, titles=(None,) * len(dataset.catalogue)))
    rows = configs(bilstm={}, csn={"csn": {"lambda_vse": 0, "lambda_text": 0}}, fhn={}, pan={})
    told = lacking(bare, rows)
    assert "lacks what 1 of 4 rows need; the others run with --rows csn,fhn,pan" in told
    check_rows({name: config for name, config in rows.items() if name != "bilstm"}, bare)


Change = Callable[[Dataset], Dataset]


def only_tops(dataset: Dataset) -> Dataset:
    """Outfits of a top alone."""
    likes = {split: Outfits(each.users, each.items[:, :1]) for split, each in dataset.likes.items()}
    negatives = {key: Outfits(each.users, each.items[:, :1]) for key, each in dataset.negatives.items()}
    return replace(dataset, slots=dataset.slots[:1], likes=likes, negatives=negatives, fitb={})


def one_user(dataset: Dataset) -> Dataset:
    likes = {split: each.take(each.users == 0) for split, each in dataset.likes.items()}
    return replace(dataset, likes=likes)


def no_shoes(dataset: Dataset) -> Dataset:
    items = dataset.likes["train"].items.copy()
    items[:, 2] = -1
    return replace(dataset, likes={**dataset.likes, "train": Outfits(dataset.likes["train"].users, items)})


@pytest.mark.parametrize(
    ("changed", "rows", "message"),
    [
        (one_user, {"fhn": {}}, "a single user"),
        (only_tops, {"siamese": {}}, "items of one category"),
        (only_tops, {"csn": {}, "bilstm": {}}, "rows csn, bilstm: found outfits of one item"),
        (no_shoes, {"popularity": {}}, "no train outfit with a shoe"),
        (lambda data: replace(data, likes={"train": data.likes["train"]}), {"pan": {}}, "no likes in val, test"),
        (lambda data: replace(data, negatives={}), {"pan": {}}, "no random negatives in val"),
        (
            lambda data: replace(data, catalogue=replace(data.catalogue, images=(None,) * len(data.catalogue))),
            {"pan": {}},
            "93 of 93 items without a photo",
        ),
        (lambda data: data, {"pan": {"backbone": {"weights": "none.pth"}}}, "no file none.pth"),
        (
            lambda data: data,
            {"pan": {"backbone": {"source": "stored", "store": "r50", "name": "resnet50"}}},
            "panfit features DATASET --backbone resnet50 --name r50",
        ),
    ],
)
def test_each_thing_that_can_be_lacking(
    dataset: Dataset, changed: Change, rows: dict[str, dict[str, Any]], message: str
) -> None:
    assert message in lacking(changed(dataset), configs(**rows))


def test_the_world_as_drawn_lacks_nothing(dataset: Dataset) -> None:
    check_rows(configs(popularity={}, linear={}, siamese={}, bilstm={}, csn={}, fhn={}, pan={}), dataset)


def test_a_trunk_without_weights_is_warned_of() -> None:
    assert _starts_bare(Config.parse({"backbone": {"name": "alexnet"}}))
    assert not _starts_bare(Config.parse({"backbone": {"name": "small"}}))


# ---- the command


def call(*arguments: object, status: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["reproduce", *map(str, arguments)])
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout, result.stderr


def test_the_command_prints_a_table_or_json(made: Reproduction, dataset: Dataset, recipe: str) -> None:
    options = ("table2", "--data", dataset.folder, "--out", made.html.parent, "--recipe", recipe, "--seeds", 2)
    shown, _ = call(*options, "--rows", "none, ul_hn_an", "--quiet")
    assert "UL + HN + AN" in shown
    assert f"{made.report.lines[0].mean('auc'):.4f}" in shown
    assert "0.9259" in shown
    assert max(map(len, shown.splitlines()[:-1])) <= 80
    printed = json.loads(call(*options, "--rows", ",".join(ROWS), "--quiet", "--json")[0])
    assert printed["rows"]["none"]["auc"]["mean"] == made.report.lines[0].mean("auc")
    assert printed["margin"]["paper"]["auc"] == 0.015
    assert printed["runs"] == {"done": 4, "total": 4}
    assert Path(printed["html"]) == made.html


def test_the_commands_exit_statuses(
    made: Reproduction, dataset: Dataset, recipe: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = ("--data", dataset.folder, "--out", tmp_path / "out", "--recipe", recipe, "--quiet")
    assert "table2 has the rows" in call("table2", *options, "--rows", "pan", status=2)[1]
    assert "lacks what 4 of 4 rows need" in call("table2", *options, "--set", "text.source=stored", status=2)[1]
    assert not (tmp_path / "out").exists()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", interrupted)
    assert call("table2", *options, status=130)[1].endswith("interrupted\n")


def test_a_report_is_a_path(made: Reproduction) -> None:
    assert Path(made) == made.html
    assert list(made.report.to_json()["rows"]) == ROWS
