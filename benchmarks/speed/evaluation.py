"""Evaluation of a test split of Polyvore-630's size: 630 users, 23,054 likes, ten negatives each, 23,054 questions.

345,810 outfits of 45,505 items with stored maps of 256 x 6 x 6 float16, pooled after attention. Plain scores one
outfit at a time, and, told beside it, 64 at a time: each slot's map is read and encoded, whether or not it was before;
then a loop over users for each metric. Plain is timed on a part of the outfits and of the users and multiplied. The
scores of that part are compared. Users, likes and maps are drawn by chance: speed does not depend on them.
"""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.measuring import digits, in_turns, machine, multiply_adds, seconds, watched_memory
from benchmarks.speed.plain_pan import PlainPan
from benchmarks.speed.worlds import TEST_630, Size, generated, store_maps
from panfit.config import Config
from panfit.evaluate import FloatArray, PlainScorer, evaluate
from panfit.features.inputs import build_inputs
from panfit.features.store import FeatureStore
from panfit.outfits import Dataset, IntArray, Outfits
from panfit.scoring import OutfitScorer
from panfit.train.learner import build_pan

TARGET, TARGET_METRICS_S = 20.0, 1.0
MAP = (256, 6, 6)
PLAIN_OUTFITS, PLAIN_USERS, PLAIN_BATCH, ROUNDS = 640, 20, 64, 2
CONFIG = {
    "text": {"source": "none"},
    "backbone": {"name": "alexnet", "source": "stored", "store": "speed", "head": "pool", "frozen": True},
    "attention": {"gate": "mean"},
    "model": {"code_bits": 128, "image_hidden": 2048, "encoder_init_std": 0.0},
}


def run(
    work: Path,
    *,
    size: Size = TEST_630,
    map_shape: tuple[int, int, int] = MAP,
    plain_outfits: int = PLAIN_OUTFITS,
    plain_users: int = PLAIN_USERS,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """The whole evaluation, random negatives, without a bootstrap; and its metrics alone."""
    folder = work / "speed-evaluation"
    shutil.rmtree(folder, ignore_errors=True)
    dataset = generated(size, seed=0, folder=folder)
    config = Config.parse(CONFIG)
    store_maps(dataset, "speed", map_shape, extractor="alexnet")
    inputs = build_inputs(dataset, config)
    assert isinstance(inputs.source, FeatureStore)
    maps = inputs.source.maps
    model = build_pan(config, dataset, inputs).eval()
    plain = PlainPan(model, [0, 1, 2], from_photos=False)
    outfits = asked(dataset)
    some = np.linspace(0, len(outfits) - 1, plain_outfits).astype(np.int64)  # (n,)
    slow_scores = np.zeros(plain_outfits)  # (n,)

    @torch.inference_mode()
    def one_by_one(at_a_time: int = 1) -> None:
        for first in range(0, plain_outfits, at_a_time):
            rows = some[first : first + at_a_time]
            loaded = [[torch.from_numpy(np.array(maps[item])) for item in outfits.items[row]] for row in rows]
            stacked = torch.stack([torch.stack(each) for each in loaded]).float()  # (b, S, C, H, W)
            users = torch.from_numpy(outfits.users[rows])  # (b,)
            for hard in (False, True):  # relaxed codes, then binary ones
                scores, _ = plain.scores(users, stacked, None, beta=1.0, hard=hard)
            slow_scores[first : first + at_a_time] = scores.numpy()

    def whole() -> None:
        evaluate(OutfitScorer(model, inputs), dataset, resamples=0)

    rates = machine()
    rng = np.random.default_rng(1)
    drawn = rng.random(len(outfits))  # (B,)
    try:
        with watched_memory() as memory:
            first_s = seconds(whole)
        works = {
            "whole": whole,
            "plain": one_by_one,
            "plain_batched": lambda: one_by_one(PLAIN_BATCH),
            "metrics": lambda: evaluate(PlainScorer(lambda asked: drawn), dataset, resamples=0),
            "plain_metrics": lambda: plain_metrics(dataset, drawn, plain_users),
        }
        best = in_turns(works, rounds=rounds)
        one_by_one()
        quick = OutfitScorer(model, inputs).scores(outfits.take(some), binary=True)  # (n,)
        apart = float(np.abs(quick - slow_scores).max())
        part = outfits.take(np.arange(0, len(outfits), max(1, len(outfits) // 2000)))
        operations = multiply_adds(lambda: OutfitScorer(model, inputs).both(part)) * distinct(outfits) / distinct(part)
    finally:
        shutil.rmtree(folder)
    plain_metrics_s = best["plain_metrics"] * size.users / min(plain_users, size.users)
    plain_s = best["plain"] * len(outfits) / plain_outfits + plain_metrics_s
    batched_s = best["plain_batched"] * len(outfits) / plain_outfits + plain_metrics_s
    return {
        "case": f"evaluation of {size.users} users: {len(outfits):,} outfits of {size.items:,} items with stored maps",
        "ratio_to_plain": round(plain_s / best["whole"], 2),
        "ratio_to_plain_batched": round(batched_s / best["whole"], 2),
        "share_of_ceiling": round(operations / best["whole"] / 1e9 / rates["giga_multiply_adds_per_s"], 3),
        "ceiling": "the multiply-adds of an evaluation at the rate of a large float32 matrix product",
        "target": TARGET,
        "metrics_s": round(best["metrics"], 3),
        "target_metrics_s": TARGET_METRICS_S,
        "plain_metrics_s": round(plain_metrics_s, 2),
        "whole_s": round(best["whole"], 2),
        "first_of_process_s": round(first_s, 2),
        "plain_s": round(plain_s, 1),
        "plain_64_at_a_time_s": round(batched_s, 1),
        "largest_difference_of_scores": apart,
        "anonymous_mb": memory.get("mb"),
        "machine": rates,
        "seconds": digits(best, 4),
    }


def asked(dataset: Dataset) -> Outfits:
    """All outfits that an evaluation scores."""
    parts = [dataset.likes["test"], dataset.negatives["test", "random"], dataset.fitb["test"].filled()]
    return Outfits(np.concatenate([each.users for each in parts]), np.concatenate([each.items for each in parts]))


def distinct(outfits: Outfits) -> int:
    """Distinct (user, item) pairs."""
    return len(np.unique(outfits.users[:, None] * (1 << 40) + outfits.items))


def plain_metrics(dataset: Dataset, scores: FloatArray, num_users: int) -> tuple[float, float, float]:
    """AUC, NDCG over all ranks and FITB of the first users, by loops over users, pairs, ranks and questions."""
    likes, negatives, questions = dataset.likes["test"], dataset.negatives["test", "random"], dataset.fitb["test"]
    ranked = len(likes) + len(negatives)
    users: IntArray = np.concatenate([likes.users, negatives.users])
    candidates = scores[ranked:].reshape(questions.candidates.shape)  # (Q, K)
    aucs, ndcgs, hits = [], [], []
    for user in range(num_users):
        own = np.flatnonzero(users == user)
        positive = [float(scores[row]) for row in own if row < len(likes)]
        negative = [float(scores[row]) for row in own if row >= len(likes)]
        if positive and negative:
            won = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative)
            aucs.append(won / (len(positive) * len(negative)))
            ordered = sorted([(score, 1) for score in positive] + [(score, 0) for score in negative], reverse=True)
            ndcgs.append(_all_ranks([gain for _, gain in ordered], len(positive)))
        for row in np.flatnonzero(questions.outfits.users == user):
            hits.append(float(np.argmax(candidates[row]) == questions.answer[row]))
    return tuple(sum(values) / max(len(values), 1) for values in (aucs, ndcgs, hits))  # type: ignore[return-value]


def _all_ranks(gains: list[int], num_positive: int) -> float:
    reached = ideal = total = 0.0
    for place, gain in enumerate(gains):
        discount = math.log2(max(place + 1, 2))
        reached += gain / discount
        ideal += (place < num_positive) / discount
        total += reached / ideal
    return total / len(gains)
