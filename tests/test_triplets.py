"""Random negatives: never a known like, always from the pool, empty slots kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panfit.outfits import ABSENT, Dataset, Outfits
from panfit.train.triplets import KnownLikes, batch_pools, sample_negatives


@given(seed=st.integers(0, 2**32 - 1), num_likes=st.integers(0, 40), num_slots=st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_known_likes_agree_with_a_set(seed: int, num_likes: int, num_slots: int) -> None:
    rng = np.random.default_rng(seed)
    items = rng.integers(ABSENT, 3, (num_likes, num_slots))
    items[:, 0] = rng.integers(0, 3, num_likes)
    likes = Outfits(rng.integers(0, 4, num_likes), items)
    known = {(user, *sorted(worn)) for user, worn in zip(likes.users.tolist(), items.tolist(), strict=True)}
    users, others = rng.integers(0, 4, (5, 2)), rng.integers(ABSENT, 3, (5, 2, num_slots))
    found = KnownLikes(likes).contains(users, others)
    for i in range(5):
        for j in range(2):
            assert found[i, j] == ((users[i, j], *sorted(others[i, j].tolist())) in known)


def test_negatives_come_from_the_pools_and_are_no_likes(tiny_dataset: Dataset, rng: np.random.Generator) -> None:
    likes = tiny_dataset.likes["train"]
    pools = tiny_dataset.split_items("train")
    known = KnownLikes(likes)
    items, valid = sample_negatives(likes, pools, per_like=6, known=known, rng=rng)
    assert items.shape == (len(likes), 6, 3)
    assert valid.all()
    for slot, pool in enumerate(pools):
        assert np.isin(items[..., slot], pool).all()
    assert not known.contains(np.repeat(likes.users[:, None], 6, axis=1), items).any()


def test_empty_slots_stay_empty(rng: np.random.Generator) -> None:
    likes = Outfits(np.array([0, 1]), np.array([[3, ABSENT, 5], [3, 4, ABSENT]]))
    pools = (np.array([1, 2, 3]), np.array([4, 6]), np.array([5, 7, 8]))
    items, valid = sample_negatives(likes, pools, per_like=4, known=KnownLikes(likes), rng=rng)
    assert valid.all()
    assert (items[0, :, 1] == ABSENT).all()
    assert (items[1, :, 2] == ABSENT).all()
    assert (items[0][:, [0, 2]] != ABSENT).all()


def test_where_only_likes_can_come_up_the_negative_is_invalid(rng: np.random.Generator) -> None:
    likes = Outfits(np.array([0, 1]), np.array([[1, 2], [1, 2]]))
    only = Outfits(np.array([0]), np.array([[1, 2]]))
    _, valid = sample_negatives(likes, (np.array([1]), np.array([2])), per_like=3, known=KnownLikes(only), rng=rng)
    assert valid.tolist() == [[False] * 3, [True] * 3]


def test_two_tops_are_no_negative_in_the_other_order_nor_twice_the_same(rng: np.random.Generator) -> None:
    likes = Outfits(np.array([0]), np.array([[1, 2, 7]]))
    tops, shoes = np.array([1, 2, 3]), np.array([7])
    items, valid = sample_negatives(likes, (tops, tops, shoes), per_like=40, known=KnownLikes(likes), rng=rng)
    assert valid.all()
    assert {frozenset(outfit) for outfit in items[0].tolist()} == {frozenset({1, 3, 7}), frozenset({2, 3, 7})}


def test_the_same_seed_gives_the_same_negatives(tiny_dataset: Dataset) -> None:
    likes, pools = tiny_dataset.likes["train"], tiny_dataset.split_items("train")
    one, other = (
        sample_negatives(likes, pools, per_like=2, known=KnownLikes(likes), rng=np.random.default_rng(3))[0]
        for _ in range(2)
    )
    assert np.array_equal(one, other)


def test_batch_pools_hold_what_the_batch_wears() -> None:
    likes = Outfits(np.array([0, 1]), np.array([[3, 9, 5], [4, ABSENT, 5]]))
    tops, seconds, shoes = batch_pools(likes, ("top", "top", "shoe"))
    assert tops.tolist() == seconds.tolist() == [3, 4, 9]
    assert shoes.tolist() == [5]


@pytest.mark.parametrize("per_like", [1, 3])
def test_every_item_of_a_pool_can_come_up(per_like: int, rng: np.random.Generator) -> None:
    likes = Outfits(np.zeros(200, dtype=np.int64), np.full((200, 1), 7))
    items, _ = sample_negatives(
        likes, (np.arange(5),), per_like=per_like, known=KnownLikes(likes.take(np.arange(0))), rng=rng
    )
    assert np.unique(items).tolist() == [0, 1, 2, 3, 4]
