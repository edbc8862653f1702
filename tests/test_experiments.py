"""The experiments' rows are configs that parse, with names that make file names."""

import pytest

from benchmarks import experiments
from panfit.config import Config
from panfit.results import NAME


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
