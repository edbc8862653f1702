"""One training step's (user, item) pairs through attention, head and encoders: against a plain implementation.

Plain: each pair's map is copied, Eq. 2 and 3 are computed for it from scratch, the gated map is written, then pooled.
Both are the same numbers (checked here, and against plain loops in the tests); the ratio is of CPU seconds, one thread,
forward and backward, the better of several rounds taken in turns.

    .venv/bin/python benchmarks/attention.py            writes results/benchmarks/attention.json
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from panfit.config import Config
from panfit.model.attention import UserAwareAttention, UserMap
from panfit.model.pan import OutfitBatch, Pan, PanShape
from panfit.pedigree import pedigree

ROOT = Path(__file__).resolve().parent.parent
LIKES, NEGATIVES, CHANNELS, SIDE = 64, 7, 128, 8
ROUNDS = 7
TARGET = 2.0
"""Times faster than plain; what PAN's cost on a CPU called for (a step was 3-4 times slower when written plainly)."""


def build() -> tuple[Pan, OutfitBatch]:
    """A model on stored maps whose users look somewhere; a batch of 64 likes with 7 recombined negatives each."""
    generator = torch.Generator().manual_seed(0)
    model_settings = {
        "code_bits": 128,
        "image_hidden": 256,
        "encoder_init_std": 0.0,
        "dropout": 0.0,
        "input_dropout": 0.0,
    }
    backbone = {"source": "stored", "store": "benchmark", "head": "pool"}
    config = Config.parse({"backbone": backbone, "model": {**model_settings, "user_init_std": 0.3}})
    shape = PanShape(
        num_users=100,
        slots=(("top", "top"), ("bottom", "bottom"), ("shoe", "shoe")),
        categories=("top", "bottom", "shoe"),
        text_dim=None,
        input_shape=(CHANNELS, SIDE, SIDE),
    )
    model = Pan(config, shape, generator=generator)
    assert isinstance(model.attention, UserAwareAttention)
    assert isinstance(model.attention.spatial.user, UserMap)
    for weight in (model.attention.channel.user.weight, model.attention.spatial.user.weight):
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    users = torch.arange(LIKES).repeat_interleave(1 + NEGATIVES)  # (B,)
    items = torch.stack([torch.randint(LIKES, (len(users),), generator=generator) + k * LIKES for k in range(3)], dim=1)
    maps = torch.randn(3 * LIKES, CHANNELS, SIDE, SIDE, generator=generator).relu().requires_grad_()  # (N, C, H, W)
    categories = torch.arange(3).repeat_interleave(LIKES)  # (N,)
    return model, OutfitBatch(maps, categories, None, users, items)


def plain(model: Pan, batch: OutfitBatch, pair_users: Tensor, pair_items: Tensor) -> Tensor:
    """Image logits (P, D), every pair on its own, as Eq. 2 and 3 are printed."""
    attention = model.attention
    assert isinstance(attention, UserAwareAttention)
    assert isinstance(attention.spatial.user, UserMap)
    f_u = model.user_embeddings(pair_users)  # (P, D)
    maps = batch.inputs[pair_items]  # (P, C, H, W)
    mlp, sigmoid = attention.channel.mlp, torch.sigmoid
    from_item = mlp(maps.mean((2, 3))) + mlp(maps.amax((2, 3)))  # (P, C)
    gated = maps * sigmoid(from_item + attention.channel.user(f_u))[:, :, None, None]  # (P, C, H, W)
    descriptors = torch.stack([gated.mean(1), gated.amax(1)], dim=1)  # (P, 2, H, W)
    from_map = attention.spatial.convolution(descriptors)[:, 0]  # (P, H, W)
    spatial = sigmoid(from_map + attention.spatial.user.ask(f_u).view_as(from_map))  # (P, H, W)
    pooled = (gated * spatial[:, None]).mean((2, 3))  # (P, C)
    logits: Tensor = model.image_encoder(pooled, batch.categories[pair_items])  # (P, D)
    return logits


def seconds(step: Callable[[], Tensor]) -> float:
    """CPU seconds of one forward and backward pass."""
    start = time.process_time()
    step().square().sum().backward()
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    model, batch = build()
    output = model(batch)
    pair_users, pair_items = output.pair_users, output.pair_items  # (P,), (P,)

    def fast() -> Tensor:
        encoding = model.encode_pairs(
            batch.inputs,
            batch.categories,
            None,
            pair_items=pair_items,
            user_embedding=model.user_embeddings(pair_users),
        )
        return encoding.image_logits

    def slow() -> Tensor:
        return plain(model, batch, pair_users, pair_items)

    torch.testing.assert_close(fast(), slow(), rtol=1e-3, atol=1e-5)
    times = [(seconds(fast), seconds(slow)) for _ in range(ROUNDS)]
    ratio = min(slow_s for _, slow_s in times) / min(fast_s for fast_s, _ in times)
    found = pedigree()
    content = {
        "case": f"attention, head and encoders of {len(pair_items)} pairs, forward and backward",
        "ratio_to_plain": round(ratio, 2),
        "share_of_ceiling": None,
        "target": TARGET,
        "peak_mb": found["peak_mb"],
        "fast_s": round(min(fast_s for fast_s, _ in times), 4),
        "plain_s": round(min(slow_s for _, slow_s in times), 4),
        **found,
    }
    path = ROOT / "results" / "benchmarks" / "attention.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
