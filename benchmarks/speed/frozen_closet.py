"""Training on a frozen trunk's maps kept in memory: configs/closet.toml on closet, one step and one epoch.

Plain reads each item's map from a file of all maps, for every slot of every outfit, in a per-sample Dataset, and
encodes every slot of every outfit. Its trunk's maps are computed once, too: what is compared is what comes after. Both
compute the same scores and losses (tests/test_speed.py).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.training import compare, epoch_seconds
from benchmarks.speed.worlds import closet, recipe
from panfit.config import Config
from panfit.features.inputs import ItemInputs, KeptMaps, build_inputs
from panfit.model.pan import Pan
from panfit.train.frozen import keep_maps
from panfit.train.learner import build_pan
from panfit.train.progress import Reporter

TARGET, TARGET_SHARE = 10.0, 0.85
ROUNDS, STEPS = 5, 4


def run(work: Path, *, rounds: int = ROUNDS, steps: int = STEPS, config: Config | None = None) -> dict[str, Any]:
    """With a random trunk: speed does not depend on its weights."""
    config = recipe("closet.toml", "pretrain.epochs=0") if config is None else config
    dataset = closet(work)
    photos = build_inputs(dataset, config)
    model = build_pan(config, dataset, photos)
    inputs = kept(model, photos, work)
    found = compare(model, dataset, inputs, config, load=loader(work), from_photos=False, rounds=rounds, steps=steps)
    epoch_s, count = epoch_seconds(model, dataset, inputs, config)
    (work / "speed-maps.npy").unlink()
    return {
        "case": f"a training step on frozen maps, closet's recipe, {config.train.batch_size} likes",
        "share_of_ceiling": found["share_in_the_model"],
        "ceiling": "the bare model's forward and backward passes and the optimizer, on tensors that are ready",
        "target": TARGET,
        "target_share": TARGET_SHARE,
        **found,
        "epoch": {
            "steps": count,
            "seconds": round(epoch_s, 2),
            "plain_seconds": round(count * found["plain_step_s"], 1),
        },
    }


def kept(model: Pan, inputs: ItemInputs, work: Path) -> ItemInputs:
    """The inputs with the trunk's maps in the photos' place; also in WORK/speed-maps.npy, for the plain way."""
    with Reporter(enabled=False) as reporter:
        inputs = keep_maps(model, inputs, reporter)
    assert isinstance(inputs.source, KeptMaps)
    np.save(work / "speed-maps.npy", inputs.source.maps.astype(np.float32))
    return inputs


def loader(work: Path) -> Any:
    """Item row -> its map (C, H, W), read from the file."""
    maps = np.load(work / "speed-maps.npy", mmap_mode="r")

    def load(item: int) -> Tensor:
        return torch.from_numpy(np.array(maps[item]))

    return load
