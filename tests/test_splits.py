"""Splits, negatives and questions: seeded, disjoint, and never a known like."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panfit.data import fitb
from panfit.data.known import KnownOutfits
from panfit.data.negatives import NothingToDrawError
from panfit.data.splits import complete, draw_fitb, draw_item_splits, draw_negatives, draw_splits, known_outfits
from panfit.errors import DataError
from panfit.outfits import ABSENT, KINDS, SPLITS, Catalogue, Dataset, IntArray, Kind, Outfits, Slot

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32 - 1)


def outfits_of(rows: list[list[int]]) -> Outfits:
    """[[user, item, item ...], ...] -> Outfits."""
    table = np.array(rows, dtype=np.int64)
    return Outfits(table[:, 0], table[:, 1:])


def likes_of(seed: int, *, num_users: int = 4, num_likes: int = 23, sizes: tuple[int, ...] = (5, 4, 3)) -> Outfits:
    """Random distinct likes over slots with items 0..4, 5..8, 9..11; some first slots empty."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *sizes[:-1]])
    columns = [start + rng.integers(size, size=num_likes) for start, size in zip(starts, sizes, strict=True)]
    items = np.column_stack(columns).astype(np.int64)
    items[rng.random(num_likes) < 0.2, 0] = ABSENT
    rows = np.unique(np.column_stack([rng.integers(num_users, size=num_likes), items]), axis=0)
    return Outfits(rows[:, 0].astype(np.int64), rows[:, 1:].astype(np.int64))


def pools_of(likes: Outfits) -> list[IntArray]:
    return [np.unique(column[column != ABSENT]) for column in likes.items.T]


def rows_of(outfits: Outfits) -> list[tuple[int, ...]]:
    return list(map(tuple, np.column_stack([outfits.users, outfits.items]).tolist()))


# ---- splits


@QUICK
@given(st.lists(st.integers(0, 6), max_size=80), seeds)
def test_everybody_evaluated_is_trained_on(users: list[int], seed: int) -> None:
    splits = draw_splits(np.array(users, dtype=np.int64), rng=np.random.default_rng(seed))
    again = draw_splits(np.array(users, dtype=np.int64), rng=np.random.default_rng(seed))
    assert np.array_equal(splits, again)
    for user in set(users):
        counts = np.bincount(splits[np.array(users) == user], minlength=3)
        assert counts[0] >= 1
        assert (counts[2] >= 1) == (counts.sum() >= 2)
        assert (counts[1] >= 1) == (counts.sum() >= 3)


def test_shares_decide_for_users_with_many_likes() -> None:
    users = np.repeat(np.arange(3), 100).astype(np.int64)
    splits = draw_splits(users, rng=np.random.default_rng(0), val=0.15, test=0.3)
    for user in range(3):
        assert np.bincount(splits[users == user]).tolist() == [55, 15, 30]
    assert not np.array_equal(splits[:100], splits[100:200])


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (-0.1, 0.2), (0.1, -0.2)])
def test_shares_out_of_range_are_refused(val: float, test: float) -> None:
    with pytest.raises(ValueError, match="shares"):
        draw_splits(np.zeros(3, dtype=np.int64), rng=np.random.default_rng(0), val=val, test=test)


@QUICK
@given(seeds)
def test_item_splits_share_no_item(seed: int) -> None:
    likes = likes_of(seed, num_likes=60, sizes=(14, 11, 9))
    splits = draw_item_splits(likes.items, 34, rng=np.random.default_rng(seed))
    again = draw_item_splits(likes.items, 34, rng=np.random.default_rng(seed))
    assert np.array_equal(splits, again)
    worn = [set(likes.items[splits == split].ravel().tolist()) - {ABSENT} for split in range(3)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not worn[one] & worn[other]
    assert set(splits.tolist()) <= {-1, 0, 1, 2}


def test_improving_an_item_split_keeps_more_to_evaluate_on() -> None:
    rng = np.random.default_rng(3)
    groups = rng.integers(12, size=900)  # outfits live in groups of 10 items a slot: there is something to find
    items = np.column_stack([slot * 120 + groups * 10 + rng.integers(10, size=900) for slot in range(3)])
    blind = draw_item_splits(items, 360, rng=np.random.default_rng(1), rounds=0)
    better = draw_item_splits(items, 360, rng=np.random.default_rng(1))
    assert (better >= 1).sum() > 2 * (blind >= 1).sum()
    assert (better == 0).sum() > 0


# ---- negatives


@QUICK
@given(seeds, st.sampled_from(KINDS), st.integers(1, 4))
def test_a_negative_is_never_a_known_like(seed: int, kind: Kind, per_like: int) -> None:
    likes = likes_of(seed)
    known = set(rows_of(likes))
    draws = [
        draw_negatives(
            likes,
            pools_of(likes),
            kind=kind,
            per_like=per_like,
            known=KnownOutfits([likes]),
            rng=np.random.default_rng(seed + 1),
        )
        for _ in range(2)
    ]
    negatives = draws[0]
    assert rows_of(negatives) == rows_of(draws[1])
    assert np.array_equal(negatives.users, np.repeat(likes.users, per_like))
    assert not known & set(rows_of(negatives))
    if kind == "random":
        assert np.array_equal(negatives.mask, np.repeat(likes.mask, per_like, axis=0))
    else:
        liked_by_others = {row[1:] for row in known}
        assert {row[1:] for row in rows_of(negatives)} <= liked_by_others


def test_random_negatives_use_the_whole_pool_evenly() -> None:
    likes = outfits_of([[0, 0, 5], [0, 1, 6]])
    pools = [np.arange(5), np.arange(5, 9)]
    negatives = draw_negatives(
        likes, pools, kind="random", per_like=2000, known=KnownOutfits([likes]), rng=np.random.default_rng(0)
    )
    counts = np.bincount(negatives.items[:, 0], minlength=5)
    assert counts.min() > 600  # 800 each, but for the two likes


def test_the_last_outfit_that_is_left_is_found() -> None:
    """A user who likes all of 20 x 15 outfits but one: repeating the draw alone would rarely find it."""
    rows = [[0, top, 20 + bottom] for top in range(20) for bottom in range(15)]
    missing = rows.pop(137)
    likes = outfits_of(rows)
    negatives = draw_negatives(
        likes.take(np.array([3])),
        pools_of(likes),
        kind="random",
        per_like=4,
        known=KnownOutfits([likes]),
        rng=np.random.default_rng(0),
    )
    assert rows_of(negatives) == [tuple(missing)] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_who_likes_everything_has_no_negatives(kind: Kind) -> None:
    likes = outfits_of([[0, top, 2 + bottom] for top in range(2) for bottom in range(3)])
    with pytest.raises(NothingToDrawError) as caught:
        draw_negatives(
            likes,
            pools_of(likes),
            kind=kind,
            per_like=1,
            known=KnownOutfits([likes]),
            rng=np.random.default_rng(0),
        )
    assert caught.value.user == 0


# ---- fill in the blank


@QUICK
@given(seeds)
def test_questions_have_one_right_answer(seed: int) -> None:
    likes = likes_of(seed, sizes=(9, 8, 7))
    known = set(rows_of(likes))
    questions = draw_fitb(likes, pools_of(likes), known=KnownOutfits([likes]), rng=np.random.default_rng(seed))
    again = draw_fitb(likes, pools_of(likes), known=KnownOutfits([likes]), rng=np.random.default_rng(seed))
    assert np.array_equal(questions.candidates, again.candidates)
    assert set(rows_of(questions.outfits)) <= known
    filled = np.array(rows_of(questions.filled())).reshape(len(questions), 4, -1)
    for question in range(len(questions)):
        assert len(set(questions.candidates[question].tolist())) == 4
        right = [tuple(row) in known for row in filled[question].tolist()]
        assert right == [column == questions.answer[question] for column in range(4)]


def test_answers_stand_anywhere_and_every_filled_slot_is_blanked() -> None:
    likes = likes_of(1, num_likes=400, num_users=40, sizes=(30, 20, 10))
    questions = draw_fitb(likes, pools_of(likes), known=KnownOutfits([likes]), rng=np.random.default_rng(0))
    assert len(questions) == len(likes)
    assert np.bincount(questions.answer).min() > 60
    assert np.bincount(questions.blank).min() > 60
    assert questions.outfits.mask[np.arange(len(questions)), questions.blank].all()


def test_a_like_whose_slots_are_too_small_gets_no_question() -> None:
    likes = outfits_of([[0, 0, 2], [0, 1, 3]])
    questions = draw_fitb(likes, pools_of(likes), known=KnownOutfits([likes]), rng=np.random.default_rng(0))
    assert len(questions) == 0
    assert questions.candidates.shape == (0, 4)


def plain_fitb(
    likes: Outfits, pools: list[IntArray], known: KnownOutfits, rng: np.random.Generator
) -> list[tuple[int, int, list[int]]]:
    """(like, blank, wrong candidates) of each question, one like at a time."""
    found = []
    for row in range(len(likes)):
        for slot in rng.permutation(np.flatnonzero(likes.mask[row])):
            fitting: list[int] = []
            for tries in (min(len(pools[slot]), 8), len(pools[slot])):
                fitting = []
                for item in rng.choice(pools[slot], size=tries, replace=False):
                    outfit = likes.items[row].copy()
                    outfit[slot] = item
                    worn = [each for each in outfit.tolist() if each != ABSENT]
                    is_known = known.contains(likes.users[[row]], outfit[None])[0]
                    if not is_known and len(set(worn)) == len(worn) and item != likes.items[row, slot]:
                        fitting.append(int(item))
                if len(fitting) >= 3:
                    break
            if len(fitting) >= 3:
                found.append((row, int(slot), fitting[:3]))
                break
    return found


@pytest.mark.parametrize("sizes", [(30, 20, 10), (9, 8, 7), (12, 4, 3)])
def test_questions_are_drawn_in_blocks_as_they_are_one_by_one(
    sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many items no block has to be drawn again, with few every one."""
    monkeypatch.setattr(fitb, "BLOCK", 7)
    likes = likes_of(3, num_likes=60, num_users=5, sizes=sizes)
    known = KnownOutfits([likes])
    questions = draw_fitb(likes, pools_of(likes), known=known, rng=np.random.default_rng(5))
    plain = plain_fitb(likes, pools_of(likes), known, np.random.default_rng(5))
    assert questions.blank.tolist() == [slot for _, slot, _ in plain]
    assert rows_of(questions.outfits) == [rows_of(likes)[row] for row, _, _ in plain]
    for candidates, answer, (_, _, wrong) in zip(questions.candidates, questions.answer, plain, strict=True):
        assert sorted(np.delete(candidates, answer).tolist()) == sorted(wrong)


# ---- completing a data set


def test_complete_draws_what_is_missing_and_only_that(tiny_dataset: Dataset) -> None:
    whole = complete(tiny_dataset, seed=3)
    assert set(whole.negatives) == {(split, kind) for split in ("val", "test") for kind in KINDS}
    assert set(whole.fitb) == {"val", "test"}
    for split, kind in whole.negatives:
        assert len(whole.negatives[split, kind]) == 10 * len(tiny_dataset.likes[split])
        pools = tiny_dataset.split_items(split)
        for pool, column in zip(pools, whole.negatives[split, kind].items.T, strict=True):
            assert set(column.tolist()) <= set(pool.tolist())
    mine = whole.negatives["test", "random"].take(np.arange(7))
    part = replace(tiny_dataset, negatives={("test", "random"): mine}, fitb={"val": whole.fitb["val"]})
    completed = complete(part, seed=3)
    assert completed.negatives["test", "random"] is mine
    assert completed.fitb["val"] is whole.fitb["val"]
    for key in set(whole.negatives) - {("test", "random")}:
        assert rows_of(completed.negatives[key]) == rows_of(whole.negatives[key])  # whatever else was there
    assert np.array_equal(completed.fitb["test"].candidates, whole.fitb["test"].candidates)
    other = complete(tiny_dataset, seed=4)
    assert rows_of(other.negatives["val", "random"]) != rows_of(whole.negatives["val", "random"])


def two_tops(likes: dict[str, list[list[int]]]) -> Dataset:
    """Slots top, top2, bottom; 6 tops, 4 bottoms."""
    catalogue = Catalogue(
        item_ids=tuple(f"i{row}" for row in range(10)),
        item_categories=("top",) * 6 + ("bottom",) * 4,
        images=(None,) * 10,
        titles=(None,) * 10,
        categories=("top", "bottom"),
        image_root=Path(),
    )
    slots = (Slot("top", "top"), Slot("top2", "top"), Slot("bottom", "bottom"))
    found = {split: outfits_of(likes[split]) for split in SPLITS if split in likes}
    return Dataset("two", slots, ("a", "b"), catalogue, found)


def test_two_tops_in_the_other_order_are_the_same_like() -> None:
    likes = [[0, 0, 1, 6], [0, 2, 3, 7], [1, 4, ABSENT, 8], [1, 5, 4, 9]]
    dataset = two_tops({"train": likes, "val": likes, "test": likes})
    known = known_outfits(dataset)
    asked = outfits_of([[0, 1, 0, 6], [1, ABSENT, 4, 8], [0, 6, 1, 0]])
    assert known.contains(asked.users, asked.items).tolist() == [True, True, False]
    whole = complete(dataset, seed=0)
    for negatives in whole.negatives.values():
        assert not known.contains(negatives.users, negatives.items).any()
        worn = negatives.items[:, :2]
        assert (worn[:, 0] != worn[:, 1]).all()


def test_one_user_alone_gets_no_hard_negatives(caplog: pytest.LogCaptureFixture) -> None:
    likes = [[0, 0, 1, 6], [0, 2, 3, 7]]
    with caplog.at_level(logging.WARNING, "panfit"):
        whole = complete(two_tops({"train": likes, "test": likes}), seed=0)
    assert set(whole.negatives) == {("test", "random")}
    assert "no hard negatives for test" in caplog.text
    assert "got no question" in caplog.text


def test_a_split_without_possible_negatives_says_whose() -> None:
    dataset = two_tops({"train": [[0, 0, 1, 6]], "test": [[0, 0, 1, 6]]})
    with pytest.raises(DataError, match="user 'a' likes every outfit that the items of the test split can make"):
        complete(dataset, seed=0)
