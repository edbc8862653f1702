"""Training end to end: AlexNet on closet's photos at 224 pixels, the trunk trained too.

Two recipes on the same photos: the project's own way with photos (closet.toml's negatives: five a like, recombined
from the batch, one in five mined, so that no further photo passes the trunk), and the paper's (one a like from all
items, half mined by their loss). Plain decodes a photo each time it is asked for and runs the trunk for every slot of
every outfit; without DataLoader workers, whose reading ahead would run into panfit's turn. The ceiling is the machine's
float32 product rate, by the multiply-adds of panfit's step.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed import decoding
from benchmarks.speed.training import compare
from benchmarks.speed.worlds import closet, recipe
from panfit.config import Config
from panfit.features.images import photo_paths
from panfit.features.inputs import build_inputs
from panfit.train.learner import build_pan

TARGET = 3.0
SIZE, LIKES, ROUNDS = 224, 32, 2
NEGATIVES = {
    "closet": ("negatives.per_like=5", "negatives.source=batch", "negatives.hard_ratio=0.2", "negatives.choose=far"),
    "paper": (),
}


def run(work: Path, *, rounds: int = ROUNDS, size: int = SIZE, likes: int = LIKES) -> dict[str, Any]:
    """Both recipes; the case's ratio is that of the project's own."""
    dataset = closet(work)
    paths = photo_paths(dataset)

    def load(item: int) -> Tensor:
        return torch.from_numpy(decoding.plain(paths[item], size))

    found = {}
    for name, changes in NEGATIVES.items():
        config = alexnet(size, likes, *changes)
        inputs = build_inputs(dataset, config)
        model = build_pan(config, dataset, inputs)
        found[name] = compare(model, dataset, inputs, config, load=load, from_photos=True, rounds=rounds, steps=1)
    own = found["closet"]
    return {
        "case": f"a training step end to end, AlexNet at {size} pixels, {likes} likes with closet's negatives",
        "ratio_to_plain": own["ratio_to_plain"],
        "share_of_ceiling": own["share_of_product_rate"],
        "ceiling": "the multiply-adds of a step at the rate of a large float32 matrix product",
        "target": TARGET,
        "ratio_to_plain_batched": own["ratio_to_plain_batched"],
        "papers_ratio_to_plain": found["paper"]["ratio_to_plain"],
        "anonymous_mb": own["anonymous_mb"],
        "machine": own["machine"],
        "recipes": found,
    }


def alexnet(size: int, likes: int, *changes: str) -> Config:
    """configs/paper/table1-pan.toml on photos of another size, squashed, with another batch and no text."""
    few = (f"images.size={size}", "images.fit=squash", "text.source=none", f"train.batch_size={likes}")
    return recipe("paper/table1-pan.toml", *few, *changes)
