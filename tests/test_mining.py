"""The miner against plain loops."""

import pytest
import torch
from torch import Tensor

from panfit.train.mining import Choice, mine, near_users, user_distances
from tests import oracles

B, D = 7, 5


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def some_distances(generator: torch.Generator, users: Tensor) -> Tensor:
    codes = torch.randn(10, D, generator=generator).tanh()[users]
    return user_distances(codes)


def test_distances_are_euclidean(generator: torch.Generator) -> None:
    codes = torch.randn(3, D, generator=generator, requires_grad=True)
    distances = user_distances(codes)
    assert not distances.requires_grad
    for i in range(3):
        for j in range(3):
            slow = sum((codes[i, d].item() - codes[j, d].item()) ** 2 for d in range(D)) ** 0.5
            assert distances[i, j].item() == pytest.approx(slow, abs=1e-6)


@pytest.mark.parametrize("k_ratio", [0.0, 0.2, 0.5, 1.0])
def test_near_users_equal_the_oracle(generator: torch.Generator, k_ratio: float) -> None:
    users = torch.tensor([5, 2, 5, 9, 0, 2, 7])
    distances = some_distances(generator, users)
    near = near_users(distances, users, k_ratio=k_ratio)
    assert near.tolist() == oracles.near_users(distances.tolist(), users.tolist(), k_ratio)


def test_ties_go_to_the_first_in_the_batch() -> None:
    users = torch.tensor([8, 1, 4, 3])
    near = near_users(torch.ones(4, 4) - torch.eye(4), users, k_ratio=0.34)
    assert near.tolist() == oracles.near_users((torch.ones(4, 4) - torch.eye(4)).tolist(), users.tolist(), 0.34)
    assert near[1].tolist() == [True, False, False, False]


def test_one_user_alone_has_no_near() -> None:
    assert not near_users(torch.zeros(2, 2), torch.tensor([3, 3]), k_ratio=0.5).any()


@pytest.mark.parametrize("count", [1, 2, B + 3])
def test_mining_by_loss_equals_the_oracle(generator: torch.Generator, count: int) -> None:
    users = torch.arange(B)
    distances = some_distances(generator, users)
    near = near_users(distances, users, k_ratio=0.5)
    allowed = torch.rand(B, B, generator=generator) < 0.6
    hardness = torch.randn(B, B, generator=generator)
    mined = mine(
        allowed, near, distances, choose="loss", count=count, difficulty=lambda pool: hardness, generator=generator
    )
    expected = oracles.hardest((allowed & near).tolist(), hardness.tolist(), count)
    found = [rows[valid].tolist() for rows, valid in zip(mined.rows, mined.valid, strict=True)]
    assert found == expected


def test_nearest_takes_the_least_distance(generator: torch.Generator) -> None:
    users = torch.arange(B)
    distances = some_distances(generator, users)
    near = near_users(distances, users, k_ratio=1.0)
    mined = mine(near, near, distances, choose="nearest", count=1, difficulty=lambda pool: pool, generator=generator)
    assert mined.rows[:, 0].tolist() == (distances + 99 * torch.eye(B)).argmin(dim=1).tolist()


@pytest.mark.parametrize("choose", ["random", "any", "far"])
def test_chance_stays_inside_its_pool(generator: torch.Generator, choose: Choice) -> None:
    users = torch.arange(B)
    distances = some_distances(generator, users)
    near = near_users(distances, users, k_ratio=0.3)
    allowed = torch.rand(B, B, generator=generator) < 0.5
    pool = allowed & {"random": near, "any": torch.ones_like(near), "far": ~near}[choose]
    seen = torch.zeros(B, B, dtype=torch.bool)
    for _ in range(60):
        mined = mine(
            allowed, near, distances, choose=choose, count=1, difficulty=lambda pool: pool, generator=generator
        )
        rows = torch.arange(B)[mined.valid[:, 0]]
        seen[rows, mined.rows[rows, 0]] = True
    assert seen.tolist() == pool.tolist()  # a row of 7 that 60 draws miss: a chance below 1e-3
