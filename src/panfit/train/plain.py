"""A plain baseline's whole training: the train likes, random negatives, one fit (decision D27)."""

import time
from pathlib import Path

import numpy as np

from panfit.baselines.plain import PlainModel
from panfit.config import Config
from panfit.evaluate import evaluate
from panfit.features.inputs import ItemInputs
from panfit.methods import PLAIN, shape_of
from panfit.model.checkpoint import save_pretrained
from panfit.outfits import Dataset, Outfits
from panfit.train.chance import STEP, chance_seed
from panfit.train.run_folder import FitReport, begin_folder, log_line, selected, validation_record
from panfit.train.triplets import KnownLikes, sample_negatives


def fit_plain(config: Config, dataset: Dataset, inputs: ItemInputs, out: Path, *, resume: bool) -> FitReport:
    """Fit, validate and save: a run folder like any other, of one epoch. Starting again is faster than resuming."""
    started = time.monotonic()
    model = PLAIN[config.method](config, shape_of(dataset, inputs))
    fit_plain_model(model, dataset, inputs)
    result = evaluate(model, dataset, split="val", negatives="random", resamples=0)
    begin_folder(out, config, dataset, resume=resume)
    extra = {
        "epoch": 0,
        "beta": 1.0,
        "dataset": dataset.name,
        "checksum": dataset.checksum,
        "inputs": dict(inputs.made_by),
    }
    for name in ("last", "best"):
        save_pretrained(model, out / name, user_ids=dataset.user_ids, extra=extra)
    seconds = time.monotonic() - started
    log_line(
        out, {"epoch": 0, "losses": {}, "seconds": round(seconds, 3), "val": validation_record(result, config.train)}
    )
    return FitReport(out, epochs=1, best_epoch=0, best=selected(result, config.train), seconds=seconds)


def fit_plain_model(model: PlainModel, dataset: Dataset, inputs: ItemInputs) -> None:
    """Fill the model's buffers from the train likes against ``config.linear.negatives`` random outfits for each like.

    The negatives are those of every other method: recombined from the split's items, never a known like (decision D9).

    Raises:
        ConfigError, MissingExtraError: see `PlainModel.fit_likes` of the model.
    """
    likes = dataset.likes["train"]
    model.fit_likes(likes, _negatives(model, dataset, likes), inputs)


def _negatives(model: PlainModel, dataset: Dataset, likes: Outfits) -> Outfits:
    per_like = model.config.linear.negatives
    items, valid = sample_negatives(
        likes,
        dataset.split_items("train"),
        per_like=per_like,
        known=KnownLikes(likes),
        rng=np.random.default_rng(chance_seed(model.config.seed, STEP, 0, 0)),
    )  # (B, K, S), (B, K)
    users = np.repeat(likes.users[:, None], per_like, axis=1)  # (B, K)
    return Outfits(users[valid], items[valid])
