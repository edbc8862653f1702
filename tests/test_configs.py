"""Every shipped config parses, is a lab notebook, and builds a model."""

import re
from pathlib import Path

import pytest
import torch

from panfit.config import Config
from panfit.demo import trunk_config
from panfit.model.pan import Pan, PanShape

FOLDER = Path(__file__).parent.parent / "configs"
CONFIGS = sorted(FOLDER.rglob("*.toml"))
IDS = [str(path.relative_to(FOLDER)) for path in CONFIGS]
NOTES = ("Purpose", "Command", "Hardware", "Expected")
"""What the header of a config must say (design: a config is a lab notebook)."""


def test_there_are_configs() -> None:
    assert {"closet.toml", "demo.toml"} <= set(IDS)


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_a_config_parses_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = Config.read(path)
    (tmp_path / "again.toml").write_text(config.to_toml(), "utf-8")
    assert Config.read(tmp_path / "again.toml") == config


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_a_config_is_a_lab_notebook(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text("utf-8"))
    assert header
    assert [note for note in NOTES if f"# {note}" not in header[0]] == []


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_a_config_builds_a_model(path: Path) -> None:
    config = Config.read(path)
    config = config.model_copy(update={"backbone": config.backbone.model_copy(update={"weights": None})})
    if config.backbone.name == "hf" or config.backbone.source == "stored":
        pytest.skip("needs files that are not shipped")
    size = config.images.size
    shape = PanShape(
        num_users=3,
        slots=(("top", "top"), ("shoe", "shoe")),
        categories=("top", "shoe"),
        text_dim=None if config.text.source == "none" else 5,
        input_shape=(3, size, size),
    )
    groups = Pan(config, shape, generator=torch.Generator().manual_seed(config.seed)).parameter_groups()
    assert groups["user"]


def test_the_demos_config_is_the_demos() -> None:
    assert Config.read(FOLDER / "demo.toml") == trunk_config()
