"""fit(): from a config and a data set to a run folder. A loop to read aloud, on Lightning Fabric.

    RUN/config.toml  run.json      what was run, on which data
    RUN/log.jsonl                  one line an epoch: named losses, validation FITB / AUC / NDCG, rates, seconds
    RUN/best/  RUN/last/           checkpoints (safetensors + JSON)
    RUN/state.safetensors          the full state, from which `resume` goes on exactly

Chance is a function of (seed, stage, epoch, step) alone, so a run that was stopped at any step and resumed equals the
straight run bit for bit on a CPU.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from panfit.codes import OutfitScorer
from panfit.config import Config, TrainConfig
from panfit.errors import TrainingError
from panfit.evaluate import Result, evaluate
from panfit.features.inputs import ItemInputs, build_inputs
from panfit.model.checkpoint import save_pretrained
from panfit.model.pan import Pan, PanShape
from panfit.outfits import Dataset
from panfit.train.chance import INITIAL, ORDER, STEP, chance_seed
from panfit.train.frozen import keep_maps
from panfit.train.optimizer import beta_at, build_optimizer, rate_factor, set_rates
from panfit.train.pretrain import pretrain_trunk
from panfit.train.progress import Reporter, StopRequest
from panfit.train.run_folder import LOG_FILE, check_learnable, cut_log, fingerprint, prepare_folder
from panfit.train.state import STATE_FILE, Progress, load_state, save_state
from panfit.train.step import StepInputs, TripletSource, outfits_of, step_terms

VALIDATION_RESAMPLES = 0
"""No bootstrap while training: intervals are the evaluation's business."""


@dataclass(frozen=True)
class FitReport:
    """What came of a run.

    Attributes:
        run: its folder.
        epochs: epochs done.
        best_epoch: the epoch of the best checkpoint, from 0.
        best: its validation value (of ``train.select``).
        seconds: time spent, all sessions together.
    """

    run: Path
    epochs: int
    best_epoch: int
    best: float
    seconds: float


def fit(
    config: Config,
    dataset: Dataset,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    on_step: Callable[[Progress], None] | None = None,
) -> FitReport:
    """Train PAN on a data set's likes (PAN Eq. 5-9; decisions D7, D9-D12, D15).

    Args:
        config: all settings.
        dataset: with likes in "train" and "val", and random negatives and FITB questions for "val".
        out: the run folder; made if missing.
        resume: go on from the run's last saved state.
        progress: show a progress bar on stderr.
        on_step: called after every step; what it raises stops the run after its state is saved.

    Returns:
        what came of it; the checkpoints are in ``out``.

    Raises:
        TrainingError: nothing to learn from, a folder that holds another run, a non-finite loss.
        KeyboardInterrupt: Ctrl-C; the state is saved first.
    """
    out = Path(out)
    check_learnable(dataset)
    prepare_folder(out, config, dataset, resume=resume)
    fabric = Fabric(accelerator=config.train.accelerator, devices=1, precision=config.train.precision)
    with torch.random.fork_rng(), Reporter(enabled=progress) as reporter, StopRequest() as stop:
        inputs = build_inputs(dataset, config, progress=reporter.callback("photos"))
        model = build_model(config, dataset, inputs).to(fabric.device)
        if config.pretrain.epochs:
            pretrain_trunk(model, dataset, inputs, config, out=out, reporter=reporter, stop=stop)
        if config.backbone.frozen:
            inputs = keep_maps(model, inputs, reporter)
        run = _Run(config, dataset, out, fabric, model, inputs, reporter, stop, on_step)
        state_file = out / STATE_FILE
        if resume and state_file.exists():
            run.restore()
        return run.train()


def build_model(config: Config, dataset: Dataset, inputs: ItemInputs) -> Pan:
    """A new Pan for a data set, its weights drawn from the config's seed."""
    shape = PanShape(
        num_users=len(dataset.user_ids),
        slots=tuple((slot.name, slot.category) for slot in dataset.slots),
        categories=dataset.catalogue.categories,
        text_dim=None if inputs.text is None else inputs.text.shape[1],
        input_shape=inputs.input_shape,
    )
    return Pan(config, shape, generator=torch.Generator().manual_seed(chance_seed(config.seed, INITIAL)))


class _Run:
    """The pieces that one run's epochs share."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        out: Path,
        fabric: Fabric,
        model: Pan,
        inputs: ItemInputs,
        reporter: Reporter,
        stop: StopRequest,
        on_step: Callable[[Progress], None] | None,
    ) -> None:
        self.config, self.dataset, self.out, self.fabric, self.inputs = config, dataset, out, fabric, inputs
        self.reporter, self.stop, self.on_step = reporter, stop, on_step
        self.fingerprint = fingerprint(config, dataset)
        # Fabric's module wrapper copies what a forward pass returns, field by field; PanOutput is frozen. One device
        # needs no wrappers: fabric.autocast and fabric.backward do the arithmetic.
        self.model = model
        self.optimizer = build_optimizer(model.parameter_groups(), config.optimizer)
        self.average: dict[str, Tensor] | None = None
        if config.train.ema:
            self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.likes = dataset.likes["train"]
        self.triplets = TripletSource(
            self.likes, dataset.split_items("train"), tuple(slot.category for slot in dataset.slots), config=config
        )
        self.steps_per_epoch = math.ceil(len(self.likes) / config.train.batch_size)
        self.progress = Progress()
        self.session_start = time.monotonic()

    def restore(self) -> None:
        """Take up the run's saved state, and drop the log's lines that lie beyond it."""
        self.progress = load_state(
            self.out / STATE_FILE,
            model=self.model,
            optimizer=self.optimizer,
            fingerprint=self.fingerprint,
            average=self.average,
        )
        cut_log(self.out, epochs=self.progress.epoch)

    def train(self) -> FitReport:
        """Epochs until the end, early stopping, or Ctrl-C."""
        config, progress = self.config.train, self.progress
        self.reporter.start_training(config.epochs, self.steps_per_epoch, done=progress.epoch)
        spent = progress.seconds
        while not progress.finished:
            self._epoch(spent)
            self.reporter.epoch_done(progress.epoch + 1)
            progress.seconds = spent + time.monotonic() - self.session_start
            progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
            out_of_patience = config.patience > 0 and progress.stale >= config.patience
            progress.finished = progress.epoch >= config.epochs or out_of_patience
            self._save()
        if progress.best is None or progress.best_epoch is None:
            raise TrainingError("no validation was run: lower train.validate_every, or raise train.epochs")
        return FitReport(self.out, progress.epoch, progress.best_epoch, progress.best, progress.seconds)

    def _epoch(self, spent: float) -> None:
        """The rest of one epoch: steps, validation, a line in the log, checkpoints."""
        config, progress = self.config.train, self.progress
        order = np.random.default_rng([self.config.seed, ORDER, progress.epoch]).permutation(len(self.likes))
        saved_at = time.monotonic()
        self.model.train()
        while progress.step < self.steps_per_epoch:
            rows = order[progress.step * config.batch_size :][: config.batch_size]
            terms = self._step(rows)
            for name, value in terms.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.step += 1
            progress.seconds = spent + time.monotonic() - self.session_start
            self.reporter.step(progress.sums["total"] / progress.step)
            self._after_step()
            if time.monotonic() - saved_at > config.save_every_s:
                self._save()
                saved_at = time.monotonic()
        record: dict[str, Any] = {
            "epoch": progress.epoch,
            "losses": {name: value / self.steps_per_epoch for name, value in progress.sums.items()},
            "beta": beta_at(config, progress.epoch),
            "rates": {group["name"]: group["lr"] for group in self.optimizer.param_groups},
            "seconds": round(spent + time.monotonic() - self.session_start, 3),
        }
        if (progress.epoch + 1) % config.validate_every == 0 or progress.epoch + 1 == config.epochs:
            record["val"] = self._validate()
        with (self.out / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._checkpoint("last")

    def _after_step(self) -> None:
        try:
            if self.on_step is not None:
                self.on_step(self.progress)
            self.stop.check()
        except BaseException:
            self._save()
            raise

    def _step(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
        """One optimizer step on the likes of the given rows; returns its named losses."""
        config, progress = self.config, self.progress
        seed = chance_seed(config.seed, STEP, progress.epoch, progress.step)
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout draws from torch's own generator; fit() restores it at the end
        done = progress.epoch * self.steps_per_epoch + progress.step
        factor = rate_factor(
            config.optimizer, step=done, steps_per_epoch=self.steps_per_epoch, num_epochs=config.train.epochs
        )
        set_rates(self.optimizer, config.optimizer, factor)
        beta = beta_at(config.train, progress.epoch)
        likes = self.likes.take(rows)
        hard_codes = progress.epoch >= config.train.straight_through_from * config.train.epochs
        items = StepInputs(self.model, self.inputs, generator=generator, device=self.fabric.device)
        with self.fabric.autocast():
            triplets = self.triplets.draw(likes, items, epoch=progress.epoch, beta=beta, rng=rng, generator=generator)
            batch = items.batch(*outfits_of(triplets))
            output = self.model(batch, beta=beta, straight_through=hard_codes)
            terms = step_terms(output, batch, triplets, config=config)
        if not torch.isfinite(terms["total"]):
            raise TrainingError(self._non_finite(terms, rows))
        self.optimizer.zero_grad()
        self.fabric.backward(terms["total"])
        if config.optimizer.clip_norm:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=config.optimizer.clip_norm)
        self.optimizer.step()
        self._update_average(done)
        return {name: float(value.detach()) for name, value in terms.items()}

    def _non_finite(self, terms: dict[str, Tensor], rows: np.ndarray[Any, np.dtype[np.int64]]) -> str:
        values = ", ".join(f"{name} {float(value.detach()):g}" for name, value in terms.items())
        users = sorted({self.dataset.user_ids[user] for user in self.likes.users[rows]})
        return (
            f"the loss is not finite at epoch {self.progress.epoch}, step {self.progress.step} ({values}); "
            f"train likes {rows.tolist()}, users {users}. The state before this step is in {self.out / STATE_FILE}. "
            "Lower the learning rates, or set optimizer.clip_norm"
        )

    def _update_average(self, done: int) -> None:
        """The running mean of the weights, which starts fast so that it forgets the initial ones."""
        if self.average is None:
            return
        decay = min(self.config.train.ema, (1 + done) / (10 + done))
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self.average[name].copy_(tensor.detach())

    def _validate(self) -> dict[str, Any]:
        """Validation with random negatives; keeps the best checkpoint."""
        progress = self.progress
        with _weights(self.model, self.average):
            scorer = OutfitScorer(self.model, self.inputs, beta=beta_at(self.config.train, progress.epoch))
            result = evaluate(scorer, self.dataset, split="val", negatives="random", resamples=VALIDATION_RESAMPLES)
            value = selected(result, self.config.train)
            if progress.best is None or value > progress.best:
                progress.best, progress.best_epoch, progress.stale = value, progress.epoch, 0
                self._write_checkpoint("best")
            else:
                progress.stale += 1
        self.reporter.validated(result, best=progress.best)
        return {
            "fitb": result.fitb, "auc": result.auc, "ndcg": result.ndcg, "relaxed": result.relaxed,
            self.config.train.select: value,
        }  # fmt: skip

    def _checkpoint(self, name: str) -> None:
        with _weights(self.model, self.average):
            self._write_checkpoint(name)

    def _write_checkpoint(self, name: str) -> None:
        beta = beta_at(self.config.train, self.progress.epoch)
        self.model.beta.fill_(beta)  # a checkpoint's relaxed codes are those it was trained with
        extra = {
            "epoch": self.progress.epoch,
            "beta": beta,
            "dataset": self.dataset.name,
            "checksum": self.dataset.checksum,
        }
        save_pretrained(self.model, self.out / name, user_ids=self.dataset.user_ids, extra=extra)

    def _save(self) -> None:
        save_state(
            self.out / STATE_FILE,
            self.progress,
            model=self.model,
            optimizer=self.optimizer,
            fingerprint=self.fingerprint,
            average=self.average,
        )


def selected(result: Result, config: TrainConfig) -> float:
    """The validation value that the best checkpoint is chosen by (`train.select`); higher is better."""
    values = {
        "auc": result.auc,
        "fitb": result.fitb,
        "ndcg": result.ndcg,
        "relaxed_auc": result.relaxed["auc"],
        "mean": (result.fitb + result.auc + result.ndcg) / 3,
    }
    return values[config.select]


@contextmanager
def _weights(model: Pan, average: dict[str, Tensor] | None) -> Iterator[None]:
    """Inside, the model carries the running mean of its weights, if one is kept."""
    if average is None:
        yield
        return
    own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(average)
    try:
        yield
    finally:
        model.load_state_dict(own)
