"""Explanations: parts as Eq. 4 in plain loops has them, sums to the last digit, the model's maps, the best swap."""

import json
import math

import numpy as np
import pytest
import torch

from panfit import explain
from panfit.codes import CachedScores
from panfit.explain import NO_ATTENTION, looks, relative_maps, spatial_maps
from panfit.model.batch import OutfitBatch
from panfit.outfits import ABSENT, Outfits
from panfit.swaps import swap_choices
from tests import oracles
from tests.explaining import SLOTS, USERS, Closet, make_closet

WORN = ("top-0", "top-1", "bottom-2", "shoe-3")


@pytest.fixture(scope="module", params=["photos", "photos and text", "full weights"])
def closet(request: pytest.FixtureRequest) -> Closet:
    if request.param == "full weights":
        return make_closet(model={"code_bits": 24, "pair_weight": "full", "alpha": 0.7, "score_scale": 3.0})
    return make_closet(text=request.param == "photos and text")


@pytest.fixture(scope="module")
def plain() -> Closet:
    return make_closet()


# ---- the parts


@pytest.mark.parametrize("worn", [WORN, ("top-0", None, "bottom-2", "shoe-3"), (None, "top-4", None, "shoe-1")])
def test_totals_are_eq_4_in_plain_loops(closet: Closet, worn: tuple[str | None, ...]) -> None:
    found = closet.explain("bob", *worn)
    rows, coder, predictor = closet.rows(*worn), closet.coder, closet.model.predictor
    viewer = closet.viewer("bob")[None]
    codes = coder.codes(viewer, np.zeros(4, dtype=np.int64), np.maximum(rows, 0), binary=True)  # (S, V, D)
    with torch.no_grad():
        score, general, personal = oracles.preference(
            coder.viewer_codes(viewer, binary=True)[0].double(),
            codes.double(),
            (rows != ABSENT).tolist(),
            [slot.category for slot in SLOTS],
            predictor.user_item_weight.double(),
            predictor.item_item_weight.double(),
            alpha=float(predictor.alpha),
            scale=predictor.scale,
        )
    assert found.general == pytest.approx(float(general), abs=1e-5)
    assert found.personal == pytest.approx(float(personal), abs=1e-5)
    assert found.score == pytest.approx(float(score), abs=1e-5)
    assert abs(found.personal) > 0.01


def test_an_items_share_is_what_it_adds_alone(closet: Closet) -> None:
    found = closet.explain("eve", *WORN)
    for place, (slot, item_id) in enumerate(zip(found.slots, WORN, strict=True)):
        alone = closet.explain("eve", *(item_id if slot == place else None for slot in range(4)))
        assert found.by_item[slot] == pytest.approx(alone.personal / len(WORN), abs=1e-5)
        assert alone.general == 0
        assert alone.by_pair == {}


def test_a_pairs_share_is_what_it_has_together(closet: Closet) -> None:
    found = closet.explain("ann", *WORN)
    assert list(found.by_pair) == [
        ("top", "bottom"), ("top", "shoe"), ("second", "bottom"), ("second", "shoe"), ("bottom", "shoe"),
    ]  # fmt: skip
    for pair, share in found.by_pair.items():
        both = closet.explain(
            "ann", *(item if slot in pair else None for slot, item in zip(found.slots, WORN, strict=True))
        )
        assert share == pytest.approx(both.general / 5, abs=1e-5)


def test_parts_add_up_in_the_json_too(closet: Closet) -> None:
    for user in USERS:
        told = json.loads(json.dumps(closet.explain(user, *WORN).to_json()))
        assert abs(sum(told["by_item"].values()) - told["personal"]) < 1e-12
        assert abs(sum(pair["general"] for pair in told["by_pair"]) - told["general"]) < 1e-12
        assert told["general"] + told["personal"] == told["score"]


def test_the_score_is_the_recommenders(closet: Closet) -> None:
    score = CachedScores(closet.completer.tables)
    for user in USERS:
        wanted = score(closet.viewer(user), closet.rows(*WORN)[None], binary=True)
        assert closet.explain(user, *WORN).score == pytest.approx(wanted[0], abs=1e-5)


# ---- the maps


def test_maps_are_the_models(closet: Closet) -> None:
    found = closet.explain("eve", "top-0", None, "bottom-2", "shoe-3")
    rows = closet.rows("top-0", "bottom-2", "shoe-3")
    inputs = closet.coder.inputs
    batch = OutfitBatch(
        inputs=inputs.batch(rows),
        categories=inputs.categories[rows],
        text=None if inputs.text is None else inputs.text[rows],
        users=torch.tensor([USERS.index("eve")]),
        items=torch.tensor([[0, ABSENT, 1, 2]]),
    )
    with torch.inference_mode():
        output = closet.model(batch, beta=1.5)
    assert set(found.spatial_maps) == set(found.channel_maps) == {"top", "bottom", "shoe"}
    for place, slot in enumerate(found.slots):
        if slot != "second":
            np.testing.assert_allclose(found.spatial_maps[slot], output.spatial_map[0, place, 0], rtol=1e-5)
            np.testing.assert_allclose(found.channel_maps[slot], output.channel_map[0, place, :, 0, 0], rtol=1e-5)


def test_relative_maps_are_against_all_users(closet: Closet) -> None:
    found = closet.explain("bob", *WORN)
    maps = spatial_maps(closet.model, closet.coder.inputs, np.arange(3), closet.rows(*WORN), beta=1.5)  # (M, S, H, W)
    for place, slot in enumerate(found.slots):
        np.testing.assert_allclose(found.relative_maps[slot], relative_maps(maps[:, place])[1], atol=1e-5)
    assert max(np.abs(each).max() for each in found.relative_maps.values()) > 0.01


def test_of_many_users_some_stand_for_all(plain: Closet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "EVERYBODY", 2)
    found = plain.explain("bob", *WORN)
    maps = spatial_maps(plain.model, plain.coder.inputs, np.arange(3), plain.rows(*WORN), beta=1.5)  # (M, S, H, W)
    for place, slot in enumerate(found.slots):
        wanted = relative_maps(maps[1:2, place], everybody=maps[[0, 2], place])[0]
        np.testing.assert_allclose(found.relative_maps[slot], wanted, atol=1e-5)


def test_looks_in_blocks_are_looks_at_once(plain: Closet, monkeypatch: pytest.MonkeyPatch) -> None:
    eyes = torch.stack([plain.viewer(user) for user in USERS])
    at_once = looks(plain.coder, eyes, plain.rows(*WORN))
    monkeypatch.setattr(explain, "BATCH_PAIRS", 5)
    in_blocks = looks(plain.coder, eyes, plain.rows(*WORN))
    np.testing.assert_allclose(in_blocks.spatial, at_once.spatial, rtol=1e-5)
    np.testing.assert_allclose(in_blocks.channel, at_once.channel, rtol=1e-5)
    assert np.abs(at_once.spatial[0] - at_once.spatial[1]).max() > 0.01


def test_without_attention_everybody_sees_alike_and_is_told_so() -> None:
    found = make_closet(attention={"kind": "none"}).explain("ann", *WORN)
    assert not found.has_attention
    for slot in found.slots:
        assert (found.spatial_maps[slot] == 1).all()
        assert (found.channel_maps[slot] == 1).all()
        np.testing.assert_allclose(found.relative_maps[slot], 0, atol=1e-12)
    assert found.to_json()["attention"] == NO_ATTENTION
    assert abs(found.personal) > 0.01


def test_relative_maps_forget_the_garment_and_the_level(rng: np.random.Generator) -> None:
    garment = rng.uniform(0.5, 2.0, (3, 4))  # (H, W) what everybody sees
    same = np.stack([garment, 3 * garment])  # (U, H, W)
    assert np.allclose(relative_maps(same), 0)
    one_looks = same.copy()
    one_looks[0, 1, 2] *= 4
    relative = relative_maps(one_looks)
    assert np.unravel_index(relative[0].argmax(), (3, 4)) == (1, 2)
    assert np.unravel_index(relative[1].argmin(), (3, 4)) == (1, 2)
    assert relative[0, 1, 2] > 0 > relative[1, 1, 2]
    np.testing.assert_allclose(relative_maps(one_looks[:1], everybody=one_looks)[0], relative[0])


def test_relative_maps_want_positive_maps() -> None:
    with pytest.raises(ValueError, match="positive"):
        relative_maps(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="positive"):
        relative_maps(np.ones((2, 3, 4)), everybody=np.zeros((2, 3, 4)))


# ---- the best swap


def brute_force(closet: Closet, user: str, worn: tuple[str | None, ...], withdrawn: set[str]) -> float:
    """The best score after replacing one item by any other of its category; one by one."""
    score = CachedScores(closet.completer.tables)
    best = -math.inf
    for place, item_id in enumerate(worn):
        if item_id is None:
            continue
        for other in closet.dataset.catalogue.item_ids:
            if other in worn or other in withdrawn or not other.startswith(SLOTS[place].category):
                continue
            outfit = closet.rows(*(other if slot == place else each for slot, each in enumerate(worn)))
            best = max(best, float(score(closet.viewer(user), outfit[None], binary=True)[0]))
    return best


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("worn", [WORN, ("top-0", None, "bottom-2", None)])
def test_the_best_swap_is_the_best_of_all_swaps(closet: Closet, user: str, worn: tuple[str | None, ...]) -> None:
    found = closet.explain(user, *worn)
    score = brute_force(closet, user, worn, set())
    if score < found.score:
        assert found.swap is None
        return
    assert found.swap is not None
    assert found.swap.score == pytest.approx(score, abs=1e-5)
    assert found.swap.gain == pytest.approx(score - found.score, abs=1e-5)
    place = worn.index(found.swap.remove)
    assert found.swap.slot == found.slots[place]
    after = (*worn[:place], found.swap.add, *worn[place + 1 :])
    assert closet.explain(user, *after).score == pytest.approx(score, abs=1e-5)


def test_withdrawn_items_are_not_swapped_in(closet: Closet) -> None:
    first = closet.explain("ann", *WORN).swap
    assert first is not None
    offered = np.ones(len(closet.dataset.catalogue), dtype=np.bool_)
    offered[closet.dataset.catalogue.row_of[first.add]] = False
    second = closet.explain("ann", *WORN, offered=offered)
    score = brute_force(closet, "ann", WORN, {first.add})
    assert second.swap is None or second.swap.add != first.add
    assert (second.score if second.swap is None else second.swap.score) == pytest.approx(
        max(score, second.score), abs=1e-5
    )


def test_what_no_swap_raises_is_told_so(plain: Closet) -> None:
    worn: tuple[str, ...] = WORN
    for _ in range(30):  # climb until nothing is above
        swap = plain.explain("eve", *worn).swap
        if swap is None:
            break
        worn = tuple(swap.add if item_id == swap.remove else item_id for item_id in worn)
    score = brute_force(plain, "eve", worn, set())
    assert score <= plain.explain("eve", *worn).score + 1e-5
    assert plain.explain("eve", *worn).to_json()["best_swap"] is None


def test_items_without_any_rival_stay(plain: Closet) -> None:
    nothing_else = np.zeros(len(plain.dataset.catalogue), dtype=np.bool_)
    assert swap_choices(plain.dataset, plain.rows(*WORN), offered=nothing_else) == {}
    assert plain.explain("bob", *WORN, offered=nothing_else).swap is None


def test_choices_are_the_other_items_of_the_category(plain: Closet) -> None:
    everything = np.ones(len(plain.dataset.catalogue), dtype=np.bool_)
    worn = plain.rows("top-0", "top-1", None, "shoe-3")
    among = plain.rows("top-0", "top-5", "top-6", "bottom-1")
    assert {
        slot: set(plain.dataset.catalogue.ids(rows))
        for slot, rows in swap_choices(plain.dataset, worn, offered=everything, among=among).items()
    } == {0: {"top-5", "top-6"}, 1: {"top-5", "top-6"}}


# ---- users who are not the model's, and two at once


def test_anybody_with_an_embedding_has_an_explanation(plain: Closet) -> None:
    worn = plain.rows(*WORN)
    embedding = (plain.viewer("ann") + plain.viewer("eve")) / 2
    found = explain.explain_outfit(plain.completer, plain.dataset, "me", embedding.requires_grad_(), worn, choices={})
    assert (found.user, found.swap) == ("me", None)
    wanted = CachedScores(plain.completer.tables)(embedding.detach(), worn[None], binary=True)
    assert found.score == pytest.approx(wanted[0], abs=1e-5)


def test_two_users_on_one_outfit(plain: Closet) -> None:
    both = plain.compare("ann", "eve", *WORN)
    assert both.against is not None
    told = both.to_json()
    assert told["against"]["user"] == "eve"
    assert told["against"]["score"] == plain.explain("eve", *WORN).score != told["score"]
    assert told["against"]["against"] is None
    assert told["items"] == dict(zip(both.slots, WORN, strict=True))


def test_score_parts_of_a_batch_are_the_explanations(plain: Closet) -> None:
    outfits = Outfits(np.arange(3), np.stack([plain.rows(*WORN)] * 3))
    general, personal = explain.score_parts(plain.model, plain.coder.inputs, outfits)
    for row, user in enumerate(USERS):
        found = plain.explain(user, *WORN)
        assert general[row] == pytest.approx(found.general, abs=1e-5)
        assert personal[row] == pytest.approx(found.personal, abs=1e-5)
