"""Predictor: Eq. 4 against the plain loops in value and gradient; its parts; the completion query by brute force."""

import pytest
import torch
from torch import Tensor

from panfit.config import ModelConfig
from panfit.model.predictor import Predictor
from tests import oracles

CATEGORIES = ("top", "top", "bottom", "shoe")  # two tops: one pair that must not count (decision D14)
NUM_OUTFITS, NUM_SLOTS, NUM_MODALITIES, BITS = 5, len(CATEGORIES), 2, 8


def pair_mask(categories: tuple[str, ...] = CATEGORIES) -> Tensor:
    return torch.tensor([[m < n and a != b for n, b in enumerate(categories)] for m, a in enumerate(categories)])


def make_predictor(**settings: object) -> Predictor:
    config = ModelConfig.model_validate({"code_bits": BITS, "alpha": 0.7, "score_scale": 3.0, **settings})
    predictor = Predictor(config, pair_mask()).double()
    with torch.no_grad():
        for weight in (predictor.user_item_weight, predictor.item_item_weight):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return predictor


def draw(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    users = torch.randn(NUM_OUTFITS, BITS, generator=generator, dtype=torch.float64)
    items = torch.randn(NUM_OUTFITS, NUM_SLOTS, NUM_MODALITIES, BITS, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1], [0, 1, 1, 0]], dtype=torch.bool)
    return users, items, mask


def test_with_diagonal_weights_a_row_is_the_same_in_any_batch() -> None:
    """At a product's size, where matrix products of different shapes do add in different orders."""
    bits, generator = 512, torch.Generator().manual_seed(5)
    config = ModelConfig.model_validate({"code_bits": bits})
    predictor = Predictor(config, pair_mask()).requires_grad_(False)
    for weight in (predictor.user_item_weight, predictor.item_item_weight):
        weight.add_(torch.randn(weight.shape, generator=generator))
    users = torch.randn(97, bits, generator=generator).sign()
    items = torch.randn(97, NUM_SLOTS, 2, bits, generator=generator).sign()
    mask = torch.rand(97, NUM_SLOTS, generator=generator) < 0.8
    mask[:, 0] = True
    mask[:40] = True  # rows whose slots are all filled are not copied, and yet the same
    assert predictor.is_rowwise
    whole = predictor(users, items, mask)
    query, offset = predictor.completion_query(users, items, mask, 2)
    for rows in (slice(0, 1), slice(3, 5), slice(0, 40), slice(37, 96), slice(96, 97)):
        part = predictor(users[rows], items[rows], mask[rows])
        for name in ("score", "general", "personal"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rows])
        own_query, own_offset = predictor.completion_query(users[rows], items[rows], mask[rows], 2)
        assert torch.equal(own_query, query[rows])
        assert torch.equal(own_offset, offset[rows])
    assert not make_predictor(pair_weight="full").is_rowwise


@pytest.mark.parametrize("pair_weight", ["diagonal", "full"])
def test_equals_the_plain_loops_in_value_and_gradient(pair_weight: str) -> None:
    predictor = make_predictor(pair_weight=pair_weight, learn_alpha=True)
    users, items, mask = draw()
    users.requires_grad_()
    items.requires_grad_()
    w_user = predictor.user_item_weight.detach().clone().requires_grad_()
    w_item = predictor.item_item_weight.detach().clone().requires_grad_()
    wanted = [
        torch.stack(
            oracles.preference(users[b], items[b], mask[b].tolist(), CATEGORIES, w_user, w_item, alpha=0.7, scale=3.0)
        )
        for b in range(NUM_OUTFITS)
    ]
    scores = predictor(users, items, mask)
    got = torch.stack([scores.score, scores.general, scores.personal], dim=1)  # (B, 3)
    torch.testing.assert_close(got, torch.stack(wanted))
    upstream = torch.randn(got.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    wanted_gradients = torch.autograd.grad(torch.stack(wanted), [users, items, w_user, w_item], upstream)
    weights = [predictor.user_item_weight, predictor.item_item_weight]
    gradients = torch.autograd.grad(got, [users, items, *weights], upstream, retain_graph=True)
    torch.testing.assert_close(gradients, wanted_gradients)
    (of_alpha,) = torch.autograd.grad(got[:, 2].sum(), [predictor.alpha])
    torch.testing.assert_close(of_alpha, (scores.personal.sum() / 0.7).detach())


def test_parts_add_up_and_stand_where_they_should() -> None:
    users, items, mask = draw()
    scores = make_predictor()(users, items, mask)
    total = scores.personal_by_item.sum(1) + scores.general_by_pair.sum((1, 2))
    assert torch.equal(scores.score, scores.general + scores.personal)
    torch.testing.assert_close(scores.score, total)
    assert (scores.personal_by_item[~mask] == 0).all()
    assert (scores.personal_by_item[mask] != 0).all()
    counted = mask[:, :, None] & mask[:, None, :] & pair_mask()
    assert (scores.general_by_pair[~counted] == 0).all()
    assert (scores.general_by_pair[counted] != 0).all()


def test_initial_weights_are_ones_so_that_equal_codes_score_the_scale() -> None:
    for pair_weight in ("diagonal", "full"):
        config = ModelConfig.model_validate({"code_bits": BITS, "pair_weight": pair_weight})
        codes = torch.ones(1, NUM_SLOTS, 1, BITS)
        scores = Predictor(config, pair_mask())(torch.ones(1, BITS), codes, torch.ones(1, NUM_SLOTS, dtype=torch.bool))
        assert (scores.general.item(), scores.personal.item()) == (10.0, 10.0)


def test_an_outfit_without_a_pair_has_no_general_part() -> None:
    users, items, mask = draw()
    scores = make_predictor()(users, items, mask)
    assert scores.general[2] == 0, "two tops alone are no pair"
    assert scores.general[3] == 0
    assert scores.personal[3] != 0


def test_what_stands_in_an_empty_slot_does_not_matter_not_even_nan() -> None:
    users, items, mask = draw()
    predictor = make_predictor()
    spoilt = items.masked_fill(~mask[:, :, None, None], float("nan")).requires_grad_()
    scores = predictor(users, spoilt, mask)
    assert torch.equal(scores.score, predictor(users, items, mask).score)
    scores.score.sum().backward()
    assert spoilt.grad is not None
    assert spoilt.grad.isfinite().all()


@pytest.mark.parametrize("pair_weight", ["diagonal", "full"])
def test_completion_query_is_eq_4_by_brute_force(pair_weight: str) -> None:
    predictor = make_predictor(pair_weight=pair_weight)
    users, items, mask = draw()
    mask[3] = torch.tensor([False, False, False, False])  # an outfit made from nothing
    candidates = torch.randn(6, NUM_MODALITIES, BITS, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    for slot in range(NUM_SLOTS):
        query, offset = predictor.completion_query(users, items, mask, slot)
        filled = mask.clone()
        filled[:, slot] = True
        for code in candidates:
            tried = items.clone()
            tried[:, slot] = code
            linear = offset + (query * code).sum((1, 2))
            torch.testing.assert_close(linear, predictor(users, tried, filled).score)


def test_completion_query_takes_a_slot_for_each_row() -> None:
    predictor = make_predictor()
    users, items, mask = draw()
    slots = torch.tensor([2, 0, 3, 1, 0])
    query, offset = predictor.completion_query(users, items, mask, slots)
    for row, slot in enumerate(slots.tolist()):
        one, its_offset = predictor.completion_query(users, items, mask, slot)
        torch.testing.assert_close(query[row], one[row])
        torch.testing.assert_close(offset[row], its_offset[row])


def test_refuses_shapes_that_do_not_fit() -> None:
    predictor = make_predictor()
    users, items, mask = draw()
    with pytest.raises(ValueError, match="wanted user codes"):
        predictor(users, items[:, :3], mask)
    with pytest.raises(ValueError, match="bool mask"):
        predictor(users, items, mask.long())
    with pytest.raises(ValueError, match="slot 4"):
        predictor.completion_query(users, items, mask, 4)
    config = ModelConfig(code_bits=BITS)
    with pytest.raises(ValueError, match="upper triangle"):
        Predictor(config, torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\(S, S\) bool"):
        Predictor(config, torch.ones(3, 4))
