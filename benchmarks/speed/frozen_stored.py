"""Training on stored ResNet-50 maps: configs/paper/table2-ul_hn_an.toml's step on a generated part of Polyvore-630.

The data set has Polyvore-630's likes a user and an item, a hundredth of both. The maps, 2048 x 7 x 7 float16, 200 kB an
item, lie in a feature store; plain reads the same rows, one item at a time. Text vectors are random.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.training import compare
from benchmarks.speed.worlds import TRAIN_630, Size, generated, recipe, store_maps
from panfit.config import Config
from panfit.features.inputs import build_inputs
from panfit.features.store import FeatureStore
from panfit.train.learner import build_pan

MAP, PART = (2048, 7, 7), 100
ROUNDS, STEPS = 4, 2
TARGET_SHARE = 0.85


def run(
    work: Path,
    *,
    size: Size | None = None,
    map_shape: tuple[int, int, int] = MAP,
    config: Config | None = None,
    rounds: int = ROUNDS,
    steps: int = STEPS,
) -> dict[str, Any]:
    """The paper's frozen recipe: one random negative a like from all items, half of them mined by their loss."""
    config = recipe("paper/table2-ul_hn_an.toml") if config is None else config
    size = TRAIN_630.divided(PART) if size is None else size
    folder = work / "speed-stored"
    shutil.rmtree(folder, ignore_errors=True)
    dataset = generated(size, seed=0, folder=folder)
    text = np.random.default_rng(0).random((size.items, config.text.dim), dtype=np.float32)
    dataset = replace(dataset, text=text)
    store_maps(dataset, config.backbone.store or "", map_shape, extractor=config.backbone.name)
    inputs = build_inputs(dataset, config)
    assert isinstance(inputs.source, FeatureStore)
    inputs.source.verify()
    maps = inputs.source.maps

    def load(item: int) -> Tensor:
        return torch.from_numpy(np.array(maps[item])).float()

    try:
        model = build_pan(config, dataset, inputs)
        found = compare(model, dataset, inputs, config, load=load, from_photos=False, rounds=rounds, steps=steps)
    finally:
        shutil.rmtree(folder)
    shape = " x ".join(map(str, map_shape))
    return {
        "case": f"a training step on stored maps {shape}, the paper's recipe, {config.train.batch_size} likes",
        "share_of_ceiling": found["share_in_the_model"],
        "ceiling": "the bare model's forward and backward passes and the optimizer, on tensors that are ready",
        "target": None,
        "target_share": TARGET_SHARE,
        **found,
    }
