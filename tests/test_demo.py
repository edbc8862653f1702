"""The demo, on a tiny world: it runs through, its report stands alone, and what it holds against the truth is right."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from panfit.data.wardrobe import Truth, WardrobeConfig, read_truth
from panfit.demo import RECIPES, overlaid, run_demo, stored_config, trunk_config
from panfit.demo_story import different_eyes
from panfit.errors import DataError
from panfit.explain import score_parts, spatial_maps
from panfit.loading import load
from panfit.model.batch import OutfitBatch
from panfit.pointing import measure_pointing
from panfit.recommend import Recommender
from panfit.scoring import OutfitScorer


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo of the tiny world."""
    out = tmp_path_factory.mktemp("demo") / "out"
    small = {"images": {"size": 32}, "backbone": {"width": 2, "attributes": 4}, "model": {"code_bits": 16}}
    trunk = overlaid(trunk_config(), small | {"pretrain": {"epochs": 1}}, seed=3)
    page = run_demo(out, seed=3, world=WardrobeConfig.tiny(), trunk=trunk, shared=stored_config(trunk, epochs=1))
    assert page == out / "report.html"
    return out


@pytest.fixture(scope="module")
def pan(demo: Path) -> Recommender:
    return load(demo / "runs" / RECIPES[-1].folder)


@pytest.fixture(scope="module")
def truth(demo: Path) -> Truth:
    return read_truth(demo / "wardrobe")


def test_the_report_stands_alone_and_shows_every_recipe(demo: Path) -> None:
    page = (demo / "report.html").read_text("utf-8")
    assert "http" not in page
    for recipe in RECIPES:
        assert f"<b>{recipe.name}</b>" in page
    assert page.count('class="card"') >= 6
    assert len(re.findall("<figure>", page)) == 2 * 3


def test_the_numbers_are_written_too(demo: Path) -> None:
    numbers = json.loads((demo / "results.json").read_text("utf-8"))
    assert list(numbers["recipes"]) == [recipe.name for recipe in RECIPES]
    assert numbers["ceiling"]["random"]["auc"] > 0.85
    assert set(numbers["recipes"]["UL"]) == {"random", "hard"}
    assert numbers["seconds"]["drawing the wardrobe"] > 0


def test_the_recipes_differ_in_values_only() -> None:
    shared = stored_config(trunk_config())
    configs = [overlaid(shared, recipe.changes) for recipe in RECIPES]
    assert [config.attention.kind for config in configs] == ["none", "none", "none", "pan"]
    assert [config.loss.lambda_user > 0 for config in configs] == [False, True, True, True]
    assert [config.negatives.hard_ratio > 0 for config in configs] == [False, False, True, True]
    same = {"attention": shared.attention, "loss": shared.loss, "negatives": shared.negatives}
    assert len({config.model_copy(update=same).model_dump_json() for config in configs}) == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine", "utf-8")
    with pytest.raises(DataError, match="did not make"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_parts_of_a_score_are_its_score(pan: Recommender) -> None:
    outfits = pan.dataset.likes["test"].take(np.arange(5))
    for binary in (True, False):
        general, personal = score_parts(pan.pan, pan.inputs, outfits, binary=binary)
        assert np.abs(personal).max() > 0
        wanted = OutfitScorer(pan.pan, pan.inputs).scores(outfits, binary=binary)
        np.testing.assert_allclose(general + personal, wanted, rtol=1e-4, atol=1e-4)


def test_spatial_maps_are_the_models(pan: Recommender) -> None:
    users, items = np.array([4, 1]), pan.dataset.likes["test"].items[0]
    maps = spatial_maps(pan.pan, pan.inputs, users, items)
    assert maps.shape == (2, 3, 4, 4)
    model = pan.model.eval()
    for place, user in enumerate(users.tolist()):
        batch = OutfitBatch(
            inputs=pan.inputs.batch(items),
            categories=pan.inputs.categories[items],
            text=None,
            users=torch.tensor([user]),
            items=torch.arange(3)[None],
        )
        with torch.inference_mode():
            wanted = model(batch).spatial_map[0, :, 0].double().numpy()  # (S, H, W)
        np.testing.assert_allclose(maps[place], wanted, rtol=1e-5)


def test_pointing_is_measured_on_so_many_garments_of_each_category(pan: Recommender, truth: Truth) -> None:
    pools = pan.dataset.split_items("test")
    measured = [
        measure_pointing(pan.pan, pan.inputs, truth, pools, np.random.default_rng(0), per_category=1) for _ in range(2)
    ]
    assert measured[0] == measured[1]
    assert measured[0].garments == len(pools)
    assert 0 < measured[0].users <= len(truth.groups)
    every = measure_pointing(pan.pan, pan.inputs, truth, pools, np.random.default_rng(0), per_category=None)
    assert every.garments == sum(map(len, pools))


def test_the_two_users_are_of_different_groups(truth: Truth, rng: np.random.Generator) -> None:
    first, second = different_eyes(truth, rng)
    assert truth.groups[first] != truth.groups[second]
