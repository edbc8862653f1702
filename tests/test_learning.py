"""The whole path on a world whose answer is known: it learns what is there, and nothing where nothing is."""

from pathlib import Path

import numpy as np
import pytest

from panfit.config import Config
from panfit.data.wardrobe import WardrobeConfig, draw_wardrobe
from panfit.evaluate import PlainScorer, Result, evaluate
from panfit.features.inputs import build_inputs
from panfit.model.checkpoint import from_pretrained
from panfit.scoring import OutfitScorer
from panfit.train.loop import fit

CONFIG = Config.parse(
    {
        "images": {"size": 16, "flip": False},
        "text": {"source": "titles", "dim": 128},
        "backbone": {"width": 4, "statistics": True, "frozen": True, "head": "flatten"},
        "attention": {"gate": "mean", "kernel_size": 3},
        "model": {
            "code_bits": 64,
            "image_hidden": 32,
            "text_hidden": 32,
            "dropout": 0.1,
            "input_dropout": 0.1,
            "code_norm": "batch",
            "encoder_init_std": 0.0,
        },
        "negatives": {"per_like": 3, "source": "batch", "hard_ratio": 0.25, "compare": "personal", "choose": "any"},
        "optimizer": {
            "name": "adamw",
            "user": 0.03,
            "attention": 0.003,
            "image_encoder": 0.005,
            "text_encoder": 0.01,
            "predictor": 0.005,
            "schedule": "cosine",
        },
        "train": {"epochs": 4, "batch_size": 64, "beta": "constant", "straight_through_from": 0.0, "validate_every": 4},
    }
)


def train(signal: float, folder: Path) -> tuple[Result, Result]:
    """(PAN's test result, the ceiling's) on a small world."""
    world = WardrobeConfig.tiny(
        signal=signal,
        num_users=24,
        num_groups=4,
        items_per_category=(40, 15, 20),
        likes_per_user=(40.0, 4.0, 15.0),
        image_size=32,
    )
    wardrobe = draw_wardrobe(world, folder / "world")
    fit(CONFIG, wardrobe.dataset, folder / "run", progress=False)
    model, _ = from_pretrained(folder / "run" / "best")
    scorer = OutfitScorer(model, build_inputs(wardrobe.dataset, CONFIG))
    ceiling = evaluate(PlainScorer(wardrobe.truth.utility), wardrobe.dataset, resamples=0)
    return evaluate(scorer, wardrobe.dataset, resamples=0), ceiling


def test_it_learns_what_is_there(tmp_path: Path) -> None:
    result, ceiling = train(1.0, tmp_path)
    assert 0.58 < result.auc < ceiling.auc  # a few seconds on a small world; blind it would be .5, give or take .02
    assert result.fitb < ceiling.fitb


def test_it_learns_nothing_where_nothing_is(tmp_path: Path) -> None:
    result, ceiling = train(0.0, tmp_path)
    assert ceiling.auc == pytest.approx(0.5)
    by_user = result.values["auc"]
    standard_error = float(np.nanstd(by_user) / np.sqrt(len(by_user)))
    assert abs(result.auc - 0.5) < 4 * standard_error  # by chance once in 15,000 seeds
    assert standard_error < 0.03
    assert abs(result.fitb - 0.25) < 4 * np.sqrt(0.25 * 0.75 / result.questions)
