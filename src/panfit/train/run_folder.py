"""The run folder's bookkeeping: what was run, on which data, and a refusal to mix two runs."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panfit.config import Config, TrainConfig
from panfit.errors import TrainingError
from panfit.evaluate import Result
from panfit.files import write_aside
from panfit.outfits import Dataset
from panfit.train.state import STATE_FILE

LOGGER = logging.getLogger("panfit")

CONFIG_FILE = "config.toml"
RUN_FILE = "run.json"
LOG_FILE = "log.jsonl"


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


def fingerprint(config: Config, dataset: Dataset) -> str:
    """Says whether a saved state belongs to this config and data. How often to save does not matter."""
    train = config.train.model_copy(update={"save_every_s": 1.0})
    shown = config.model_copy(update={"train": train}).model_dump_json(exclude={"negatives": {"gather"}})
    apart = "" if config.negatives.gather else "mined apart"  # what older runs could not say leaves theirs as it was
    text = shown + dataset.checksum + apart
    return hashlib.sha256(text.encode()).hexdigest()


def check_learnable(dataset: Dataset) -> None:
    """Raise TrainingError unless there are likes to learn from and a validation to choose by."""
    for split in ("train", "val"):
        if not len(dataset.likes.get(split, ())):
            raise TrainingError(
                f"data set {dataset.name!r}: no {split} likes; import it again with likes in every split"
            )
    if ("val", "random") not in dataset.negatives:
        raise TrainingError(f"data set {dataset.name!r}: no validation negatives; import it again")
    if "val" not in dataset.fitb:
        raise TrainingError(
            f"data set {dataset.name!r}: no validation questions. The val likes wear too few items to make one (four "
            "in one slot); import it again with more likes, or with questions of your own"
        )


def warn_of_idle_settings(config: Config, dataset: Dataset) -> None:
    """Say what the config asks for and this data set cannot give: S2 and the miner need other users."""
    wanted = {"loss.lambda_user": config.loss.lambda_user, "negatives.hard_ratio": config.negatives.hard_ratio}
    idle = [name for name, value in wanted.items() if value > 0]
    num_users = len(np.unique(dataset.likes["train"].users))
    if config.method == "pan" and num_users == 1 and idle:
        LOGGER.warning(
            "the data set %r has train likes of one user only, and nobody to tell him from: %s will do nothing",
            dataset.name,
            " and ".join(idle),
        )


def check_folder(out: Path, config: Config, dataset: Dataset, *, resume: bool, processes: int = 1) -> None:
    """Raise TrainingError if the folder holds another run, or something else, or nothing to resume; or if it was begun
    by another number of processes, which make other steps of the same settings.
    """
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out}: a file of that name is in the way of the run folder")
    if resume:
        if not (out / RUN_FILE).exists():
            raise TrainingError(f"{out}: no run to resume here; start it without --resume")
        written = json.loads((out / RUN_FILE).read_text("utf-8"))
        if written["fingerprint"] != fingerprint(config, dataset):
            raise TrainingError(
                f"{out}: this run was started with other settings or other data; resume it with the same ones, "
                "or start a new run in another folder"
            )
        begun_by = written.get("processes", 1)
        if begun_by != processes:
            raise TrainingError(
                f"{out}: this run was begun by {begun_by} process(es), and here are {processes}: its steps would be "
                f"others. Resume it with --devices {begun_by} (or as many by torchrun), or start a new run in another "
                "folder"
            )
        return
    if (out / RUN_FILE).exists() or (out / STATE_FILE).exists():
        raise TrainingError(f"{out}: there is a run here already; go on with it by --resume, or name another folder")
    if out.exists() and any(path.name != CONFIG_FILE for path in out.iterdir()):  # a start that failed leaves that
        raise TrainingError(f"{out}: this folder holds something else; name a new folder for the run")


def begin_folder(out: Path, config: Config, dataset: Dataset, *, resume: bool, processes: int = 1) -> None:
    """Make the folder and write down what is run, once its inputs and its model are there: a start that fails for bad
    settings or photos leaves nothing that the next start would stumble over. Raises TrainingError as `check_folder`.
    """
    check_folder(out, config, dataset, resume=resume, processes=processes)  # again: decoding photos may have taken long
    if resume:
        return
    out.mkdir(parents=True, exist_ok=True)
    folder = None if dataset.folder is None else os.fspath(dataset.folder.resolve())
    run = {
        "dataset": folder,
        "name": dataset.name,
        "checksum": dataset.checksum,
        "seed": config.seed,
        "fingerprint": fingerprint(config, dataset),
        "processes": processes,
    }
    (out / CONFIG_FILE).write_text(config.to_toml(), "utf-8")
    write_aside(out / RUN_FILE, json.dumps(run, indent=1) + "\n")


def cut_log(out: Path, *, epochs: int) -> None:
    """Keep the log's lines of the first ``epochs`` epochs; a line that a full disk or a kill left half is dropped."""
    log_file = out / LOG_FILE
    kept = []
    for line in log_file.read_text("utf-8").splitlines() if log_file.exists() else []:
        try:
            epoch = json.loads(line)["epoch"]
        except ValueError:
            continue
        if epoch < epochs:
            kept.append(line)
    write_aside(log_file, "".join(f"{line}\n" for line in kept))


def log_line(out: Path, record: Mapping[str, Any]) -> None:
    """One more line in the run's log."""
    with (out / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def validation_record(result: Result, config: TrainConfig) -> dict[str, Any]:
    """What a log line says of a validation."""
    return {
        "fitb": result.fitb,
        "auc": result.auc,
        "ndcg": result.ndcg,
        "relaxed": result.relaxed,
        config.select: selected(result, config),
    }


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
