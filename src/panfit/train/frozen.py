"""A frozen trunk's maps, computed once before training: every later step starts from them."""

from dataclasses import replace

import numpy as np
import torch

from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.methods import LearnedModel
from panfit.train.distributed import ALONE, Ranks
from panfit.train.progress import Reporter

BATCH_ITEMS = 128


@torch.no_grad()
def keep_maps(model: LearnedModel, inputs: ItemInputs, reporter: Reporter, ranks: Ranks = ALONE) -> ItemInputs:
    """The inputs with photos replaced by the maps of ``model``'s trunk, float16, of the mirrored photos too if
    ``images.flip`` asks for them; stored maps are handed back as they are. Processes share the work; each keeps all."""
    if inputs.kind != "images":
        return inputs
    num_items, flips = len(inputs), (False, True) if inputs.images.flip else (False,)
    maps = np.empty((len(flips), num_items, *model.backbone.map_shape), dtype=np.float16)  # (1 or 2, N, C, H, W)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    for start in range(0, num_items, BATCH_ITEMS * ranks.size):
        own = start + BATCH_ITEMS * ranks.rank
        rows = np.arange(own, max(own, min(own + BATCH_ITEMS, num_items)))  # (n,) a block of its own for each process
        photos = inputs.batch(rows).to(device)  # (n, 3, h, w)
        found = [model.feature_maps(photos.flip(3) if flip else photos) for flip in flips]  # (n, C, H, W) each
        (gathered,) = ranks.gather(torch.stack(found, dim=1))  # (all processes' n, 1 or 2, C, H, W)
        stop = start + len(gathered)
        maps[:, start:stop] = gathered.transpose(0, 1).cpu().numpy()
        reporter.update("maps", stop, num_items)
    model.train(was_training)
    kept = KeptMaps(maps=maps[0], mirrored=maps[1] if inputs.images.flip else None)
    return replace(inputs, source=kept)
