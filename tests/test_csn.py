"""CSN against the plain loops in value and gradient: six terms, the score in each pair's space; without text."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from panfit.baselines.csn import Csn
from panfit.errors import ConfigError
from tests import rival_oracles as oracles
from tests.rivals import (
    FIVE,
    FOUR,
    TWO,
    WARDROBES,
    Slots,
    assert_all_learn,
    assert_same,
    build,
    draw,
    in_slots,
    lists,
    names_of,
    without_pairs,
)

WIDTH = 7
NO_POOL = torch.zeros(0, WIDTH, dtype=torch.float64)
WEIGHTS = {"norm": 0.5, "mask": 0.25, "vse": 0.75, "text": 1.5, "image": 1.25}


def make(slots: Slots = FOUR, **settings: Any) -> Csn:
    """Each mask starts with a negative weight, which ReLU shuts in training and the score takes as it is."""
    lambdas = {f"lambda_{name}": weight for name, weight in WEIGHTS.items()}
    model = build(Csn, "csn", slots, **{"embedding_dim": WIDTH, **lambdas, **settings})
    with torch.no_grad():
        model.spaces.masks[:, 0] = -0.5
    return model


def plain_general(model: Csn, maps: Tensor) -> list[list[Tensor]]:
    return [oracles.linear(model.embedding.weight, row, model.embedding.bias) for row in maps.flatten(1)]


def plain_words(model: Csn, text: Tensor) -> list[list[Tensor]]:
    assert model.text_encoder is not None
    first, norm, _, second = model.text_encoder
    assert isinstance(first, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(second, nn.Linear)
    return oracles.csn_words(text, first.weight, norm.weight, norm.bias, second.weight, second.bias)


@pytest.mark.parametrize("slots", WARDROBES)
@pytest.mark.parametrize("text", [True, False])
def test_terms_equal_the_plain_loops(slots: Slots, text: bool) -> None:
    without = {} if text else {"text_dim": None, "lambda_vse": 0, "lambda_text": 0}
    model, batch = make(slots, **without), draw(slots, text=text)
    words = None if batch.text is None else plain_words(model, batch.text)
    told = [row != 0 for row in range(len(batch.maps))]
    wanted = oracles.csn_terms(
        plain_general(model, batch.maps),
        words,
        told,
        *lists(batch),
        names_of(slots),
        model.spaces.masks,
        margin=model.config.csn.margin,
    )
    terms = model.terms(batch)
    assert set(terms) == {*wanted, "total"}
    for name, term in wanted.items():
        if name in ("text", "vse") and not text:
            assert terms[name] == term == 0
        else:
            assert_same(model, batch, terms[name], term)
    weighted = [weight * terms[name] for name, weight in WEIGHTS.items()]
    torch.testing.assert_close(terms["total"], terms["triplet"] + torch.stack(weighted).sum())


@pytest.mark.parametrize("slots", WARDROBES)
def test_score_equals_the_plain_loops(slots: Slots) -> None:
    model, batch = make(slots), draw(slots)
    model.eval()
    scores = model.score(*in_slots(model.embed(batch.maps, batch.categories, None), batch.likes), NO_POOL)
    general = plain_general(model, batch.maps)
    wanted = [
        oracles.csn_score(general, like, names_of(slots), model.spaces.masks) + 0 * general[0][0]
        for like in batch.likes.tolist()
    ]
    assert_same(model, batch, scores, torch.stack(wanted))


@pytest.mark.parametrize(("slots", "num_spaces"), [(TWO, 1), (FOUR, 4), (FIVE, 10)])
def test_a_space_for_each_pair_of_categories_that_meet(slots: Slots, num_spaces: int) -> None:
    assert make(slots).spaces.masks.shape == (num_spaces, WIDTH)


def test_initial_masks_follow_the_released_code_and_the_generator() -> None:
    masks = make(FIVE, embedding_dim=500).spaces.masks[:, 1:]
    assert masks.mean().item() == pytest.approx(0.9, abs=0.05)
    assert masks.std().item() == pytest.approx(0.7, abs=0.05)
    torch.manual_seed(1)
    assert torch.equal(make(FIVE, embedding_dim=500).spaces.masks[:, 1:], masks)
    assert not torch.equal(make(FIVE, embedding_dim=500, seed=6).spaces.masks[:, 1:], masks)


def test_questions_are_ordered_as_by_the_sum_of_the_distances_to_the_given() -> None:
    model, batch = make(), draw()
    model.eval()
    embeddings = model.embed(batch.maps, batch.categories, None)
    outfit, blank, candidates = [0, 1, 4, 7], 2, [3, 4, 5]
    found = model.question_scores(
        *in_slots(embeddings, torch.tensor([outfit])), torch.tensor([blank]), embeddings[None, 3:6], NO_POOL
    )
    sums = []
    for candidate in candidates:
        total = 0.0
        for slot in (0, 1, 3):
            mask = model.spaces.masks[oracles.space_of(names_of(FOUR), blank, slot)]
            pair = (oracles.in_space(embeddings[row], mask, training=False) for row in (candidate, outfit[slot]))
            total += oracles.distance(*pair).item()
        sums.append(total)
    assert found[0].argsort(descending=True).tolist() == sorted(range(3), key=lambda k: sums[k])


@pytest.mark.parametrize("slots", WARDROBES)
def test_every_weight_learns(slots: Slots) -> None:
    assert_all_learn(make(slots), draw(slots))


def test_nothing_to_select_costs_a_zero_with_a_graph() -> None:
    model, batch = make(), without_pairs(draw())
    terms = model.terms(batch)
    assert all(term == 0 for term in terms.values())
    terms["total"].backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert not weight.grad.any(), name


def test_what_stands_in_an_empty_slot_does_not_matter_not_even_nan() -> None:
    model, batch = make(), draw()
    embeddings, mask = in_slots(model.embed(batch.maps, batch.categories, None), batch.likes)
    scores = model.score(embeddings.masked_fill(~mask[:, :, None], float("nan")), mask, NO_POOL)
    assert torch.equal(scores, model.score(embeddings, mask, NO_POOL))
    (gradient,) = torch.autograd.grad(scores.sum(), [batch.maps])
    assert gradient.isfinite().all()


def test_without_text_it_says_what_to_do_and_without_the_losses_it_needs_none() -> None:
    remedy = r"title.*text\.source.*csn\.lambda_vse = 0 and csn\.lambda_text = 0"
    with pytest.raises(ConfigError, match=r"csn\.lambda_vse = 0\.75 and csn\.lambda_text = 1\.5.*" + remedy):
        make(text_dim=None)
    with pytest.raises(ConfigError, match=r"each, for csn\.lambda_text = 1\.5\. .*" + remedy):
        make(text_dim=None, lambda_vse=0)
    model, batch = make(text_dim=None, lambda_vse=0, lambda_text=0), draw(text=False)
    assert model.parameter_groups()["text_encoder"] == []
    assert_all_learn(model, batch)
    with pytest.raises(ValueError, match="must bring text"):
        make().terms(batch)
