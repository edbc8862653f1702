"""Faithfulness: marks, hiding and changes equal plain loops; a planted gaze is found out, a gaze at nothing is too."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from panfit import faithful
from panfit.config import Config
from panfit.data.wardrobe import Truth, Wardrobe, WardrobeConfig, draw_wardrobe
from panfit.explain import relative_maps, spatial_maps
from panfit.faithful import (
    Hidden,
    edge_share,
    mark,
    measure_faithfulness,
    painted,
    strongest,
    turned,
)
from panfit.features.inputs import ItemInputs, build_inputs
from panfit.heat import upsample
from panfit.methods import shape_of
from panfit.model.attention import UserAwareAttention, UserMap
from panfit.model.batch import OutfitBatch
from panfit.model.pan import Pan
from panfit.pointing import EVERYWHERE

SIZE, BETA = 32, 1.3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Wardrobe:
    return draw_wardrobe(WardrobeConfig.tiny(), tmp_path_factory.mktemp("faithful") / "data")


@pytest.fixture(scope="module")
def inputs(world: Wardrobe) -> ItemInputs:
    return build_inputs(world.dataset, settings())


def settings(**attention: Any) -> Config:
    return Config.parse(
        {
            "images": {"size": SIZE},
            "text": {"source": "none"},
            "backbone": {"width": 4, "head": "flatten"},
            "attention": {"gate": "softmax", **attention},
            "model": {"code_bits": 64, "image_hidden": 32, "user_init_std": 1.0, "encoder_init_std": 0.3},
        }
    )


def gazing(world: Wardrobe, inputs: ItemInputs, *, sharp: float, **attention: Any) -> Pan:
    """A model whose users look at a few places each; the sharper, the fewer."""
    generator = torch.Generator().manual_seed(5)
    model = Pan(settings(**attention), shape_of(world.dataset, inputs), generator=generator).eval()
    if isinstance(model.attention, UserAwareAttention):
        assert isinstance(model.attention.spatial.user, UserMap)
        with torch.no_grad():
            model.attention.spatial.user.weight.normal_(std=sharp, generator=generator)
    return model


def measure(world: Wardrobe, model: Pan, inputs: ItemInputs, **options: Any) -> dict[tuple[str, str, str], Hidden]:
    chosen: dict[str, Any] = {"per_category": 2, "draws": 2, "beta": BETA, **options}
    cases = measure_faithfulness(
        model, inputs, world.truth, world.dataset.split_items("test"), np.random.default_rng(0), **chosen
    )
    return {(case.marks, case.fill, case.codes): case for case in cases}


# ---- marks


def test_the_strongest_of_the_allowed_places() -> None:
    values = np.array([[5.0, 4.0, 3.0], [2.0, 1.0, 3.0]])
    allowed = np.array([[False, True, True], [True, True, True]])
    assert strongest(values, allowed, 2).tolist() == [[False, True, True], [False, False, False]]
    assert strongest(values, allowed, 3).sum() == 3


def test_a_turned_map_has_the_same_values_elsewhere(rng: np.random.Generator) -> None:
    grid = np.arange(16.0).reshape(4, 4)
    found = [turned(grid, rng) for _ in range(20)]
    assert all((np.sort(each.ravel()) == grid.ravel()).all() for each in found)
    assert len({each.tobytes() for each in found}) > 10
    peak = {tuple(np.argwhere(each == 15)[0].tolist()) for each in found}
    assert len(peak) > 6


@pytest.mark.parametrize("fill", ["mean", "ground"])
def test_only_the_place_is_painted_over(world: Wardrobe, inputs: ItemInputs, fill: faithful.Fill) -> None:
    item = int(world.dataset.split_items("test")[0][0])
    photo = np.asarray(inputs.source[item])  # type: ignore[index]
    garment = world.truth.factor_region(item, EVERYWHERE, size=SIZE)
    places = np.zeros((2, SIZE, SIZE), dtype=bool)
    places[0, 12:15, 10:20] = True
    found = painted(photo, places, garment, fill)
    np.testing.assert_array_equal(found[1], photo)
    np.testing.assert_array_equal(found[0][:, ~places[0]], photo[:, ~places[0]])
    average = photo[:, garment].mean(axis=1) if fill == "mean" else np.median(photo[:, ~garment], axis=1)
    np.testing.assert_allclose(found[0][:, 13, 15], average, atol=0.51)
    assert np.ptp(found[0][:, places[0]], axis=1).max() == 0


def test_edges() -> None:
    places = np.zeros((3, 9, 9), dtype=bool)
    places[0, 2:7, 2:7] = True  # 25 pixels, 9 of them inside
    places[1, ::2, ::2] = True
    places[2] = True
    np.testing.assert_allclose(edge_share(places), [16 / 25, 1, 32 / 81])


def test_marks_are_on_the_garment_and_of_one_size(world: Wardrobe, rng: np.random.Generator) -> None:
    item = int(world.dataset.split_items("test")[2][0])
    maps = rng.uniform(0.5, 2.0, (len(world.truth.groups), 4, 4))
    garment = world.truth.factor_region(item, EVERYWHERE, size=SIZE)
    for marks, values in (("relative", relative_maps(maps)), ("absolute", maps)):
        place = mark(marks, maps, world.truth, item, size=SIZE, share=0.2)  # type: ignore[arg-type]
        assert (place.marks.sum(axis=(1, 2)) == round(0.2 * garment.sum())).all()
        assert not place.marks[:, ~garment].any()
        for user, marked in enumerate(place.marks):
            seen = upsample(np.log2(values[user]) if marks == "absolute" else values[user], SIZE)
            assert seen[marked].min() >= seen[garment & ~marked].max()


def test_what_is_true_is_marked_where_there_is_such_a_place(world: Wardrobe) -> None:
    truth, maps = world.truth, np.ones((len(world.truth.groups), 4, 4))
    counted = 0
    for item in np.concatenate(world.dataset.split_items("test")).tolist():
        place = mark("truth", maps, truth, item, size=SIZE, share=0.2)
        garment = truth.factor_region(item, EVERYWHERE, size=SIZE)
        for user in range(len(truth.groups)):
            region = np.zeros_like(garment)
            for factor in truth.cares(user, item):
                if factor != EVERYWHERE:
                    region |= truth.factor_region(item, factor, size=SIZE)
            region &= garment
            if region.any() and 2 * region.sum() <= garment.sum():
                row = place.users.tolist().index(user)
                np.testing.assert_array_equal(place.marks[row], region)
                assert place.grids[row].mean() == pytest.approx(region.mean())
                counted += 1
            else:
                assert user not in place.users
    assert counted > 10


# ---- changes


def personal(model: Pan, inputs: ItemInputs, photo: NDArray[np.uint8], item: int, user: int, *, binary: bool) -> float:
    """The personal score of one photo worn alone by one user."""
    alone = ItemInputs(photo[None], inputs.categories[item : item + 1], None, inputs.images)
    slot = int(inputs.categories[item])
    batch = OutfitBatch(
        inputs=alone.batch(np.zeros(1, dtype=np.int64)),
        categories=alone.categories,
        text=None,
        users=torch.tensor([user]),
        items=torch.tensor([[0 if place == slot else -1 for place in range(3)]]),
    )
    with torch.inference_mode():
        return float(model(batch, beta=BETA, binary=binary).personal[0])


@pytest.mark.parametrize("marks", ["relative", "absolute", "truth"])
def test_changes_equal_plain_loops(world: Wardrobe, inputs: ItemInputs, marks: faithful.Marks) -> None:
    model = gazing(world, inputs, sharp=1.0)
    truth, pools = world.truth, world.dataset.split_items("test")
    found = measure(world, model, inputs, per_category=1, fills=["mean"])
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(pool)[:1] for pool in pools])
    maps = spatial_maps(model, inputs, np.arange(6), items, beta=BETA)  # (M, N, H, W)
    own: dict[bool, list[float]] = {True: [], False: []}
    another: dict[bool, list[float]] = {True: [], False: []}
    for column, item in enumerate(items.tolist()):
        place = mark(marks, maps[:, column], truth, item, size=SIZE, share=faithful.SHARE)
        photo = np.asarray(inputs.source[item])  # type: ignore[index]
        hidden = painted(photo, place.marks, place.garment, "mean")
        for user in place.users.tolist():
            others = [row for row, other in enumerate(place.users) if truth.groups[other] != truth.groups[user]]
            if not others:
                continue
            mine = place.users.tolist().index(user)
            for binary in (True, False):
                whole = personal(model, inputs, photo, item, user, binary=binary)
                change = [abs(personal(model, inputs, each, item, user, binary=binary) - whole) for each in hidden]
                own[binary].append(change[mine])
                another[binary].append(float(np.mean([change[row] for row in others])))
    for binary in (True, False):
        case = found[marks, "mean", "binary" if binary else "relaxed"]
        assert case.own.value == pytest.approx(np.mean(own[binary]), abs=1e-5)
        assert case.another.value == pytest.approx(np.mean(another[binary]), abs=1e-5)
        assert case.above_another.value == pytest.approx(case.own.value - case.another.value)
        assert case.ratio == pytest.approx(case.own.value / case.elsewhere.value)


def test_as_much_is_hidden_elsewhere_and_never_the_marked(
    world: Wardrobe, inputs: ItemInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def spied(photo: Any, places: Any, garment: Any, fill: Any) -> Any:
        calls.append((places, garment))
        return painted(photo, places, garment, fill)

    monkeypatch.setattr(faithful, "painted", spied)
    measure(world, gazing(world, inputs, sharp=1.0), inputs, draws=3, fills=["ground"])
    assert len(calls) > 6
    for places, garment in calls:
        num_users = len(places) // 4
        marks, elsewhere = places[:num_users], places[num_users:].reshape(num_users, 3, SIZE, SIZE)
        assert (elsewhere.sum(axis=(2, 3)) == marks.sum(axis=(1, 2))[:, None]).all()
        assert not (elsewhere & marks[:, None]).any()
        assert not places[:, ~garment].any()


def plant(monkeypatch: pytest.MonkeyPatch, weights: NDArray[np.float64]) -> None:
    """Scores become what a user sees: the photo's mean under his own weights (M, N, h, w), N all items."""

    def scores(self: Any, photos: Any, item: int, pair_photos: Any, pair_users: Any) -> NDArray[np.float64]:
        gray = photos.mean(axis=1)  # (n, h, w)
        seen = (gray[pair_photos] * weights[pair_users, item]).mean(axis=(1, 2))  # (P,)
        return np.stack([seen, seen])

    monkeypatch.setattr(faithful._Experiment, "_scores", scores)


@pytest.mark.parametrize("fill", ["mean", "ground"])
def test_maps_that_steer_the_score_are_found_faithful(
    world: Wardrobe, inputs: ItemInputs, monkeypatch: pytest.MonkeyPatch, fill: faithful.Fill
) -> None:
    model = gazing(world, inputs, sharp=1.0)
    everything = np.arange(len(inputs))
    maps = spatial_maps(model, inputs, np.arange(6), everything, beta=BETA)  # (M, N, H, W)
    plant(monkeypatch, upsample(maps, SIZE))
    found = measure(world, model, inputs, per_category=None, fills=[fill])
    case = found["absolute", fill, "binary"]
    assert case.ratio > 1.5
    assert case.above_elsewhere.ci95[0] > 0
    assert case.above_another.ci95[0] > 0
    assert case.above_elsewhere.p_value < 0.01


def test_maps_that_do_not_steer_the_score_are_found_out(
    world: Wardrobe, inputs: ItemInputs, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    model = gazing(world, inputs, sharp=1.0)
    maps = spatial_maps(model, inputs, np.arange(6), np.arange(len(inputs)), beta=BETA)  # (M, N, H, W)
    plant(monkeypatch, upsample(1 / maps, SIZE))  # users see where their maps say they do not look
    case = measure(world, model, inputs, per_category=None, fills=["ground"])["absolute", "ground", "binary"]
    assert case.ratio < 0.8
    assert case.above_elsewhere.ci95[1] < 0
    plant(monkeypatch, np.ones((6, len(inputs), SIZE, SIZE)))  # or everywhere alike
    case = measure(world, model, inputs, per_category=None, fills=["ground"])["absolute", "ground", "binary"]
    assert 0.8 < case.ratio < 1.25


def test_the_same_seed_measures_the_same(world: Wardrobe, inputs: ItemInputs) -> None:
    model = gazing(world, inputs, sharp=1.0)
    assert measure(world, model, inputs) == measure(world, model, inputs)


# ---- refusals


def test_refusals(world: Wardrobe, inputs: ItemInputs) -> None:
    model = gazing(world, inputs, sharp=1.0)
    with pytest.raises(ValueError, match=r"between 0 and 0\.5"):
        measure(world, model, inputs, share=0.5)
    lonely: Truth = replace(world.truth, groups=np.zeros_like(world.truth.groups))
    with pytest.raises(ValueError, match="one group"):
        measure(replace(world, truth=lonely), model, inputs)
    with pytest.raises(ValueError, match="attention"):
        measure(world, gazing(world, inputs, sharp=1.0, kind="none"), inputs)


def test_a_world_without_places_has_no_numbers(world: Wardrobe, inputs: ItemInputs) -> None:
    careless = replace(world.truth, tastes=np.zeros_like(world.truth.tastes))
    found = measure(replace(world, truth=careless), gazing(world, inputs, sharp=1.0), inputs)
    assert math.isnan(found["truth", "mean", "binary"].own.value)
    assert math.isnan(found["truth", "mean", "binary"].ratio)
    assert found["relative", "mean", "binary"].hidden_share == pytest.approx(faithful.SHARE, abs=0.01)
    assert found["relative", "mean", "binary"].own.value > 0
