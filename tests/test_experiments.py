"""The experiments' rows are configs that parse, with names that make file names."""

from pathlib import Path

import pytest

from benchmarks import experiments
from benchmarks.newcomers import FOLDS, without
from panfit.config import Config
from panfit.data.folder import read_dataset
from panfit.data.wardrobe import WardrobeConfig, draw_wardrobe
from panfit.results import NAME
from panfit.train.run_folder import check_learnable


@pytest.mark.parametrize("config", ["closet.toml", "wardrobe.toml"])
@pytest.mark.parametrize("row", experiments.CODES)
def test_rows_of_the_code_study_differ_from_their_recipe(config: str, row: str) -> None:
    recipe = Config.read(experiments.ROOT / "configs" / config)
    changed = Config.read(experiments.ROOT / "configs" / config, [*experiments.SAME, *experiments.CODES[row], "seed=3"])
    assert changed != recipe
    assert NAME.fullmatch(row)


@pytest.mark.parametrize("row", experiments.CLOSET_WITHOUT)
def test_rows_without_a_part_parse(row: str) -> None:
    changes = experiments.CLOSET_WITHOUT[row]
    assert Config.read(experiments.ROOT / "configs/closet.toml", changes) != Config.read(
        experiments.ROOT / "configs/closet.toml"
    )
    assert NAME.fullmatch(row)


@pytest.mark.parametrize("row", [*experiments.OPTIONS, *experiments.PAPERS])
def test_options_differ_from_the_small_recipe_and_from_one_another(row: str) -> None:
    path = experiments.ROOT / "configs" / "small" / "table2-ul_hn_an.toml"
    options = {**experiments.OPTIONS, **experiments.PAPERS}
    configs = {name: Config.read(path, changes) for name, changes in options.items()}
    assert [name for name, config in configs.items() if config == configs[row]] == [row]
    assert NAME.fullmatch(row)


def test_a_model_can_be_trained_without_any_fold_of_users(tmp_path: Path) -> None:
    draw_wardrobe(WardrobeConfig.tiny(), tmp_path / "world")
    dataset = read_dataset(tmp_path / "world")
    everybody = set(range(len(dataset.user_ids)))
    for fold in range(FOLDS):
        seen = without(dataset, fold)
        check_learnable(seen)
        for users in (seen.likes["train"].users, seen.likes["val"].users, seen.fitb["val"].outfits.users):
            assert set(users.tolist()) == {user for user in everybody if user % FOLDS != fold}
