"""complete() and compose() equal brute force: all outfits scored by `score`, filtered, sorted, made diverse by hand."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from panfit import complete, people, search
from panfit.answers import Filters
from panfit.compose import Canvas, best_outfits
from panfit.config import Config
from panfit.errors import CheckpointError, DataError, UnknownIdError
from panfit.features.inputs import ItemInputs
from panfit.ids import OutfitIds
from panfit.methods import make_model, shape_of
from panfit.newcomers import Newcomer
from panfit.outfits import Catalogue, Dataset, Outfits, Slot
from panfit.recommend import Recommender
from panfit.scoring import OutfitScorer

SLOTS = (Slot("top", "top"), Slot("top2", "top"), Slot("bottom", "bottom"), Slot("shoe", "shoe"))
COUNTS = {"top": 7, "bottom": 5, "shoe": 6}
SETTINGS: dict[str, dict[str, object]] = {
    "images": {"size": 16},
    "text": {"source": "none"},
    "backbone": {"width": 4},
    "model": {"code_bits": 16, "image_hidden": 11, "user_init_std": 1.0, "encoder_init_std": 0.3},
}


def make_dataset(slots: tuple[Slot, ...] = SLOTS) -> Dataset:
    """3 users; 7 tops, 5 bottoms, 6 shoes, mixed in the catalogue's order."""
    ids = [f"{category}-{index}" for category, count in COUNTS.items() for index in range(count)]
    ids = [ids[place] for place in np.random.default_rng(4).permutation(len(ids))]
    catalogue = Catalogue(
        item_ids=tuple(ids),
        item_categories=tuple(item_id.partition("-")[0] for item_id in ids),
        images=(None,) * len(ids),
        titles=(None,) * len(ids),
        categories=("top", "bottom", "shoe"),
        image_root=Path(),
    )
    first = [catalogue.row_of[f"{slot.category}-{place}"] for place, slot in enumerate(slots)]
    likes = {"train": Outfits(np.arange(3), np.array([first] * 3))}
    return Dataset(
        name="small",
        slots=slots,
        user_ids=("ann", "bob", "eve"),
        catalogue=catalogue,
        likes=likes,  # type: ignore[arg-type]
    )


def make_recommender(dataset: Dataset, *, text: bool = False, **sections: dict[str, object]) -> Recommender:
    config = Config.parse({name: {**values, **sections.get(name, {})} for name, values in SETTINGS.items()})
    generator = torch.Generator().manual_seed(3)
    inputs = ItemInputs(
        np.random.default_rng(8).integers(0, 256, (len(dataset.catalogue), 3, 16, 16), dtype=np.uint8),
        torch.from_numpy(dataset.catalogue.category_rows.copy()),
        torch.randn(len(dataset.catalogue), 5, generator=generator) if text else None,
        config.images,
    )
    model = make_model(config, shape_of(dataset, inputs), generator=generator).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
    return Recommender(model, dataset, inputs, beta=1.5)


@pytest.fixture
def recommender() -> Recommender:
    return make_recommender(make_dataset(), text=True, model={"pair_weight": "full", "learn_alpha": True})


def brute_force(
    recommender: Recommender,
    user: str | Newcomer,
    given: Mapping[str, str],
    slots: Iterable[str],
    among: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
) -> list[tuple[OutfitIds, float]]:
    """Every outfit that wears the given items and one candidate in each of the slots, best first."""
    catalogue = recommender.dataset.catalogue
    allowed = set(catalogue.item_ids if among is None else among) - set(exclude) - set(given.values())
    columns = []
    for slot in recommender.dataset.slots:
        if slot.name in slots:
            columns.append([each for each in catalogue.item_ids if each in allowed and each.startswith(slot.category)])
        else:
            columns.append([given.get(slot.name)])  # type: ignore[list-item]
    outfits: dict[frozenset[str | None], OutfitIds] = {}
    for outfit in itertools.product(*columns):
        worn = [item for item in outfit if item is not None]
        if len(set(worn)) == len(worn):
            rows = tuple(-1 if item is None else catalogue.row_of[item] for item in outfit)
            key = frozenset(worn)
            if key not in outfits or rows < tuple(
                -1 if item is None else catalogue.row_of[item] for item in outfits[key]
            ):
                outfits[key] = outfit
    scores = recommender.score(user, list(outfits.values()))
    return sorted(zip(outfits.values(), scores.tolist(), strict=True), key=lambda each: -each[1])


def assert_same(found: tuple[list[OutfitIds], np.ndarray], wanted: list[tuple[OutfitIds, float]]) -> None:
    """The same scores in the same order; outfits may differ where scores are equal to rounding."""
    outfits, scores = found
    assert len(outfits) == len(wanted)
    np.testing.assert_allclose(scores, [score for _, score in wanted], rtol=0, atol=1e-5)
    assert (np.diff(scores) <= 0).all()
    by_outfit = {tuple(sorted(map(str, outfit))): score for outfit, score in wanted}
    assert len({tuple(sorted(map(str, outfit))) for outfit in outfits}) == len(outfits)
    for outfit, score in zip(outfits, scores, strict=True):
        near = [each for each, value in by_outfit.items() if abs(value - score) < 1e-5]
        assert tuple(sorted(map(str, outfit))) in near or len(near) > 1 or abs(score - wanted[-1][1]) < 1e-5


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("top", [1, 4, 100])
@pytest.mark.parametrize("slot", ["top", "top2", "bottom", "shoe"])
def test_one_open_slot_is_brute_force(slot: str, top: int, text: bool) -> None:
    recommender = make_recommender(make_dataset(), text=text)
    given = {"top": "top-1", "top2": "top-4", "bottom": "bottom-2", "shoe": "shoe-3"}
    del given[slot]
    found = recommender.complete("bob", given, top, slots=[slot])
    wanted = brute_force(recommender, "bob", given, [slot])
    assert_same(found, wanted[:top])
    for outfit in found[0]:  # never the wrong slot
        assert all(item is None or item.startswith(place.category) for item, place in zip(outfit, SLOTS, strict=True))


def test_one_item_alone_is_completed_too(recommender: Recommender) -> None:
    found = recommender.complete("ann", {"shoe": "shoe-0"}, 50, slots=["bottom"])
    assert_same(found, brute_force(recommender, "ann", {"shoe": "shoe-0"}, ["bottom"]))
    assert found[0][0][0] is None


def test_open_slots_are_those_whose_category_is_not_worn(recommender: Recommender) -> None:
    outfits, _ = recommender.complete("ann", {"top2": "top-1", "bottom": "bottom-2"}, 3)
    assert all(outfit[0] is None and outfit[3] is not None for outfit in outfits)
    outfits, _ = recommender.complete("ann", {}, 3)
    assert all(outfit[1] is None and None not in (outfit[0], outfit[2], outfit[3]) for outfit in outfits)


@pytest.mark.parametrize("slots", [["top", "bottom"], ["bottom", "shoe"], ["top", "top2"], ["top", "top2", "shoe"]])
def test_full_width_is_brute_force(recommender: Recommender, slots: list[str]) -> None:
    given = {"bottom": "bottom-1", "shoe": "shoe-2", "top2": "top-0"}
    given = {name: item for name, item in given.items() if name not in slots}
    wanted = brute_force(recommender, "eve", given, slots)
    assert_same(recommender.complete("eve", given, 10_000, slots=slots, width=10_000), wanted)
    assert_same(recommender.complete("eve", given, 9, slots=slots, width=10_000), wanted[:9])


def test_a_narrow_beam_gives_true_scores_and_never_beats_brute_force(recommender: Recommender) -> None:
    slots = ["top", "top2", "bottom", "shoe"]
    wanted = brute_force(recommender, "eve", {}, slots)
    for width in (1, 3, 20):
        outfits, scores = recommender.compose("eve", 5, slots=slots, width=width, repeat=None)
        assert len(outfits) == 5
        np.testing.assert_array_equal(recommender.score("eve", outfits), scores)
        assert all(score <= best + 1e-5 for score, (_, best) in zip(scores, wanted, strict=False))
    assert abs(scores[0] - wanted[0][1]) < 1e-5  # width 20 of 3,150 outfits


def diversify(
    ranked: list[tuple[OutfitIds, float]], given: set[str], top: int, repeat: int
) -> list[tuple[OutfitIds, float]]:
    """By hand: always the best outfit whose chosen items are not used up; if there is none, one more use for each."""
    chosen: list[tuple[OutfitIds, float]] = []
    used: Counter[str] = Counter()
    while len(chosen) < min(top, len(ranked)):
        for outfit, score in ranked:
            items = [item for item in outfit if item is not None and item not in given]
            if (outfit, score) not in chosen and all(used[item] < repeat for item in items):
                chosen.append((outfit, score))
                used.update(items)
                break
        else:
            repeat += 1
    return sorted(chosen, key=lambda each: -each[1])


@pytest.mark.parametrize(("repeat", "top"), [(1, 4), (1, 9), (2, 12), (3, 7), (2, 1000)])
def test_diverse_compositions_are_greedy_by_hand(recommender: Recommender, repeat: int, top: int) -> None:
    slots, given = ["top", "bottom"], {"shoe": "shoe-5"}
    ranked = brute_force(recommender, "ann", given, slots)
    found = recommender.compose("ann", top, given=given, slots=slots, repeat=repeat, width=10_000)
    assert_same(found, diversify(ranked, {"shoe-5"}, top, repeat))
    if top <= 4:
        used = Counter(item for outfit in found[0] for item in outfit if item != "shoe-5")
        assert max(count for item, count in used.items() if item is not None) <= repeat


def test_compose_repeats_no_shirt_ten_times(recommender: Recommender) -> None:
    outfits, _ = recommender.compose("bob", 8)
    assert len(outfits) == 8
    assert max(Counter(outfit[0] for outfit in outfits).values()) <= 2
    free, _ = recommender.compose("bob", 8, repeat=None)
    assert free[0] == outfits[0]


def test_recommend_composes_what_is_not_known_yet(recommender: Recommender) -> None:
    composed, scores = recommender.compose("ann", 6)
    liker = Newcomer("liker", tuple(composed[:2]), (composed[3],), recommender.people.embedding("ann"))
    outfits, found = recommender.recommend(liker, 2, source="composed")
    assert outfits == [composed[2], composed[4]]
    np.testing.assert_array_equal(found, scores[[2, 4]])
    assert recommender.recommend(liker, 2, source="composed", exclude_known=False)[0] == composed[:2]
    assert len(recommender.recommend(liker, 1000, source="composed")[0]) == 7 * 5 * 6 - 3
    with pytest.raises(ValueError, match="composed outfits are chosen by binary codes"):
        recommender.recommend("ann", source="composed", codes="relaxed")


def test_filters(recommender: Recommender) -> None:
    mine = ["top-0", "top-3", "bottom-1", "bottom-4", "shoe-2", "shoe-5"]
    found = recommender.compose("bob", 100, among=mine, repeat=None)
    assert_same(found, brute_force(recommender, "bob", {}, ["top", "bottom", "shoe"], among=mine))
    assert len(found[0]) == 8
    found = recommender.complete("bob", {"top": "top-1", "shoe": "shoe-1"}, 100, exclude=["bottom-3", "top-5"])
    assert_same(
        found, brute_force(recommender, "bob", {"top": "top-1", "shoe": "shoe-1"}, ["bottom"], exclude=["bottom-3"])
    )
    recommender.withdraw(["bottom-0", "top-0"])
    outfits, _ = recommender.complete("bob", {"top": "top-1", "shoe": "shoe-1"}, 100)
    assert {outfit[2] for outfit in outfits} == {f"bottom-{place}" for place in (1, 2, 3, 4)}
    assert all("top-0" not in outfit for outfit in recommender.recommend("bob", 100, exclude_known=False)[0])
    recommender.offer(["bottom-0"])
    assert len(recommender.complete("bob", {"top": "top-1", "shoe": "shoe-1"}, 100)[0]) == 5


def test_a_batch_of_users_equals_a_loop(recommender: Recommender) -> None:
    me = Newcomer("me", likes=(), dislikes=(), embedding=torch.randn(16, generator=torch.Generator().manual_seed(1)))
    users: list[str | Newcomer] = ["eve", me, "ann"]
    outfits, scores = recommender.complete(users, {"top": "top-1", "bottom": "bottom-2"}, 3)
    for user, some, values in zip(users, outfits, scores, strict=True):
        alone, alone_scores = recommender.complete(user, {"top": "top-1", "bottom": "bottom-2"}, 3)
        assert some == alone
        np.testing.assert_array_equal(values, alone_scores)
    assert_same(
        (outfits[1], scores[1]), brute_force(recommender, me, {"top": "top-1", "bottom": "bottom-2"}, ["shoe"])[:3]
    )


def drawn_questions(count: int, seed: int) -> list[tuple[str | Newcomer, dict[str, str], int, Filters]]:
    """Whoever, whatever is given, one or several slots open, with all sorts of filters."""
    rng = np.random.default_rng(seed)
    me = Newcomer("me", likes=(), dislikes=(), embedding=torch.randn(16, generator=torch.Generator().manual_seed(1)))
    people: tuple[str | Newcomer, ...] = ("ann", "bob", "eve", me)
    questions = []
    for _ in range(count):
        worn = {slot.name: f"{slot.category}-{int(rng.integers(COUNTS[slot.category]))}" for slot in SLOTS}
        if worn["top"] == worn["top2"]:
            worn["top2"] = "top-0" if worn["top"] != "top-0" else "top-1"
        names = rng.permutation([slot.name for slot in SLOTS])
        slots = names[: int(rng.integers(1, 4))].tolist()
        filters = Filters(slots=slots, width=int(rng.integers(1, 9)))
        if rng.random() < 0.3:
            filters["repeat"] = 1 + int(rng.integers(2))
        if rng.random() < 0.3:
            filters["exclude"] = ["shoe-0", "top-3"]
        given = {name: item for name, item in worn.items() if name not in slots and rng.random() < 0.9}
        questions.append((people[int(rng.integers(4))], given, 1 + int(rng.integers(12)), filters))
    return questions


@pytest.mark.parametrize(("pair_weight", "together"), [("diagonal", 1024), ("diagonal", 9), ("full", 1024)])
@pytest.mark.parametrize("shortlisted", [False, True])
def test_different_questions_are_answered_together_as_each_alone(
    pair_weight: str, together: int, shortlisted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complete, "TOGETHER", together)
    monkeypatch.setattr(complete, "LEAST", 3)
    recommender, alone = (make_recommender(make_dataset(), model={"pair_weight": pair_weight}) for _ in range(2))
    questions = drawn_questions(60, seed=together)
    if shortlisted:
        for each in (recommender, alone):
            each.prepare(2)
        for *_, filters in questions:
            filters["search"] = "two-stage"
    asked = [recommender.unfinished(user, given, top, **filters) for user, given, top, filters in questions]
    assert {len(each.choices) for each in asked} == {1, 2, 3}
    finished = recommender.finish(asked)
    for (user, given, top, filters), found in zip(questions, finished, strict=True):
        outfits, scores = alone.complete(user, given, top, **filters)
        general, personal = alone.score_parts(user, outfits)
        assert found.outfits == outfits
        for values, wanted in zip(
            (found.scores, found.general, found.personal), (scores, general, personal), strict=True
        ):
            np.testing.assert_array_equal(values, wanted)
        np.testing.assert_array_equal(alone.score(user, outfits), scores)
    assert recommender.finish([]) == []


def test_one_open_slot_is_searched_as_a_beam_would(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates that are worn already, which only `Completer` can be asked about, are left out in both."""
    completer, eyes = recommender._completer, recommender.people.embedding("bob")
    worn = recommender.ids.given_rows({"top": "top-1", "top2": "top-5", "bottom": "bottom-2", "shoe": "shoe-3"})
    category = recommender.dataset.catalogue.category_rows
    beamed: list[int] = []

    def beam(
        asked: list[complete.Unfinished], viewer_codes: Any, given_codes: Any, pools: Any, places: list[int]
    ) -> list[np.ndarray]:
        assert places == [0]
        canvas = Canvas(recommender.pan.predictor, viewer_codes[0], asked[0].worn, given_codes[0])
        outfits, _ = best_outfits(canvas, pools[0], top=asked[0].top)
        beamed.append(len(outfits))
        return [outfits]

    for slot, item in enumerate(worn.tolist()):
        others = np.where(np.arange(4) == slot, -1, worn)
        asked = complete.Unfinished(eyes, others, {slot: np.flatnonzero(category == category[item])}, top=50)
        (found,) = completer.finish([asked])
        with monkeypatch.context() as patched:
            patched.setattr(completer, "_searched", beam)
            (wanted,) = completer.finish([asked])
        np.testing.assert_array_equal(found.outfits, wanted.outfits)
        np.testing.assert_array_equal(found.scores, wanted.scores)
    assert beamed == [6, 6, 5, 6]


def test_what_takes_long_is_known_beforehand(recommender: Recommender) -> None:
    one = recommender.unfinished("ann", {"top": "top-1", "bottom": "bottom-2"}, 3)
    two = recommender.unfinished("ann", {"top": "top-1"}, 3)
    assert not recommender.is_light(one), "her codes are still to be made"
    recommender.finish([one])
    assert recommender.is_light(one)
    recommender.compose("ann", 1)
    assert not recommender.is_light(two)
    assert not recommender.is_light(recommender.unfinished("bob", {"top": "top-1", "bottom": "bottom-2"}, 3))
    with pytest.raises(UnknownIdError, match="no item 'hat'"):
        recommender.unfinished("ann", {"top": "hat"})
    with pytest.raises(DataError, match="no slot is open"):
        recommender.unfinished("ann", {"top": "top-1", "bottom": "bottom-2", "shoe": "shoe-3"})


def test_kept_indexes_are_bounded_and_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FEW_ROWS", 2)  # of which there is an index, then
    recommender, bounded = (make_recommender(make_dataset()) for _ in range(2))
    one = recommender._completer._pools
    few = bounded._completer._pools
    few._index_bytes = 0
    for user in ("ann", "bob", "eve", "ann"):
        for given in ({"top": "top-1", "bottom": "bottom-2"}, {"top": "top-1", "shoe": "shoe-2"}):
            found, wanted = (each.complete(user, given, 4) for each in (bounded, recommender))
            assert found[0] == wanted[0]
            np.testing.assert_array_equal(found[1], wanted[1])
    assert (len(few._indexes), len(one._indexes)) == (1, 6)
    for pools in (one, few):
        assert pools.num_bytes == sum(index.num_bytes for index in pools._indexes.values()) > 0


def test_embeddings_are_remembered_up_to_a_bound(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "KEPT_EMBEDDINGS", 2)
    seen = [recommender.people.embedding(name) for name in ("ann", "bob", "ann", "eve", "ann", "bob")]
    assert seen[0] is seen[2] is seen[4]
    assert seen[1] is not seen[5]
    table = recommender.people.everybody()
    for row, place in ((0, 0), (1, 1), (2, 3), (1, 5)):
        torch.testing.assert_close(seen[place], table[row], rtol=0, atol=0)


def test_a_user_in_a_newcomers_clothes_is_the_user(recommender: Recommender) -> None:
    twin = Newcomer("twin", likes=(), dislikes=(), embedding=recommender.people.embedding("bob"))
    outfits, scores = recommender.compose("bob", 6)
    twins, twin_scores = recommender.compose(twin, 6)
    assert outfits == twins
    np.testing.assert_array_equal(scores, twin_scores)
    known = recommender.dataset.catalogue.ids(recommender.dataset.likes["train"].items[0].tolist())
    liker = dataclasses.replace(twin, likes=(known,))
    assert known in recommender.recommend(twin)[0]
    assert known not in recommender.recommend(liker)[0]


def test_similar_users_are_sorted_cosines(recommender: Recommender) -> None:
    ids, cosines = recommender.similar_users("bob", 5)
    table = recommender.pan.user_encoder.embedding.weight.detach().double().numpy()
    wanted = {
        name: float(table[row] @ table[1] / np.linalg.norm(table[row]) / np.linalg.norm(table[1]))
        for row, name in enumerate(("ann", "bob", "eve"))
        if name != "bob"
    }
    assert ids == sorted(wanted, key=lambda name: -wanted[name])
    np.testing.assert_allclose(cosines, [wanted[name] for name in ids], rtol=1e-5)
    twin = Newcomer("twin", likes=(), dislikes=(), embedding=recommender.people.embedding("bob"))
    assert recommender.similar_users(twin, 1)[0] == ["bob"]


def test_similar_items_share_bits_as_the_user_sees_them(recommender: Recommender) -> None:
    recommender.withdraw(["top-6"])
    ids, shares = recommender.similar_items("eve", "top-2", 50)
    assert sorted(ids) == ["top-0", "top-1", "top-3", "top-4", "top-5"]
    assert isinstance(recommender.scorer, OutfitScorer)
    rows = np.array([recommender.ids.item_row(item) for item in ["top-2", *ids]])
    eyes = recommender.people.embedding("eve")[None]
    codes = recommender.scorer.coder.codes(eyes, np.zeros(6, dtype=np.int64), rows, binary=True).flatten(1)
    equal = (codes[1:] == codes[:1]).double().mean(1).numpy()
    np.testing.assert_allclose(shares, equal, atol=1e-9)
    assert (np.diff(shares) <= 0).all()
    assert recommender.similar_items("eve", "top-2", 2)[0] == ids[:2]
    with pytest.raises(UnknownIdError, match="no item 'hat'"):
        recommender.similar_items("eve", "hat")


def test_every_answer_comes_in_a_batch(recommender: Recommender) -> None:
    me = Newcomer("me", likes=(), dislikes=(), embedding=torch.randn(16, generator=torch.Generator().manual_seed(1)))
    users: list[str | Newcomer] = ["eve", me, "ann"]
    outfits = [("top-1", None, "bottom-2", "shoe-3"), ("top-1", "top-2", "bottom-4", None)]
    for user, scores in zip(users, recommender.score(users, outfits), strict=True):
        np.testing.assert_array_equal(scores, recommender.score(user, outfits))
    for user, (ids, likeness) in zip(users, recommender.similar_users(users, 2), strict=True):
        alone, alone_likeness = recommender.similar_users(user, 2)
        assert ids == alone
        np.testing.assert_array_equal(likeness, alone_likeness)
    for user, (ids, likeness) in zip(users, recommender.similar_items(users, "shoe-1", 3), strict=True):
        alone, alone_likeness = recommender.similar_items(user, "shoe-1", 3)
        assert ids == alone
        np.testing.assert_array_equal(likeness, alone_likeness)
    for user, (some, values) in zip(users, zip(*recommender.compose(users, 3), strict=True), strict=True):
        assert some == recommender.compose(user, 3)[0]
        np.testing.assert_array_equal(values, recommender.compose(user, 3)[1])
    with pytest.raises(UnknownIdError, match="no user 'you'"):
        recommender.score(["ann", "you"], outfits)


def test_mistakes_say_what_to_do(recommender: Recommender) -> None:
    whole = {"top": "top-1", "bottom": "bottom-2", "shoe": "shoe-3"}
    with pytest.raises(UnknownIdError, match="no user 'anna'; the nearest: 'ann'"):
        recommender.complete("anna", {"top": "top-1"})
    with pytest.raises(UnknownIdError, match="no item 'topp-1'; the nearest: 'top-1'"):
        recommender.complete("ann", {"top": "topp-1"})
    with pytest.raises(UnknownIdError, match="no slot 'hat'; its slots: top, top2, bottom, shoe"):
        recommender.complete("ann", {"hat": "top-1"})
    with pytest.raises(DataError, match="'shoe-1' of category 'shoe' in slot 'bottom'"):
        recommender.complete("ann", {"bottom": "shoe-1"})
    with pytest.raises(DataError, match="'top-1' a second time, in slot 'top2'"):
        recommender.complete("ann", {"top": "top-1", "top2": "top-1"})
    with pytest.raises(DataError, match=r"no slot is open.*name the slots to fill"):
        recommender.complete("ann", whole)
    with pytest.raises(DataError, match="no slot is open"):
        recommender.complete("ann", {**whole, "top2": "top-2"})
    with pytest.raises(DataError, match="'shoe' is to be filled, but an item is given"):
        recommender.complete("ann", whole, slots=["shoe"])
    with pytest.raises(DataError, match=r"slot 'top' \(category 'top'\) and slot 'bottom'.* the 0 item"):
        recommender.compose("ann", given={"shoe": "shoe-1"}, among=[])
    with pytest.raises(DataError, match=r"nothing is left for slot 'shoe' \(category 'shoe'\): the 2 item"):
        recommender.compose("ann", among=["top-1", "bottom-1"])
    with pytest.raises(DataError, match="1 item is left for the slots 'top' and 'top2'"):
        recommender.compose("ann", slots=["top", "top2"], among=["top-1"])
    with pytest.raises(DataError, match="no slot is asked for"):
        recommender.compose("ann", slots=[])
    with pytest.raises(TypeError, match="several item ids"):
        recommender.compose("ann", among="top-1")
    for wrong in ({"top": 0}, {"width": 0}, {"repeat": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            recommender.compose("ann", **wrong)  # type: ignore[call-overload]
    stranger = Newcomer("stranger", likes=(), dislikes=(), embedding=torch.zeros(8))
    with pytest.raises(CheckpointError, match="made for another model"):
        recommender.compose(stranger)
