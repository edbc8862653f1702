"""fit(): from a config and a data set to a run folder. A loop to read aloud, on Lightning Fabric.

    RUN/config.toml  run.json      what was run, on which data
    RUN/log.jsonl                  one line an epoch: named losses, validation FITB / AUC / NDCG, rates, seconds
    RUN/best/  RUN/last/           checkpoints (safetensors + JSON)
    RUN/state.safetensors          the full state, from which `resume` goes on exactly

Chance is a function of (seed, stage, epoch, step) alone, so a run that was stopped at any step and resumed equals the
straight run bit for bit on a CPU. Several processes run the same loop in step (`distributed`): each works on its share
of a step's likes, the first one writes.
"""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from panfit.config import Config
from panfit.errors import TrainingError
from panfit.evaluate import evaluate
from panfit.features.inputs import build_inputs
from panfit.methods import PLAIN, LearnedModel
from panfit.model.checkpoint import save_pretrained
from panfit.outfits import Dataset
from panfit.train.average import RunningMean
from panfit.train.chance import ORDER, STEP, chance_seed, own_seed
from panfit.train.distributed import GradientSum, Ranks
from panfit.train.frozen import keep_maps
from panfit.train.learner import Learner, Moment, build_model, learner_of
from panfit.train.optimizer import beta_at, build_optimizer, rate_factor, set_rates
from panfit.train.plain import fit_plain
from panfit.train.pretrain import pretrain_trunk
from panfit.train.processes import join, place_for, run_together
from panfit.train.progress import Reporter, StopRequest
from panfit.train.run_folder import (
    FitReport,
    begin_folder,
    check_folder,
    check_learnable,
    cut_log,
    fingerprint,
    log_line,
    selected,
    validation_record,
    warn_of_idle_settings,
)
from panfit.train.state import STATE_FILE, Progress, load_state, save_state

VALIDATION_RESAMPLES = 0
"""No bootstrap while training: intervals are the evaluation's business."""


def fit(
    config: Config,
    dataset: Dataset,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    devices: int = 1,
    on_step: Callable[[Progress], None] | None = None,
) -> FitReport:
    """Train what ``config.method`` names on a data set's likes (PAN Eq. 5-9; decisions D7, D9-D12, D15, D27).

    Args:
        config: all settings.
        dataset: with likes in "train" and "val", and random negatives and FITB questions for "val".
        out: the run folder; made if missing.
        resume: go on from the run's last saved state.
        progress: show a progress bar on stderr.
        devices: so many new processes of this machine train together: on a GPU each, or on the CPU. They train as one
            does whose `train.batch_size` is as many times larger. A script guards its own start with
            ``if __name__ == "__main__":``. Where torchrun started this process, its word counts. Plain baselines are
            fitted by one.
        on_step: called after every step, in every process; what it raises stops the run after its state is saved. With
            ``devices`` it must be a function of a module, for it is sent to the new processes.

    Returns:
        what came of it; the checkpoints are in ``out``.

    Raises:
        TrainingError: nothing to learn from, a folder that holds another run, a non-finite loss, a process that was
            killed, more processes than GPUs.
        KeyboardInterrupt: Ctrl-C; the state is saved first.
    """
    out = Path(out)
    check_learnable(dataset)
    place = place_for(devices, config.train)
    if place.size == 1 and devices > 1 and config.method not in PLAIN:
        check_folder(out, config, dataset, resume=resume, processes=devices)  # before anything is started
        return run_together(
            partial(fit, config, dataset, out, resume=resume, progress=progress, on_step=on_step), devices
        )
    fabric, ranks = join(place, config.train)
    with torch.random.fork_rng(), Reporter(enabled=progress and ranks.first) as reporter, StopRequest() as stop:
        return _fit_here(config, dataset, out, fabric, ranks, reporter, stop, resume=resume, on_step=on_step)


def _fit_here(
    config: Config,
    dataset: Dataset,
    out: Path,
    fabric: Fabric,
    ranks: Ranks,
    reporter: Reporter,
    stop: StopRequest,
    *,
    resume: bool,
    on_step: Callable[[Progress], None] | None,
) -> FitReport:
    """All of `fit` that one process does, alone or together with others."""
    if ranks.first:
        warn_of_idle_settings(config, dataset)
        check_folder(out, config, dataset, resume=resume, processes=ranks.size)
    inputs = ranks.in_turns(partial(build_inputs, dataset, config, progress=reporter.callback("photos")))
    if config.method in PLAIN:
        fitted = fit_plain(config, dataset, inputs, out, resume=resume) if ranks.first else None
        return ranks.from_first(cast(FitReport, fitted))
    model: LearnedModel = build_model(config, dataset, inputs).to(fabric.device)
    if ranks.first:
        begin_folder(out, config, dataset, resume=resume, processes=ranks.size)
    if config.pretrain.epochs:
        pretrain_trunk(model, dataset, inputs, config, out=out, reporter=reporter, stop=stop, ranks=ranks)
    if config.backbone.frozen:
        inputs = keep_maps(model, inputs, reporter, ranks)
    learner = learner_of(model, dataset, inputs, config, fabric.device, ranks)
    run = _Run(config, dataset, inputs.made_by, out, fabric, ranks, learner, reporter, stop, on_step)
    if resume and ranks.from_first((out / STATE_FILE).exists()):
        run.restore()
    ranks.same_start(model)
    return ranks.from_first(run.train())


class _Run:
    """The pieces that one run's epochs share."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        made_by: Mapping[str, str],
        out: Path,
        fabric: Fabric,
        ranks: Ranks,
        learner: Learner,
        reporter: Reporter,
        stop: StopRequest,
        on_step: Callable[[Progress], None] | None,
    ) -> None:
        self.config, self.dataset, self.made_by, self.out = config, dataset, made_by, out
        self.fabric, self.ranks = fabric, ranks
        self.reporter, self.stop, self.on_step = reporter, stop, on_step
        self.fingerprint = fingerprint(config, dataset)
        # Fabric's module wrapper copies what a forward pass returns, field by field; PanOutput is frozen. No wrapper is
        # needed: fabric.autocast and fabric.backward do the arithmetic, GradientSum joins the processes' gradients.
        self.learner, self.model = learner, learner.model
        self.optimizer = build_optimizer(self.model.parameter_groups(), config.optimizer)
        self.gradients = GradientSum(self.model.parameters(), ranks)
        self.average = RunningMean(self.model, config.train.ema)
        self.likes = dataset.likes["train"]
        self.batch_size = config.train.batch_size * ranks.size
        self.steps_per_epoch = math.ceil(len(self.likes) / self.batch_size)
        self.progress = Progress()
        self.session_start = time.monotonic()

    def restore(self) -> None:
        """Take up the run's saved state, and drop the log's lines that lie beyond it."""
        self.progress = load_state(
            self.out / STATE_FILE,
            model=self.model,
            optimizer=self.optimizer,
            fingerprint=self.fingerprint,
            average=self.average.tensors,
        )
        if self.ranks.first:
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
            rows = order[progress.step * self.batch_size :][: self.batch_size]
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
        if self.ranks.first:
            log_line(self.out, record)
        self._checkpoint("last")

    def _after_step(self) -> None:
        """Stop here if this process is asked to, or any other: all of them after the same step."""
        try:
            self.ranks.stop_together(self._look_around)
        except BaseException:
            self._save()
            raise

    def _look_around(self) -> None:
        if self.on_step is not None:
            self.on_step(self.progress)
        self.stop.check()

    def _step(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
        """One optimizer step on the likes of the given rows; returns its named losses."""
        config, progress = self.config, self.progress
        seed = chance_seed(config.seed, STEP, progress.epoch, progress.step)
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        own_generator = generator
        if self.ranks.size > 1:
            seed = own_seed(
                config.seed, STEP, progress.epoch, progress.step, rank=self.ranks.rank, size=self.ranks.size
            )
            own_generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout draws from torch's own generator; fit() restores it at the end
        done = progress.epoch * self.steps_per_epoch + progress.step
        factor = rate_factor(
            config.optimizer, step=done, steps_per_epoch=self.steps_per_epoch, num_epochs=config.train.epochs
        )
        set_rates(self.optimizer, config.optimizer, factor)
        beta = beta_at(config.train, progress.epoch)
        hard_codes = progress.epoch >= config.train.straight_through_from * config.train.epochs
        moment = Moment(
            epoch=progress.epoch, beta=beta, hard_codes=hard_codes,
            rng=rng, generator=generator, own_generator=own_generator,
        )  # fmt: skip
        with self.fabric.autocast():
            terms = self.learner.terms(self.likes.take(rows), moment)
        if not torch.isfinite(terms["total"]):
            raise TrainingError(self._non_finite(terms, rows))
        self.optimizer.zero_grad()
        self.fabric.backward(terms["total"])
        self.gradients.finish()
        if config.optimizer.clip_norm:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=config.optimizer.clip_norm)
        self.optimizer.step()
        self.ranks.average_statistics(self.model)
        self.average.update(done)
        return {name: float(value.detach()) for name, value in terms.items()}

    def _non_finite(self, terms: dict[str, Tensor], rows: np.ndarray[Any, np.dtype[np.int64]]) -> str:
        values = ", ".join(f"{name} {float(value.detach()):g}" for name, value in terms.items())
        users = sorted({self.dataset.user_ids[user] for user in self.likes.users[rows]})
        return (
            f"the loss is not finite at epoch {self.progress.epoch}, step {self.progress.step} ({values}); "
            f"train likes {rows.tolist()}, users {users}. The state before this step is in {self.out / STATE_FILE}. "
            "Lower the learning rates, or set optimizer.clip_norm"
        )

    def _validate(self) -> dict[str, Any]:
        """Validation with random negatives; keeps the best checkpoint."""
        progress = self.progress
        with self.average.worn():
            scorer = self.ranks.scorer(self.learner.scorer(beta_at(self.config.train, progress.epoch)))
            result = evaluate(scorer, self.dataset, split="val", negatives="random", resamples=VALIDATION_RESAMPLES)
            value = self.ranks.from_first(selected(result, self.config.train))  # all of them stop, or none
            if progress.best is None or value > progress.best:
                progress.best, progress.best_epoch, progress.stale = value, progress.epoch, 0
                self._write_checkpoint("best")
            else:
                progress.stale += 1
        self.reporter.validated(result, best=progress.best)
        return validation_record(result, self.config.train)

    def _checkpoint(self, name: str) -> None:
        with self.average.worn():
            self._write_checkpoint(name)

    def _write_checkpoint(self, name: str) -> None:
        beta = beta_at(self.config.train, self.progress.epoch)
        self.learner.settle(beta)
        if not self.ranks.first:
            return
        extra = {
            "epoch": self.progress.epoch,
            "beta": beta,
            "dataset": self.dataset.name,
            "checksum": self.dataset.checksum,
            "inputs": dict(self.made_by),
        }
        save_pretrained(self.model, self.out / name, user_ids=self.dataset.user_ids, extra=extra)

    def _save(self) -> None:
        if not self.ranks.first:
            return
        save_state(
            self.out / STATE_FILE,
            self.progress,
            model=self.model,
            optimizer=self.optimizer,
            fingerprint=self.fingerprint,
            average=self.average.tensors,
        )
