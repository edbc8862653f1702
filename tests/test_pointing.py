"""Maps against the truth: plain loops agree, maps of known answers get them, and places that tie count their share."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from panfit.data.wardrobe import Truth, WardrobeConfig, draw_wardrobe
from panfit.data.wardrobe_truth import CATEGORIES
from panfit.heat import upsample
from panfit.metrics import auc
from panfit.outfits import IntArray
from panfit.pointing import DECIMALS, EVERYWHERE, Measure, hold, places_of, point

LITTLE = 1e-9
"""What a planted map looks at where there is nothing to see: maps must be positive."""


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return draw_wardrobe(WardrobeConfig.tiny(), tmp_path_factory.mktemp("wardrobe")).truth


@pytest.fixture
def items(truth: Truth) -> IntArray:
    """Two garments of each category."""
    return np.concatenate([np.flatnonzero(truth.categories == category)[:2] for category in range(len(CATEGORIES))])


def users_of(truth: Truth) -> IntArray:
    return np.arange(len(truth.groups))


def planted(truth: Truth, items: IntArray) -> NDArray[np.float64]:
    """(M, N, h, w) maps that look where their user cares and nowhere else."""
    places = np.stack([places_of(truth, users_of(truth), item) for item in items.tolist()], axis=1)
    return places.astype(np.float64) + LITTLE


# ---- one garment


def in_loops(look: NDArray[np.float64], inside: NDArray[np.bool_]) -> tuple[float, float, float]:
    """One pair of eyes and one user, as one would say it: the game, the mass, the pairs."""
    top = [place for place in range(len(look)) if look[place] == max(look)]
    game = sum(bool(inside[place]) for place in top) / len(top)
    total = sum(2**value for value in look)
    on_places = sum(2 ** look[place] for place in range(len(look)) if inside[place])
    mass = (on_places / total) / (sum(map(bool, inside)) / len(look))
    return game, mass, auc(look[inside], look[~inside])


def test_tables_equal_plain_loops_with_ties(rng: np.random.Generator) -> None:
    looks = rng.integers(-3, 3, (4, 23)) / 2  # (E, P) few values: most pixels tie
    inside = rng.random((5, 23)) < 0.3  # (U, P)
    tables = np.stack(hold(looks, inside))  # (3, E, U)
    expected = [[in_loops(look, where) for where in inside] for look in looks]
    np.testing.assert_allclose(tables, np.moveaxis(np.array(expected), 2, 0))


def test_a_map_that_is_the_region_points_perfectly(rng: np.random.Generator) -> None:
    inside = rng.random((5, 40)) < 0.3  # (U, P)
    game, mass, pairs = (np.diag(table) for table in hold(np.log2(inside + LITTLE), inside))
    np.testing.assert_allclose(game, 1)
    np.testing.assert_allclose(mass, 1 / inside.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(pairs, 1)


def test_a_map_that_is_the_rest_points_nowhere(rng: np.random.Generator) -> None:
    inside = rng.random((5, 40)) < 0.3  # (U, P)
    game, mass, pairs = (np.diag(table) for table in hold(np.log2(~inside + LITTLE), inside))
    np.testing.assert_allclose(np.stack([game, mass, pairs]), 0, atol=1e-6)


def test_a_uniform_map_is_chance(rng: np.random.Generator) -> None:
    inside = rng.random((5, 40)) < 0.3  # (U, P)
    game, mass, pairs = hold(np.full((1, 40), -4.321), inside)
    np.testing.assert_allclose(game[0], inside.mean(axis=1))
    np.testing.assert_allclose(mass, 1)
    np.testing.assert_allclose(pairs, 0.5)


# ---- a world


def test_a_world_in_plain_loops(truth: Truth, items: IntArray, rng: np.random.Generator) -> None:
    """One number of each kind, garment by garment and user by user."""
    maps = rng.uniform(0.5, 2.0, (len(truth.groups), len(items), 4, 4))
    found = point(maps, items, truth)
    rows = []
    for user in users_of(truth).tolist():
        for column, item in enumerate(items.tolist()):
            garment = truth.factor_region(item, EVERYWHERE)
            region = np.zeros_like(garment)
            for factor in truth.cares(user, item):
                if factor != EVERYWHERE:
                    region |= truth.factor_region(item, factor)
            inside = region[garment]
            if not inside.any() or inside.all():
                continue
            shares = np.stack([each / each.sum() for each in maps[:, column]])
            mean = shares.mean(axis=0)
            looks = [np.log2(share / mean) for share in shares]
            seen = [upsample(look, truth.image_size)[garment].round(DECIMALS) for look in [*looks, np.log2(mean)]]
            others = [other for other in users_of(truth).tolist() if truth.groups[other] != truth.groups[user]]
            another = np.mean([in_loops(seen[other], inside) for other in others], axis=0)
            rows.append((*in_loops(seen[user], inside), *another, *in_loops(seen[-1], inside), inside.mean()))
    expected = np.mean(rows, axis=0)
    measures = (found.game, found.mass, found.pairs)
    numbers = [getattr(each, name) for name in ("own", "another", "nobody") for each in measures]
    np.testing.assert_allclose([*numbers, found.chance], expected)
    for measure in measures:
        assert measure.difference == pytest.approx(measure.own - measure.another)


def test_users_own_maps_beat_those_of_others_where_each_looks_where_he_cares(truth: Truth, items: IntArray) -> None:
    found = point(planted(truth, items), items, truth)
    assert found.game.own == 1
    assert found.game.own_ci95 == pytest.approx((1, 1))
    assert set(found.game.own_by_category) == set(CATEGORIES)
    for measure in (found.game, found.mass, found.pairs):
        assert measure.own > measure.another
        assert measure.difference_ci95[0] > 0
        assert measure.p_value < 0.01
    assert found.mass.own > 1 > found.mass.another
    assert found.pairs.own > 0.9


@pytest.mark.parametrize("side", [3, 4, 7])
def test_maps_of_one_outline_for_everybody_are_chance(truth: Truth, items: IntArray, side: int) -> None:
    """Whatever everybody sees points nowhere; only nobody's map shows it. Rounding must not break the ties."""
    outline = np.random.default_rng(2).uniform(0.5, 2.0, (1, len(items), side, side))
    level = np.linspace(1, 3, len(truth.groups))[:, None, None, None]
    found = point(level * outline, items, truth)
    for measure, chance in ((found.game, found.chance), (found.mass, 1), (found.pairs, 0.5)):
        assert measure.own == pytest.approx(chance)
        assert measure.another == pytest.approx(chance)
        assert measure.difference == pytest.approx(0)
        assert measure.nobody != pytest.approx(chance, rel=1e-3)


def test_users_who_care_only_about_color_are_left_out(truth: Truth, items: IntArray) -> None:
    whole = point(planted(truth, items), items, truth)
    tastes = np.zeros_like(truth.tastes)
    tastes[1:] = truth.tastes[1:]
    for row in range(len(CATEGORIES)):
        color = list(truth.shown(int(items[2 * row]))).index(EVERYWHERE)
        tastes[0, row, color] = 1.0  # user 0: nothing but color
    found = point(planted(truth, items), items, replace(truth, tastes=tastes))
    assert found.users == whole.users - 1
    only_color = np.zeros_like(truth.tastes)
    nothing = point(planted(truth, items), items, replace(truth, tastes=only_color))
    assert nothing.users == 0
    plain = nothing.to_json()
    assert plain["own"] is None
    assert plain["own_ci95"] == [None, None]
    json.dumps(plain, allow_nan=False)


def test_a_result_is_plain_values(truth: Truth, items: IntArray) -> None:
    found = point(planted(truth, items), items, truth)
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["own"] == found.game.own
    assert plain["own_ci95"] == list(found.game.own_ci95)
    assert plain["own_by_category"] == dict(found.game.own_by_category)
    assert (plain["mass_nobody"], plain["pairs_own"]) == (found.mass.nobody, found.pairs.own)
    assert {f"pairs_{name}" for name in Measure.__dataclass_fields__} < set(plain)
    assert plain["garments"] == len(items)


def test_a_world_of_one_group_is_refused(truth: Truth, items: IntArray) -> None:
    alike = replace(truth, groups=np.zeros_like(truth.groups))
    with pytest.raises(ValueError, match="one group"):
        point(planted(truth, items), items, alike)


def test_regions_are_those_of_the_truth_without_color(truth: Truth, items: IntArray) -> None:
    item = int(items[0])
    places = places_of(truth, users_of(truth), item, size=16)
    assert places.shape == (len(truth.groups), 16, 16)
    for user, where in enumerate(places):
        without_color = set(truth.cares(user, item)) - {EVERYWHERE}
        assert where.any() == bool(without_color)
        assert (where & ~truth.regions(user, item, size=16)).sum() == 0
