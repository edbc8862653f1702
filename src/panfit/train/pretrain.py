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

from panfit.arithmetic import device_named, has_bf16
from panfit.config import Config
from panfit.errors import ConfigError
from panfit.features.inputs import ItemInputs, build_inputs
from panfit.methods import LearnedModel
from panfit.model.small import Statistics
from panfit.outfits import Catalogue, Dataset
from panfit.train.chance import PRETRAIN, PRETRAIN_ORDER, chance_seed, own_seed
from panfit.train.distributed import ALONE, GradientSum, Ranks
from panfit.train.learner import build_model
from panfit.train.progress import Reporter, StopRequest
from panfit.train.run_folder import fingerprint
from panfit.train.state import Progress, load_state, save_state, write_tensors

MIN_WORD_COUNT = 10
"""A title word that fewer items carry says too little to learn from."""
MEASURED_AT_ONCE = 512
PRETRAIN_STATE_FILE = "pretrain.safetensors"
TRUNK_FILE = "trunk.safetensors"
"""The trained trunk and its head, for other runs to start from: backbone.weights = "RUN/trunk.safetensors"."""
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


class ColorTargets:
    """What a photo's middle half measures of its colors and edges, standardized over the catalogue."""

    def __init__(self, inputs: ItemInputs) -> None:
        self._statistics = Statistics().eval()
        measured = torch.cat(
            [
                self._measure(inputs.batch(np.arange(start, min(start + MEASURED_AT_ONCE, len(inputs)))))
                for start in range(0, len(inputs), MEASURED_AT_ONCE)
            ]
        )  # (N, K)
        self._mean, self._std = measured.mean(0), measured.std(0).clamp(min=1e-3)

    def __call__(self, photos: Tensor) -> Tensor:
        """Normalized photos (n, 3, H, W) as the trunk sees them -> (n, K), within -4..4."""
        measured = self._measure(photos.cpu())  # (n, K)
        return ((measured - self._mean) / self._std).clamp(-4, 4).to(photos.device)

    @torch.no_grad()
    def _measure(self, photos: Tensor) -> Tensor:
        height, width = photos.shape[2:]
        middle = photos[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]  # (n, 3, H/2, W/2)
        return self._statistics.measure(middle, (1, 1)).flatten(1)  # (n, K)


def pretrain_trunk(
    model: LearnedModel,
    dataset: Dataset,
    inputs: ItemInputs,
    config: Config,
    *,
    out: Path,
    reporter: Reporter,
    stop: StopRequest,
    ranks: Ranks = ALONE,
) -> None:
    """Train ``model.backbone``'s trunk on the catalogue's words and colors; resumable at its epochs, in place.

    Of several processes each takes its share of every step's photos: the same steps, sooner.

    Raises:
        ConfigError: there is no trunk to train (stored maps, or no inputs from photos).
        KeyboardInterrupt: Ctrl-C; epochs done are kept.
    """
    if inputs.kind != "images":
        raise ConfigError('pretrain.epochs needs backbone.source = "images": stored maps have no trunk to train')
    settings = config.pretrain
    words, _ = word_targets(dataset.catalogue)  # (N, W)
    color_targets = ColorTargets(inputs)
    trunk, head = model.backbone.trunk, model.backbone.head
    device = next(model.parameters()).device
    targets = torch.from_numpy(words).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chance_seed(config.seed, PRETRAIN))
        probe = nn.Linear(model.backbone.head_dim, words.shape[1] + Statistics.NUM).to(device)
    learner = nn.ModuleDict({"trunk": trunk, "head": head, "probe": probe})
    was_trainable = [parameter.requires_grad for parameter in trunk.parameters()]
    trunk.requires_grad_(True)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    state_file, belongs = out / PRETRAIN_STATE_FILE, fingerprint(config, dataset)
    progress = Progress()
    if ranks.from_first(state_file.exists()):
        progress = load_state(state_file, model=learner, optimizer=optimizer, fingerprint=belongs)
    half = settings.precision == "bf16-mixed" or (settings.precision == "auto" and has_bf16(device))
    steps_per_epoch = math.ceil(len(inputs) / settings.batch_size)
    total = settings.epochs * steps_per_epoch
    learner.train()
    gradients = GradientSum(learner.parameters(), ranks)
    while progress.epoch < settings.epochs:
        order = np.random.default_rng([config.seed, PRETRAIN_ORDER, progress.epoch]).permutation(len(inputs))
        for step in range(steps_per_epoch):
            of_all = order[step * settings.batch_size :][: settings.batch_size]
            own = of_all[ranks.share(len(of_all))]  # (n,)
            rows, weight = (own, 1.0) if len(own) else (of_all[:1], 0.0)  # with too few for all, something in hand
            done = progress.epoch * steps_per_epoch + step
            seed = own_seed(config.seed, PRETRAIN, progress.epoch, step, rank=ranks.rank, size=ranks.size)
            generator = torch.Generator().manual_seed(seed)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate_factor(done, total)
            photos = inputs.batch(rows, generator=generator).to(device)  # (n, 3, h, w)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                feature_map = trunk(photos.contiguous(memory_format=torch.channels_last))  # (n, C, H, W)
            word_logits, colors = probe(head(feature_map.float())).split([words.shape[1], Statistics.NUM], dim=1)
            word_loss = F.binary_cross_entropy_with_logits(word_logits, targets[rows], reduction="sum") / len(of_all)
            color_loss = F.mse_loss(colors, color_targets(photos), reduction="sum") / len(of_all)
            optimizer.zero_grad()
            ((word_loss + color_loss) * weight).backward()
            gradients.finish()
            optimizer.step()
            ranks.average_statistics(learner)
            shown = f"words {word_loss * ranks.size:.3f}  colors {color_loss * ranks.size:.3f}"  # of equal shares
            reporter.update("pretraining", done + 1, total, shown)
            ranks.stop_together(stop.check)
        progress.epoch += 1
        if ranks.first:
            save_state(state_file, progress, model=learner, optimizer=optimizer, fingerprint=belongs)
    gradients.close()
    if ranks.first:
        tensors = {**trunk.state_dict(), **head.state_dict()}
        write_tensors(out / TRUNK_FILE, {name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    for parameter, trainable in zip(trunk.parameters(), was_trainable, strict=True):
        parameter.requires_grad_(trainable)
    model.train(model.training)  # a frozen trunk goes back to evaluation mode


def fit_trunk(config: Config, dataset: Dataset, out: Path, *, progress: bool = True) -> Path:
    """The first stage alone, for other runs to start from; one that was interrupted goes on.

    Args:
        config: ``images``, ``backbone``, ``pretrain``, ``seed`` and ``train.accelerator`` are used.
        dataset: whose items all have photos.
        out: a folder; made if missing.
        progress: show a progress bar on stderr.

    Returns:
        the trunk's file, OUT/trunk.safetensors.

    Raises:
        DataError: photos that cannot be used; all of them.
        TrainingError: the folder holds a trunk that was begun with other settings or data.
        KeyboardInterrupt: Ctrl-C; epochs done are kept.
    """
    with torch.random.fork_rng(), Reporter(enabled=progress) as reporter, StopRequest() as stop:
        inputs = build_inputs(dataset, config, progress=reporter.callback("photos"))
        model = build_model(config, dataset, inputs).to(preferred_device(config))
        out.mkdir(parents=True, exist_ok=True)
        pretrain_trunk(model, dataset, inputs, config, out=out, reporter=reporter, stop=stop)
    return out / TRUNK_FILE


def preferred_device(config: Config) -> torch.device:
    """Where ``train.accelerator`` lets a model run. Raises ConfigError for a GPU that is not there."""
    return device_named(config.train.accelerator)


def _rate_factor(step: int, total: int) -> float:
    rising = max(1, round(RISING_SHARE * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
