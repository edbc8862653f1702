"""Eq. 6-9 against the paper in plain loops, in value and in gradient."""

import math

import pytest
import torch
from torch import Tensor

from panfit.config import LossConfig
from panfit.train.losses import bpr_loss, quantization_loss, total_loss, user_specific_loss, visual_semantic_loss
from tests import oracles

B, K, R, D = 3, 2, 5, 7


def leaf(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def assert_same(fast: Tensor, slow: Tensor, *leaves: Tensor) -> None:
    """Equal in value and in every gradient."""
    assert fast.item() == pytest.approx(slow.item(), rel=1e-12)
    for one, other in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(one, other)


def test_bpr_loss_equals_the_oracle() -> None:
    positive, negative = leaf(B, K, seed=1), leaf(B, K, seed=2)
    valid = torch.tensor([[True, False], [True, True], [False, True]])
    assert_same(bpr_loss(positive, negative, valid), oracles.bpr(positive, negative, valid), positive, negative)


def test_user_specific_loss_equals_the_oracle() -> None:
    own, other = leaf(B, seed=3), leaf(B, seed=4)
    valid = torch.tensor([True, False, True])
    slow = oracles.bpr(own[:, None], other[:, None], valid[:, None])
    assert_same(user_specific_loss(own, other, valid), slow, own, other)


def test_a_better_ranking_costs_less() -> None:
    valid = torch.ones(1, 1, dtype=torch.bool)
    right = bpr_loss(torch.tensor([[2.0]]), torch.tensor([[-1.0]]), valid)
    wrong = bpr_loss(torch.tensor([[-1.0]]), torch.tensor([[2.0]]), valid)
    assert right.item() == pytest.approx(math.log1p(math.exp(-3)))
    assert wrong.item() == pytest.approx(math.log1p(math.exp(3)))


def test_nothing_valid_costs_a_zero_with_a_graph() -> None:
    positive, negative = leaf(B, K, seed=1), leaf(B, K, seed=2)
    loss = bpr_loss(positive, negative, torch.zeros(B, K, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss, positive)
    assert loss.item() == 0
    assert not gradient.any()


def test_scores_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="must agree"):
        bpr_loss(torch.zeros(B, K), torch.zeros(B, 1), torch.ones(B, K, dtype=torch.bool))


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.7])
def test_visual_semantic_loss_equals_the_oracle(margin: float) -> None:
    image, text = leaf(R, D, seed=5), leaf(R, D, seed=6)
    items = torch.tensor([4, 9, 4, 2, 6])  # the first and third row are one item: never each other's negative
    fast = visual_semantic_loss(image.tanh(), text.tanh(), items, margin=margin)
    slow = oracles.visual_semantic(image.tanh(), text.tanh(), items.tolist(), margin)
    assert_same(fast, slow, image, text)


def test_visual_semantic_loss_of_one_item_is_zero() -> None:
    codes = leaf(3, D, seed=7)
    loss = visual_semantic_loss(codes, codes, torch.tensor([1, 1, 1]), margin=0.1)
    assert loss.item() == 0
    loss.backward()


def test_quantization_loss_is_zero_at_the_corners_only() -> None:
    assert quantization_loss(torch.tensor([[1.0, -1.0]])).item() == 0
    assert quantization_loss(torch.tensor([[0.5, -1.0]])).item() == pytest.approx(0.125)


def test_total_loss_weighs_the_named_terms() -> None:
    terms = {
        name: torch.tensor(value) for name, value in [("bpr", 1.0), ("user", 2.0), ("vse", 3.0), ("quantization", 5.0)]
    }
    config = LossConfig(lambda_user=0.1, lambda_vse=0.2, lambda_quantization=0.5)
    assert total_loss(terms, config).item() == pytest.approx(1 + 0.2 + 0.6 + 2.5)
