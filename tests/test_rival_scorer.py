"""RivalScorer equals the rival itself whatever the blocks; its pool is fixed; evaluate() takes its answers to FITB."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from panfit.baselines.bilstm import BiLstm
from panfit.baselines.csn import Csn
from panfit.baselines.rival import Rival
from panfit.baselines.scorer import RivalScorer
from panfit.baselines.siamese import SiameseNet
from panfit.config import Config, ImageConfig
from panfit.evaluate import METRICS, PlainScorer, evaluate
from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.model.batch import PanShape
from panfit.outfits import ABSENT, Catalogue, Dataset, FitbQuestions, Outfits, Slot
from tests import oracles

SLOTS = (("top", "top"), ("top2", "top"), ("bottom", "bottom"), ("shoe", "shoe"))
ITEMS_OF = {"top": range(9), "bottom": range(9, 16), "shoe": range(16, 22)}  # category -> rows
NUM_USERS, NUM_ITEMS, TEXT_DIM, SIDE = 3, 22, 5, 16
NUM_CANDIDATES = 3

RIVALS: dict[str, tuple[type[Rival], str, dict[str, Any]]] = {
    "contrastive": (SiameseNet, "siamese", {"embedding_dim": 7}),
    "cosine": (SiameseNet, "siamese", {"embedding_dim": 7, "loss": "cosine"}),
    "bilstm": (BiLstm, "bilstm", {"hidden": 8, "pool_items": 6, "init": 2.5}),
    "csn": (Csn, "csn", {"embedding_dim": 9}),
}


def make(name: str, **settings: Any) -> tuple[Rival, ItemInputs]:
    """A rival with a small trunk, and photos of patterns that a pooled map can tell apart."""
    kind, section, own = RIVALS[name]
    config = Config.parse({"method": section, "backbone": {"width": 4}, section: own | settings})
    shape = PanShape(
        num_users=NUM_USERS, slots=SLOTS, categories=tuple(ITEMS_OF), text_dim=TEXT_DIM, input_shape=(3, SIDE, SIDE)
    )
    model = kind(config, shape, generator=torch.Generator().manual_seed(5))
    rng = np.random.default_rng(11)
    inputs = ItemInputs(
        source=np.tile(rng.integers(0, 256, (NUM_ITEMS, 3, 4, 4), dtype=np.uint8), (1, 1, SIDE // 4, SIDE // 4)),
        categories=torch.from_numpy(np.repeat([0, 1, 2], [len(rows) for rows in ITEMS_OF.values()])),
        text=torch.from_numpy(rng.standard_normal((NUM_ITEMS, TEXT_DIM)).astype(np.float32)),
        images=ImageConfig(size=SIDE),
    )
    return model, inputs


def draw_outfits(num_outfits: int = 50, seed: int = 3) -> Outfits:
    rng = np.random.default_rng(seed)
    items = np.column_stack([rng.choice(list(ITEMS_OF[category]), num_outfits) for _, category in SLOTS])
    items[rng.random(num_outfits) < 0.5, 1] = ABSENT
    items[rng.random(num_outfits) < 0.3, 3] = ABSENT
    return Outfits(rng.integers(0, NUM_USERS, num_outfits), items)


def draw_questions() -> FitbQuestions:
    rng = np.random.default_rng(4)
    outfits = draw_outfits(17, seed=5)
    blank = np.array([rng.choice(np.flatnonzero(row)) for row in outfits.mask])
    answer = rng.integers(0, NUM_CANDIDATES, len(blank))
    candidates = np.stack([rng.choice(list(ITEMS_OF[SLOTS[slot][1]]), NUM_CANDIDATES) for slot in blank])
    candidates[np.arange(len(blank)), answer] = outfits.items[np.arange(len(blank)), blank]
    return FitbQuestions(outfits, blank, candidates, answer)


@torch.no_grad()
def all_embeddings(model: Rival, inputs: ItemInputs) -> Tensor:
    model.eval()
    return model.embed(model.feature_maps(inputs.batch(np.arange(NUM_ITEMS))), inputs.categories, inputs.text)


@torch.no_grad()
def plain_scores(model: Rival, inputs: ItemInputs, outfits: Outfits, pool: list[int]) -> np.ndarray:
    """One outfit at a time."""
    embeddings = all_embeddings(model, inputs)
    found = []
    for row in torch.from_numpy(outfits.items):
        found.append(model.score(embeddings[row.clamp(min=0)][None], (row != ABSENT)[None], embeddings[pool]).item())
    return np.array(found)


@torch.no_grad()
def plain_answers(model: Rival, inputs: ItemInputs, questions: FitbQuestions, pool: list[int]) -> np.ndarray:
    """One question at a time."""
    embeddings = all_embeddings(model, inputs)
    found = []
    for row, blank, candidates in zip(
        torch.from_numpy(questions.outfits.items), questions.blank, questions.candidates, strict=True
    ):
        scores = model.question_scores(
            embeddings[row.clamp(min=0)][None],
            (row != ABSENT)[None],
            torch.tensor([blank]),
            embeddings[candidates][None],
            embeddings[pool],
        )
        found.append(scores[0].numpy())
    return np.stack(found)


POOLS = {"contrastive": [], "cosine": [], "csn": [], "bilstm": [0, 3, 7, 11, 14, 18]}


@pytest.mark.parametrize("name", RIVALS)
def test_equals_the_rival_one_by_one(name: str) -> None:
    model, inputs = make(name)
    outfits, questions = draw_outfits(), draw_questions()
    scorer = RivalScorer(model, inputs, batch_items=5, batch_outfits=7)
    scores = scorer.scores(outfits, binary=False)
    assert scores.dtype == np.float64
    assert np.ptp(scores) > 0.01
    np.testing.assert_allclose(scores, plain_scores(model, inputs, outfits, POOLS[name]), atol=2e-5)
    answers = scorer.question_scores(questions)
    assert answers.dtype == np.float64
    np.testing.assert_allclose(answers, plain_answers(model, inputs, questions, POOLS[name]), atol=2e-5)
    relaxed, binary = scorer.both(outfits)
    assert np.array_equal(relaxed, scores)
    assert np.array_equal(binary, scores)
    assert np.array_equal(scorer.scores(outfits, binary=True), scores)


@pytest.mark.parametrize("name", RIVALS)
def test_block_sizes_change_nothing(name: str) -> None:
    model, inputs = make(name)
    outfits, questions = draw_outfits(), draw_questions()
    whole = RivalScorer(model, inputs)
    for batch_items, batch_outfits in [(1, 1), (64, 3), (4, 64)]:
        scorer = RivalScorer(model, inputs, batch_items=batch_items, batch_outfits=batch_outfits)
        np.testing.assert_allclose(scorer.question_scores(questions), whole.question_scores(questions), atol=2e-5)
        np.testing.assert_allclose(scorer.scores(outfits), whole.scores(outfits), atol=2e-5)


def test_each_item_is_embedded_once_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make("csn")
    seen: list[int] = []
    embed = model.embed

    def counted(maps: Tensor, categories: Tensor, text: Tensor | None) -> Tensor:
        seen.append(len(maps))
        return embed(maps, categories, text)

    monkeypatch.setattr(model, "embed", counted)
    scorer = RivalScorer(model, inputs, batch_items=4)
    outfits = Outfits(np.zeros(2, dtype=np.int64), np.array([[0, 1, 9, 16], [0, ABSENT, 10, 16]]))
    scorer.scores(outfits)
    assert seen == [4, 1]
    scorer.scores(outfits)
    assert sum(seen) == 5
    scorer.scores(draw_outfits())
    scorer.question_scores(draw_questions())
    assert sum(seen) <= NUM_ITEMS


@pytest.mark.parametrize("pool_items", [1, 22, 4096])
def test_the_pool_is_spread_evenly_and_never_larger_than_the_catalogue(pool_items: int) -> None:
    model, inputs = make("bilstm", pool_items=pool_items)
    pool = [0] if pool_items == 1 else list(range(NUM_ITEMS))
    scores = RivalScorer(model, inputs).scores(draw_outfits())
    np.testing.assert_allclose(scores, plain_scores(model, inputs, draw_outfits(), pool), atol=2e-5)


def test_kept_maps_take_the_photos_place() -> None:
    model, inputs = make("csn")
    model.eval()
    with torch.no_grad():
        maps = model.feature_maps(inputs.batch(np.arange(NUM_ITEMS))).numpy()
    kept = ItemInputs(KeptMaps(maps, None), inputs.categories, inputs.text, inputs.images)
    np.testing.assert_allclose(
        RivalScorer(model, kept).scores(draw_outfits()), RivalScorer(model, inputs).scores(draw_outfits()), atol=2e-5
    )


def test_inputs_of_another_shape_are_refused() -> None:
    model, inputs = make("csn")
    photos = np.zeros((NUM_ITEMS, 3, SIDE + 1, SIDE), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"inputs of shape \(3, 17, 16\)"):
        RivalScorer(model, ItemInputs(photos, inputs.categories, inputs.text, inputs.images))


def test_leaves_the_model_as_it_was() -> None:
    model, inputs = make("bilstm")
    model.train()
    model.backbone.eval()
    before = [module.training for module in model.modules()]
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    scorer = RivalScorer(model, inputs)
    scorer.scores(draw_outfits())
    scorer.question_scores(draw_questions())
    assert [module.training for module in model.modules()] == before
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())


def test_no_outfits_and_no_questions() -> None:
    model, inputs = make("bilstm")
    none = Outfits(np.zeros(0, dtype=np.int64), np.zeros((0, 4), dtype=np.int64))
    scorer = RivalScorer(model, inputs)
    assert scorer.scores(none).shape == (0,)
    empty = np.zeros(0, dtype=np.int64)
    questions = FitbQuestions(none, empty, np.zeros((0, NUM_CANDIDATES), dtype=np.int64), empty)
    assert scorer.question_scores(questions).shape == (0, NUM_CANDIDATES)


# ---- evaluate()


def dataset_of_outfits() -> Dataset:
    categories = [category for category, rows in ITEMS_OF.items() for _ in rows]
    catalogue = Catalogue(
        item_ids=tuple(f"i{row}" for row in range(NUM_ITEMS)),
        item_categories=tuple(categories),
        images=(None,) * NUM_ITEMS,
        titles=(None,) * NUM_ITEMS,
        categories=tuple(ITEMS_OF),
        image_root=Path(),
    )
    return Dataset(
        name="rivals",
        slots=tuple(Slot(*slot) for slot in SLOTS),
        user_ids=tuple(f"u{user}" for user in range(NUM_USERS)),
        catalogue=catalogue,
        likes={"train": draw_outfits(), "test": draw_outfits(seed=8)},
        negatives={("test", "random"): draw_outfits(seed=9)},
        fitb={"test": draw_questions()},
    )


def test_evaluate_answers_questions_by_the_rivals_own_rule() -> None:
    model, inputs = make("bilstm")
    scorer, dataset = RivalScorer(model, inputs), dataset_of_outfits()
    result = evaluate(scorer, dataset, resamples=10)
    by_score: Callable[[Outfits], np.ndarray] = scorer.scores
    filled = evaluate(PlainScorer(by_score), dataset, resamples=10)
    questions = dataset.fitb["test"]
    answers = plain_answers(model, inputs, questions, POOLS["bilstm"])
    hits = oracles.fitb(answers.round(6).tolist(), questions.answer.tolist())
    assert result.fitb == pytest.approx(np.mean(hits))
    assert result.fitb != filled.fitb, "else the test cannot tell the rules apart"
    assert {metric: getattr(result, metric) for metric in METRICS} == result.relaxed
    for metric in ("auc", "ndcg", "ndcg_plain"):
        assert getattr(result, metric) == pytest.approx(getattr(filled, metric))


@pytest.mark.parametrize("name", ["contrastive", "csn"])
def test_evaluate_is_the_same_where_the_rule_is_the_filled_outfits_score(name: str) -> None:
    model, inputs = make(name)
    scorer, dataset = RivalScorer(model, inputs), dataset_of_outfits()
    by_score: Callable[[Outfits], np.ndarray] = scorer.scores
    filled = evaluate(PlainScorer(by_score), dataset, resamples=10)
    result = evaluate(scorer, dataset, resamples=10)
    for metric in METRICS:
        assert getattr(result, metric) == pytest.approx(getattr(filled, metric))
