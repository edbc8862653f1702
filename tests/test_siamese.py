"""SiameseNet against the plain loops in value and gradient, both losses; what it does with nothing to do."""

from dataclasses import replace

import pytest
import torch

from panfit.baselines.rival import Rival
from panfit.baselines.siamese import SiameseNet
from tests import rival_oracles as oracles
from tests.rivals import (
    FIVE,
    FOUR,
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

LOSSES = {"contrastive": 1.1, "cosine": 0.2}  # loss -> margin, such that some hinges are open and some shut
NO_POOL = torch.zeros(0, 7, dtype=torch.float64)


def make(loss: str, slots: Slots = FOUR, *, seed: int = 5) -> SiameseNet:
    own = {"loss": loss, "margin": LOSSES[loss], "embedding_dim": 7}
    return build(SiameseNet, "siamese", slots, text_dim=None, seed=seed, **own)


def plain_embeddings(model: SiameseNet, maps: torch.Tensor) -> list[list[torch.Tensor]]:
    return [oracles.unit(oracles.linear(model.embedding.weight, row)) for row in maps.flatten(1)]


@pytest.mark.parametrize("slots", WARDROBES)
@pytest.mark.parametrize("loss", LOSSES)
def test_terms_equal_the_plain_loops(loss: str, slots: Slots) -> None:
    model, batch = make(loss, slots), draw(slots, text=False)
    terms = model.terms(batch)
    wanted = oracles.siamese_terms(
        plain_embeddings(model, batch.maps), *lists(batch), names_of(slots), loss=loss, margin=LOSSES[loss]
    )
    assert list(terms) == ["together", "apart", "total"]
    assert_same(model, batch, torch.stack([terms["together"], terms["apart"]]), torch.stack(wanted))
    assert_same(model, batch, terms["total"], sum(wanted))


@pytest.mark.parametrize("slots", WARDROBES)
@pytest.mark.parametrize("loss", LOSSES)
def test_score_equals_the_plain_loops(loss: str, slots: Slots) -> None:
    model, batch = make(loss, slots), draw(slots, text=False)
    scores = model.score(*in_slots(model.embed(batch.maps, batch.categories, None), batch.likes), NO_POOL)
    embeddings = plain_embeddings(model, batch.maps)
    wanted = [
        oracles.siamese_score(embeddings, like, names_of(slots), loss=loss) + 0 * embeddings[0][0]
        for like in batch.likes.tolist()
    ]
    assert_same(model, batch, scores, torch.stack(wanted))


def test_contrastive_questions_are_the_filled_outfits() -> None:
    model, batch = make("contrastive"), draw(text=False)
    embeddings = model.embed(batch.maps, batch.categories, None)
    blank, candidates = torch.tensor([0, 2, 3, 1, 2, 2, 0, 3]), torch.arange(24).view(8, 3) % len(batch.maps)
    found = model.question_scores(*in_slots(embeddings, batch.likes), blank, embeddings[candidates], NO_POOL)
    for question in range(8):
        for k in range(3):
            filled = batch.likes[question].clone()
            filled[blank[question]] = candidates[question, k]
            wanted = model.score(*in_slots(embeddings, filled[None]), NO_POOL)
            torch.testing.assert_close(found[question, k], wanted[0])


def test_cosine_questions_are_answered_by_the_mean_of_the_given() -> None:
    model, batch = make("cosine"), draw(text=False)
    embeddings = model.embed(batch.maps, batch.categories, None)
    likes = batch.likes[(batch.likes != -1).sum(1) > 1]
    blank = torch.arange(len(likes)) % 4
    likes = torch.where((likes != -1).sum(1, keepdim=True) > 2, likes, likes[:1])  # something is given for each blank
    candidates = torch.arange(3 * len(likes)).view(-1, 3) % len(batch.maps)
    found = model.question_scores(*in_slots(embeddings, likes), blank, embeddings[candidates], NO_POOL)
    wanted = [
        torch.stack(oracles.han_siamese_question(embeddings, *question))
        for question in zip(likes.tolist(), blank.tolist(), candidates.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(wanted))


def test_both_rules_for_questions_agree_where_no_two_slots_share_a_category() -> None:
    model, batch = make("cosine", FIVE), draw(FIVE, text=False)
    embeddings = model.embed(batch.maps, batch.categories, None)
    outfit, mask = in_slots(embeddings, torch.tensor([[0, 3, 6, 9, 12]]))
    blank, candidates = torch.tensor([3]), embeddings[None, 9:12]
    by_mean = model.question_scores(outfit, mask, blank, candidates, NO_POOL)
    by_score = Rival.question_scores(model, outfit, mask, blank, candidates, NO_POOL)
    assert by_mean.argsort().tolist() == by_score.argsort().tolist()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_weight_learns(loss: str) -> None:
    assert_all_learn(make(loss), draw(text=False))


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_to_select_costs_a_zero_with_a_graph(loss: str) -> None:
    model, batch = make(loss), without_pairs(draw(text=False))
    terms = model.terms(batch)
    assert {name: term.item() for name, term in terms.items()} == {"together": 0, "apart": 0, "total": 0}
    terms["total"].backward()
    assert model.embedding.weight.grad is not None
    assert not model.embedding.weight.grad.any()


def test_two_items_alike_have_a_finite_gradient() -> None:
    model, batch = make("contrastive"), draw(text=False)
    with torch.no_grad():
        batch.maps[:] = batch.maps[:1]
    terms = model.terms(batch)
    assert terms["apart"].item() == pytest.approx(1.1**2)
    terms["total"].backward()
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad.isfinite().all()


def test_what_stands_in_an_empty_slot_does_not_matter_not_even_nan() -> None:
    model, batch = make("contrastive"), draw(text=False)
    embeddings, mask = in_slots(model.embed(batch.maps, batch.categories, None), batch.likes)
    spoilt = embeddings.masked_fill(~mask[:, :, None], float("nan"))
    scores = model.score(spoilt, mask, NO_POOL)
    assert torch.equal(scores, model.score(embeddings, mask, NO_POOL))
    (gradient,) = torch.autograd.grad(scores.sum(), [batch.maps])
    assert gradient.isfinite().all()


def test_a_batch_whose_shapes_do_not_fit_is_refused() -> None:
    batch = draw(text=False)
    with pytest.raises(ValueError, match=r"valid \(8, 1\); wanted"):
        replace(batch, valid=batch.valid[:, :1])
    with pytest.raises(ValueError, match="12 maps need as many"):
        replace(draw(), maps=torch.zeros(12, 3, 1, 2))


def test_initial_weights_come_from_the_generator() -> None:
    torch.manual_seed(0)
    first = make("cosine").state_dict()
    torch.manual_seed(1)
    again, other = make("cosine").state_dict(), make("cosine", seed=6).state_dict()
    assert torch.equal(first["embedding.weight"], again["embedding.weight"])
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])
