"""Bi-LSTM against an LSTM written out by hand, in value and gradient: losses, score, questions; lengths 1 to 5."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from panfit.baselines.bilstm import BiLstm, Reader
from panfit.errors import ConfigError
from tests import rival_oracles as oracles
from tests.rivals import FOUR, TWO, WARDROBES, Slots, assert_all_learn, assert_same, build, draw, in_slots, lists

WIDTH = 5


def make(slots: Slots = FOUR, **settings: Any) -> BiLstm:
    """Without dropout, and with weights so large that every one of them matters."""
    return build(BiLstm, "bilstm", slots, **{"hidden": WIDTH, "dropout": 0, "init": 0.9, **settings})


def weights(reader: Reader) -> dict[str, Any]:
    return dict(reader.named_parameters())


def plain_embeddings(model: BiLstm, maps: Tensor) -> list[list[Tensor]]:
    return [oracles.linear(model.embedding.weight, row) for row in maps.flatten(1)]


@pytest.mark.parametrize("slots", WARDROBES)
def test_reading_losses_equal_the_plain_loops(slots: Slots) -> None:
    model, batch = make(slots), draw(slots)
    embeddings = plain_embeddings(model, batch.maps)
    readers = weights(model.forward_reader), weights(model.backward_reader)
    wanted = oracles.bilstm_losses(embeddings, lists(batch)[0], *readers, embeddings)
    terms = model.terms(batch)
    assert_same(model, batch, torch.stack([terms["forward"], terms["backward"]]), torch.stack(wanted))


def test_visual_semantic_loss_equals_the_plain_loops() -> None:
    model, batch = make(vse_margin=0.3), draw()
    assert batch.text is not None
    assert model.visual_semantic is not None
    both = model.visual_semantic
    images = [oracles.linear(both.image.weight, row) for row in batch.maps.flatten(1)[1:]]  # the first has no text
    texts = [oracles.linear(both.text.weight, row) for row in batch.text[1:]]
    assert_same(model, batch, model.terms(batch)["vse"], oracles.bilstm_vse(images, texts, margin=0.3))


def test_total_is_the_weighted_sum() -> None:
    terms = make(lambda_vse=0.25).terms(draw())
    assert list(terms) == ["forward", "backward", "vse", "total"]
    torch.testing.assert_close(terms["total"], terms["forward"] + terms["backward"] + 0.25 * terms["vse"])


@pytest.mark.parametrize("slots", WARDROBES)
@pytest.mark.parametrize("num_pool", [0, 4])
def test_score_equals_the_plain_loops(slots: Slots, num_pool: int) -> None:
    model, batch = make(slots), draw(slots)
    embeddings = model.embed(batch.maps, batch.categories, None)
    scores = model.score(*in_slots(embeddings, batch.likes), embeddings[:num_pool])
    plain = plain_embeddings(model, batch.maps)
    readers = weights(model.forward_reader), weights(model.backward_reader)
    wanted = [oracles.bilstm_score(plain, like, *readers, plain[:num_pool]) for like in batch.likes.tolist()]
    assert_same(model, batch, scores, torch.stack(wanted))


def test_questions_equal_the_plain_loops_at_the_ends_and_between() -> None:
    model, batch = make(), draw()
    likes = torch.tensor([[0, 1, 3, 6], [2, -1, 4, 7], [-1, 0, -1, 8], [1, 2, 5, -1], [0, -1, -1, 7], [1, 0, 4, 6]])
    blank = torch.tensor([0, 2, 1, 2, 3, 1])  # first; between; first worn; last worn; last of two; between
    candidates = torch.tensor([[0, 1, 2], [3, 4, 5], [0, 1, 2], [5, 4, 3], [8, 6, 7], [0, 2, 1]])
    embeddings = model.embed(batch.maps, batch.categories, None)
    found = model.question_scores(*in_slots(embeddings, likes), blank, embeddings[candidates], embeddings[:0])
    plain = plain_embeddings(model, batch.maps)
    readers = weights(model.forward_reader), weights(model.backward_reader)
    wanted = [
        torch.stack(oracles.bilstm_question(plain, *question, *readers))
        for question in zip(likes.tolist(), blank.tolist(), candidates.tolist(), strict=True)
    ]
    assert_same(model, batch, found, torch.stack(wanted))
    torch.testing.assert_close(found.sum(1), torch.ones(6, dtype=torch.float64))


def test_a_question_without_another_item_is_a_tie() -> None:
    model, batch = make(), draw()
    embeddings = model.embed(batch.maps, batch.categories, None)
    found = model.question_scores(
        *in_slots(embeddings, torch.tensor([[-1, -1, 3, -1]])), torch.tensor([2]), embeddings[None, 3:6], embeddings
    )
    assert found.tolist() == [[0, 0, 0]]


def test_the_order_matters_and_empty_slots_do_not() -> None:
    model, batch = make(), draw()
    embeddings = model.embed(batch.maps, batch.categories, None)

    def score(*items: int) -> float:
        return model.score(*in_slots(embeddings, torch.tensor([items])), embeddings).item()

    assert score(0, -1, 3, 6) == pytest.approx(score(0, 3, 6, -1))
    assert score(0, -1, 3, 6) == pytest.approx(score(-1, 0, 3, 6))
    assert score(0, 3, 6) == pytest.approx(score(-1, 0, 3, 6))
    assert score(0, 3, 6) != pytest.approx(score(3, 0, 6))


def test_a_batch_equals_a_loop() -> None:
    model, batch = make(), draw()
    embeddings = model.embed(batch.maps, batch.categories, None)
    together = model.score(*in_slots(embeddings, batch.likes), embeddings)
    alone = [model.score(*in_slots(embeddings, like[None]), embeddings) for like in batch.likes]
    torch.testing.assert_close(together, torch.cat(alone))


def test_what_stands_in_an_empty_slot_does_not_matter_not_even_nan() -> None:
    model, batch = make(), draw()
    pool = model.embed(batch.maps, batch.categories, None)
    embeddings, mask = in_slots(pool, batch.likes)
    scores = model.score(embeddings.masked_fill(~mask[:, :, None], float("nan")), mask, pool)
    torch.testing.assert_close(scores, model.score(embeddings, mask, pool))
    (gradient,) = torch.autograd.grad(scores.sum(), [batch.maps])
    assert gradient.isfinite().all()


@pytest.mark.parametrize("slots", WARDROBES)
def test_every_weight_learns(slots: Slots) -> None:
    assert_all_learn(make(slots), draw(slots))


def test_dropout_in_training_alone() -> None:
    model, batch = make(dropout=0.3), draw()
    assert model.terms(batch)["forward"] != model.terms(batch)["forward"]
    model.eval()
    assert torch.equal(model.terms(batch)["forward"], model.terms(batch)["forward"])


def test_initial_weights_are_uniform_biases_zero_and_the_forget_gate_open() -> None:
    model = make(hidden=40, init=0.08)
    for name, weight in model.named_parameters():
        if name.endswith("bias_ih_l0"):
            assert weight.unflatten(0, (4, 40)).unique(dim=1).flatten().tolist() == [0, 1, 0, 0]
        elif "bias" in name:
            assert not weight.any()
        else:
            assert 0.07 < weight.abs().max().item() <= 0.08
    torch.manual_seed(1)
    again = make(hidden=40, init=0.08).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in model.state_dict().items())
    other = make(hidden=40, init=0.08, seed=6).state_dict()
    assert not torch.equal(other["embedding.weight"], model.embedding.weight)


def test_without_text_it_says_what_to_do_and_without_the_loss_it_needs_none() -> None:
    with pytest.raises(ConfigError, match=r"bilstm\.lambda_vse = 1\..*title.*text\.source.*bilstm\.lambda_vse = 0"):
        make(text_dim=None)
    model, batch = make(text_dim=None, lambda_vse=0), draw(text=False)
    assert model.terms(batch)["vse"] == 0
    assert model.parameter_groups()["text_encoder"] == []
    assert_all_learn(model, batch)
    with pytest.raises(ValueError, match="must bring text"):
        make().terms(batch)


def test_no_texts_at_all_cost_a_zero_with_a_graph() -> None:
    model, batch = make(TWO), draw(TWO)
    assert batch.text is not None
    vse = model.terms(replace(batch, text=torch.zeros_like(batch.text)))["vse"]
    assert vse == 0
    assert vse.requires_grad
