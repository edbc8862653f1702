"""The first stage: a trunk learns what the catalogue itself knows, before anybody's taste is asked for.

Not in the paper. Small shops have few likes and no pre-trained weights for the garments they sell, but every catalogue
says of each item what it is, often in words what it looks like, and its photo shows which colors it has. A linear probe
must read all three off the trunk's map; then the probe is thrown away. Likes are not touched, so nothing leaks from
them.
"""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from panfit.config import Config
from panfit.errors import ConfigError
from panfit.features.inputs import ItemInputs
from panfit.model.pan import Pan
from panfit.outfits import Catalogue, Dataset
from panfit.train.chance import PRETRAIN, PRETRAIN_ORDER, chance_seed
from panfit.train.progress import Reporter, StopRequest
from panfit.train.run_folder import fingerprint
from panfit.train.state import Progress, load_state, save_state

MIN_WORD_COUNT = 10
"""A title word that fewer items carry says too little to learn from."""
BLACK, WHITE = -2.2, 2.7
"""The range of a normalized photo's channels, a little beyond: where the color histogram's first and last bin lie."""
PRETRAIN_STATE_FILE = "pretrain.safetensors"
RISING_SHARE = 0.2
"""Share of the steps over which the learning rate rises, before it falls along a cosine."""


def word_targets(catalogue: Catalogue) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """What the catalogue says of each item in words.

    Returns:
        (N, W) 0 or 1: the item is of this category, or its title has this word; and the W names, sorted, categories
        as "category=top".
    """
    described = [
        {f"category={category}", *(title or "").lower().split()}
        for category, title in zip(catalogue.item_categories, catalogue.titles, strict=True)
    ]
    counts = Counter(word for words in described for word in words)
    names = tuple(sorted(word for word, count in counts.items() if MIN_WORD_COUNT <= count < len(catalogue)))
    return np.array([[name in words for name in names] for words in described], dtype=np.float32), names


def color_targets(photos: Tensor, bins: int) -> Tensor:
    """Square roots of the color histogram over a photo's middle.

    Args:
        photos: (N, 3, H, W) normalized photos, as the trunk sees them.
        bins: b, soft bins a channel, from black to white.

    Returns:
        (N, 3 b) in [0, 1].
    """
    height, width = photos.shape[2:]
    middle = photos[:, :, height // 5 : height - height // 5, width // 5 : width - width // 5].flatten(2)  # (N, 3, P)
    place = (middle - BLACK) / (WHITE - BLACK) * (bins - 1)  # (N, 3, P) in bins
    centers = torch.arange(bins, dtype=photos.dtype, device=photos.device)  # (b,)
    shares = (1 - (place[:, :, None, :] - centers[:, None]).abs()).clamp(min=0).mean(dim=3)  # (N, 3, b)
    return shares.flatten(1).sqrt()


class CatalogueProbe(nn.Module):
    """Reads words and colors off a map: each channel averaged under a learned mask of its own, then a linear layer."""

    def __init__(self, map_shape: tuple[int, int, int], *, num_words: int, num_colors: int) -> None:
        super().__init__()
        channels, height, width = map_shape
        rows = torch.linspace(-1, 1, height)[:, None] ** 2  # (H, 1)
        columns = torch.linspace(-1, 1, width)[None, :] ** 2  # (1, W)
        middle = -2.0 * (rows + columns).flatten()  # (H * W,) garments lie in the middle of their photos
        self.mask_logits = nn.Parameter(middle.repeat(channels, 1))  # (C, H * W)
        self.words = nn.Linear(channels, num_words)
        self.colors = nn.Linear(channels, num_colors)

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> word logits (N, W) and color histogram roots (N, K)."""
        pooled = (feature_map.flatten(2) * self.mask_logits.softmax(dim=1)).sum(dim=2)  # (N, C)
        return self.words(pooled), self.colors(pooled)


def pretrain_trunk(
    model: Pan,
    dataset: Dataset,
    inputs: ItemInputs,
    config: Config,
    *,
    out: Path,
    reporter: Reporter,
    stop: StopRequest,
) -> None:
    """Train ``model.backbone``'s trunk on the catalogue's words and colors; resumable at its epochs, in place.

    Raises:
        ConfigError: there is no trunk to train (stored maps, or no inputs from photos).
        KeyboardInterrupt: Ctrl-C; epochs done are kept.
    """
    if inputs.kind != "images":
        raise ConfigError('pretrain.epochs needs backbone.source = "images": stored maps have no trunk to train')
    settings = config.pretrain
    words, _ = word_targets(dataset.catalogue)  # (N, W)
    trunk = model.backbone.trunk
    device = next(model.parameters()).device
    targets = torch.from_numpy(words).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chance_seed(config.seed, PRETRAIN))
        probe = CatalogueProbe(model.backbone.map_shape, num_words=words.shape[1], num_colors=3 * settings.color_bins)
        probe.to(device)
    learner = nn.ModuleDict({"trunk": trunk, "probe": probe})
    was_trainable = [parameter.requires_grad for parameter in trunk.parameters()]
    trunk.requires_grad_(True)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    state_file, belongs = out / PRETRAIN_STATE_FILE, fingerprint(config, dataset)
    progress = Progress()
    if state_file.exists():
        progress = load_state(state_file, model=learner, optimizer=optimizer, fingerprint=belongs)
    steps_per_epoch = math.ceil(len(inputs) / settings.batch_size)
    total = settings.epochs * steps_per_epoch
    learner.train()
    while progress.epoch < settings.epochs:
        order = np.random.default_rng([config.seed, PRETRAIN_ORDER, progress.epoch]).permutation(len(inputs))
        for step in range(steps_per_epoch):
            rows = order[step * settings.batch_size :][: settings.batch_size]
            done = progress.epoch * steps_per_epoch + step
            generator = torch.Generator().manual_seed(chance_seed(config.seed, PRETRAIN, progress.epoch, step))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate_factor(done, total)
            photos = inputs.batch(rows, generator=generator).to(device)  # (n, 3, h, w)
            word_logits, color_roots = probe(trunk(photos))  # (n, W), (n, K)
            word_loss = F.binary_cross_entropy_with_logits(word_logits, targets[rows], reduction="sum") / len(rows)
            color_loss = F.mse_loss(color_roots, color_targets(photos, settings.color_bins), reduction="sum") / len(
                rows
            )
            optimizer.zero_grad()
            (word_loss + color_loss).backward()
            optimizer.step()
            reporter.update("pretraining", done + 1, total, f"words {word_loss:.3f}  colors {color_loss:.3f}")
            stop.check()
        progress.epoch += 1
        save_state(state_file, progress, model=learner, optimizer=optimizer, fingerprint=belongs)
    for parameter, trainable in zip(trunk.parameters(), was_trainable, strict=True):
        parameter.requires_grad_(trainable)
    model.train(model.training)  # a frozen trunk goes back to evaluation mode


def _rate_factor(step: int, total: int) -> float:
    rising = max(1, round(RISING_SHARE * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
