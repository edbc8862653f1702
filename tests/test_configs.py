"""Every shipped config parses, is a lab notebook, builds a model; the paper's recipes differ as they say, and run."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from panfit.config import Config
from panfit.data.folder import read_dataset, write_dataset
from panfit.data.polyvore_u import Subset, import_polyvore_u
from panfit.demo import trunk_config
from panfit.evaluate import evaluate
from panfit.loading import load
from panfit.methods import LEARNED, make_model
from panfit.model.batch import PanShape
from panfit.outfits import Dataset
from panfit.reproduce.recipe import read_rows
from panfit.reproduce.rows import POLYVORE_519, POLYVORE_630, TABLES, Row, Table
from panfit.train.loop import fit
from tests.polyvore_layout import write_layout

FOLDER = Path(__file__).parent.parent / "configs"
CONFIGS = sorted(FOLDER.rglob("*.toml"))
IDS = [str(path.relative_to(FOLDER)) for path in CONFIGS]
NOTES = ("Purpose", "Command", "Hardware", "Expected")
"""What the header of a config must say (design: a config is a lab notebook)."""

STORED_MAPS = {"resnet50": (2048, 7, 7)}
"""Of the trunks whose stored maps a config reads: the shape that `panfit features` makes."""

PAPER, PAPER_519, VISUAL = FOLDER / "paper", FOLDER / "paper" / "519", FOLDER / "paper" / "visual"
RECIPES = {PAPER: POLYVORE_630, PAPER_519: POLYVORE_519, VISUAL: POLYVORE_630}
"""A folder of the paper's recipes -> the data set that it is for."""
ROWS = [(folder, table, row) for folder in RECIPES for table in TABLES.values() for row in table.rows]
SHIPPED = [(folder, table, row) for folder, table, row in ROWS if (folder / row.config_file).exists()]
SHIPPED_IDS = [str((folder / row.config_file).relative_to(PAPER)) for folder, _, row in SHIPPED]

RATES = {f"optimizer.{group}" for group in ("user", "image_encoder", "text_encoder", "predictor")}
"""In which FHN's settings for 519, and without text, differ from those for 630."""
ADDITIONS = {"attention.kind", "loss.lambda_user", "negatives.hard_ratio"}
"""PAN's, each a value."""
RIVALS = {"siamese", "bilstm", "csn"}


def header(path: Path) -> str:
    found = re.match(r"(#.*\n)+", path.read_text("utf-8"))
    assert found
    return found[0]


def differing(first: Path, second: Path) -> set[str]:
    """``section.key`` of the settings in which two configs differ."""
    one, other = Config.read(first).model_dump(), Config.read(second).model_dump()
    changed = {section for section in one if not isinstance(one[section], dict) and one[section] != other[section]}
    for section, values in one.items():
        if isinstance(values, dict):
            changed |= {f"{section}.{key}" for key in values if values[key] != other[section][key]}
    return changed


def sections(settings: Iterable[str]) -> set[str]:
    return {setting.partition(".")[0] for setting in settings}


def test_there_are_configs() -> None:
    assert {"closet.toml", "demo.toml"} <= set(IDS)


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_a_config_parses_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = Config.read(path)
    (tmp_path / "again.toml").write_text(config.to_toml(), "utf-8")
    assert Config.read(tmp_path / "again.toml") == config


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_a_config_is_a_lab_notebook(path: Path) -> None:
    said = header(path)
    assert [note for note in NOTES if f"# {note}" not in said] == []


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_a_command_names_its_own_file(path: Path) -> None:
    named = re.findall(r"configs/\S+\.toml(?= --data)", header(path))
    assert set(named) <= {f"configs/{path.relative_to(FOLDER)}"}


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_a_config_builds_a_model(path: Path) -> None:
    config = Config.read(path)
    config = config.model_copy(update={"backbone": config.backbone.model_copy(update={"weights": None})})
    if config.backbone.name == "hf" or config.method not in LEARNED:
        pytest.skip("needs files that are not shipped, or has nothing to build")
    size = config.images.size
    shape = PanShape(
        num_users=3,
        slots=(("top", "top"), ("shoe", "shoe")),
        categories=("top", "shoe"),
        text_dim=None if config.text.source == "none" else 5,
        input_shape=STORED_MAPS[config.backbone.name] if config.backbone.source == "stored" else (3, size, size),
    )
    groups = make_model(config, shape, generator=torch.Generator().manual_seed(config.seed)).parameter_groups()
    assert groups["image_encoder"]
    assert bool(groups.get("user")) == (config.method == "pan")


def test_the_demos_config_is_the_demos() -> None:
    assert Config.read(FOLDER / "demo.toml") == trunk_config()


# ---- the paper's recipes


def test_every_row_of_the_paper_has_its_recipe() -> None:
    without = {str((folder / row.config_file).relative_to(PAPER)) for folder, _, row in ROWS} - set(SHIPPED_IDS)
    assert {path for path in without if not path.startswith("visual/")} == set()
    shipped = {str(path.relative_to(PAPER)) for path in PAPER.rglob("*.toml")}
    assert shipped == set(SHIPPED_IDS)
    assert len([path for path in shipped if path.startswith("visual/")]) == 3


@pytest.mark.parametrize(("folder", "table", "row"), SHIPPED, ids=SHIPPED_IDS)
def test_a_recipe_expects_what_the_paper_prints(folder: Path, table: Table, row: Row) -> None:
    said = header(folder / row.config_file)
    scores = table.paper[RECIPES[folder]].get(row.name)
    if scores is None:
        assert "no number in the paper" in said
    else:
        told = f"FITB {scores.fitb:.4f}, AUC {scores.auc:.4f}, NDCG {scores.ndcg:.4f}".replace(" 0.", " .")
        assert told in re.sub(r"\s*\n#\s*", " ", said)
    assert f"panfit reproduce {table.name} " in said
    assert f"--rows {row.name}" in said


@pytest.mark.parametrize("folder", [PAPER, PAPER_519])
def test_table_2_adds_one_value_after_the_other(folder: Path) -> None:
    none, ul, ul_hn, ul_hn_an = (folder / row.config_file for row in TABLES["table2"].rows)
    assert differing(none, ul) == {"loss.lambda_user"}
    assert differing(ul, ul_hn) == {"negatives.hard_ratio"}
    assert differing(ul_hn, ul_hn_an) == {"attention.kind"}


@pytest.mark.parametrize("folder", [PAPER, PAPER_519, VISUAL])
def test_fhn_is_pan_without_its_three_additions(folder: Path) -> None:
    assert differing(folder / "table1-pan.toml", folder / "table1-fhn.toml") == ADDITIONS


@pytest.mark.parametrize("folder", [PAPER, PAPER_519])
def test_rivals_have_pans_trunk_photos_and_negatives(folder: Path) -> None:
    """Their own loss, optimizer and text; what PAN adds, and what only PAN reads, set to nothing."""
    for name in sorted(RIVALS):
        changed = differing(folder / "table1-pan.toml", folder / f"table1-{name}.toml")
        own = {setting for setting in changed if sections([setting]) <= {name, "optimizer"}}
        assert changed - own <= {"method", "loss.lambda_vse", "text.source", "train.beta"} | ADDITIONS
    for name in ("popularity", "linear"):
        changed = differing(folder / "table1-pan.toml", folder / f"table1-{name}.toml")
        assert "images" not in sections(changed), "the photos are decoded once for all rows"


def test_519_differs_from_630_in_rates_alone() -> None:
    for table in TABLES.values():
        for row in table.rows:
            changed = differing(PAPER / row.config_file, PAPER_519 / row.config_file)
            of_pan = table.name == "table2" or row.name in ("fhn", "pan")
            assert changed == (RATES if of_pan else set()), row.name


def test_without_text_the_text_branch_and_rates_differ_alone() -> None:
    for name in ("table1-fhn.toml", "table1-pan.toml", "table2-ul_hn_an.toml"):
        changed = differing(PAPER / name, VISUAL / name)
        assert changed == {"text.source", "loss.lambda_vse"} | RATES - {"optimizer.text_encoder"}, name


@pytest.fixture(scope="module")
def polyvore(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Data set name -> a release of that name in miniature, with photos and text, as a folder."""
    made = {}
    subsets: tuple[Subset, ...] = ("630", "519")
    for subset in subsets:
        folder = tmp_path_factory.mktemp(f"polyvore-{subset}")
        layout = write_layout(folder / "source", np.random.default_rng(8), subset=subset, num_likes=(20, 10, 10))
        imported = import_polyvore_u(layout.root, subset=subset, images=layout.root / "images" / "291x291").dataset
        write_dataset(imported, folder / "data", source="a test")
        made[imported.name] = read_dataset(folder / "data")
    return made


@pytest.mark.parametrize(("folder", "table", "row"), SHIPPED, ids=SHIPPED_IDS)
def test_a_recipe_runs_in_small(
    folder: Path, table: Table, row: Row, polyvore: dict[str, Dataset], tmp_path: Path
) -> None:
    dataset = polyvore[RECIPES[folder]]
    config = read_rows(folder, [row], smoke=True)[row.name]
    assert (config.backbone.source, config.backbone.name, config.train.epochs) == ("images", "small", 1)
    fit(config, dataset, tmp_path / "run", progress=False)
    result = evaluate(load(tmp_path / "run").scorer, dataset, split="test", negatives="random", resamples=0)
    assert 0 <= result.auc <= 1
    assert result.questions == len(dataset.fitb["test"])
