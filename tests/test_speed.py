"""The benchmarks of speed: what is called plain computes the same, and each case says what it is to say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.speed import __main__ as speed
from benchmarks.speed import evaluation, frozen_stored, importing
from benchmarks.speed.measuring import in_turns, multiply_adds, watched_memory
from benchmarks.speed.plain_pan import PlainPan
from benchmarks.speed.worlds import Size, generated
from panfit.config import Config, ImageConfig
from panfit.evaluate import PlainScorer, evaluate
from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.model.attention import UserAwareAttention, UserMap
from panfit.model.pan import Pan
from panfit.train.learner import build_pan
from panfit.train.step_inputs import StepInputs

TINY = Size(users=7, likes=30, items=24, negatives_per_like=3, candidates=4)
CONFIG = Config.parse(
    {
        "text": {"dim": 11},
        "backbone": {"source": "stored", "store": "maps", "name": "resnet50", "frozen": True},
        "attention": {"gate": "mean", "reduction": 2},
        "model": {"code_bits": 16, "image_hidden": 9, "text_hidden": 6, "user_init_std": 0.5, "encoder_init_std": 0.0},
        "negatives": {"per_like": 2, "hard_ratio": 0.5},
        "train": {"batch_size": 10},
    }
)


@pytest.mark.parametrize("hard", [False, True])
def test_plain_pan_is_pan(hard: bool) -> None:
    dataset = generated(TINY, seed=0)
    maps = np.random.default_rng(0).random((24, 8, 3, 5), dtype=np.float32)
    categories = torch.from_numpy(dataset.catalogue.category_rows.copy())
    text = torch.rand(24, 11, generator=torch.Generator().manual_seed(1))
    inputs = ItemInputs(KeptMaps(maps, None), categories, text, ImageConfig())
    model = build_pan(CONFIG, dataset, inputs).eval()
    look_somewhere(model)
    likes = dataset.likes["train"]
    batch = StepInputs(model, inputs, generator=None, device=torch.device("cpu")).batch(likes.users, likes.items)
    output = model(batch, beta=1.3, straight_through=hard)
    loaded = inputs.batch(likes.items.flatten()).unflatten(0, likes.items.shape)  # (B, S, C, H, W)
    score, codes = PlainPan(model, [0, 1, 2], from_photos=False).scores(
        torch.from_numpy(likes.users), loaded, text[torch.from_numpy(likes.items)], beta=1.3, hard=hard
    )
    torch.testing.assert_close(score, output.score)
    torch.testing.assert_close(codes, output.item_codes)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    slow, quick = (torch.autograd.grad(each.square().sum(), weights) for each in (score, output.score))
    for mine, theirs in zip(slow, quick, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def look_somewhere(model: Pan) -> None:
    """At zero, as they start, Eq. 2-3's user terms would hide a mistake."""
    assert isinstance(model.attention, UserAwareAttention)
    assert isinstance(model.attention.spatial.user, UserMap)
    generator = torch.Generator().manual_seed(3)
    for weight in (model.attention.channel.user.weight, model.attention.spatial.user.weight):
        nn.init.normal_(weight, std=0.5, generator=generator)


def test_plain_metrics_are_the_metrics() -> None:
    dataset = generated(TINY, seed=1)
    drawn = np.random.default_rng(2).random(len(evaluation.asked(dataset)))
    result = evaluate(PlainScorer(lambda outfits: drawn), dataset, resamples=0)
    auc, ndcg, fitb = evaluation.plain_metrics(dataset, drawn, TINY.users)
    assert auc == pytest.approx(result.auc)
    assert ndcg == pytest.approx(result.ndcg)
    assert fitb == pytest.approx(result.fitb)


def test_evaluation(tmp_path: Path) -> None:
    found = evaluation.run(tmp_path, size=TINY, map_shape=(32, 3, 2), plain_outfits=9, plain_users=3, rounds=1)
    assert found["largest_difference_of_scores"] < 1e-4
    assert "7 users: 240 outfits of 24 items" in found["case"]
    assert found["ratio_to_plain"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("choose", ["loss", "far"])
def test_a_training_case(tmp_path: Path, choose: str) -> None:
    changed = CONFIG.model_copy(update={"negatives": CONFIG.negatives.model_copy(update={"choose": choose})})
    found = frozen_stored.run(tmp_path, size=TINY, map_shape=(8, 3, 5), config=changed, rounds=1, steps=1)
    assert found["share_of_ceiling"] == found["share_in_the_model"] > 0
    assert found["giga_multiply_adds_per_step"] >= 0
    assert found["likes_per_s"] == pytest.approx(10 / found["step_s"], rel=0.05)


def test_importing_is_compared_with_importing_all() -> None:
    assert "panfit.recommend" in importing.EAGER
    assert "torch" in importing.EAGER


def test_measuring() -> None:
    calls: list[str] = []
    best = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 3
    assert set(best) == {"a", "b"}
    left, right = torch.ones(3, 5), torch.ones(5, 7)
    assert multiply_adds(lambda: left @ right) == 3 * 5 * 7
    with watched_memory() as memory:
        pass
    assert memory.get("mb", 1.0) > 0


def test_a_case_is_measured_again_only_for_other_code(tmp_path: Path) -> None:
    path = speed.result_file(tmp_path, "decoding")
    assert not speed.is_measured(path, "c0ffee")
    path.parent.mkdir()
    path.write_text(json.dumps({"commit": "c0ffee", "dirty": False}))
    assert speed.is_measured(path, "c0ffee")
    assert not speed.is_measured(path, "another")
    path.write_text(json.dumps({"commit": "c0ffee", "dirty": True}))
    assert not speed.is_measured(path, "c0ffee")


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speed.main(["nothing"])
    assert "no case 'nothing'; there are import, decoding" in capsys.readouterr().err
