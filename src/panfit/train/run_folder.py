"""The run folder's bookkeeping: what was run, on which data, and a refusal to mix two runs."""

import hashlib
import json
import os
from pathlib import Path

from panfit.config import Config
from panfit.errors import TrainingError
from panfit.files import write_aside
from panfit.outfits import Dataset
from panfit.train.state import STATE_FILE

CONFIG_FILE = "config.toml"
RUN_FILE = "run.json"
LOG_FILE = "log.jsonl"


def fingerprint(config: Config, dataset: Dataset) -> str:
    """Says whether a saved state belongs to this config and data. How often to save does not matter."""
    train = config.train.model_copy(update={"save_every_s": 1.0})
    text = config.model_copy(update={"train": train}).model_dump_json() + dataset.checksum
    return hashlib.sha256(text.encode()).hexdigest()


def check_learnable(dataset: Dataset) -> None:
    """Raise TrainingError unless there are likes to learn from and a validation to choose by."""
    for split in ("train", "val"):
        if not len(dataset.likes.get(split, ())):
            raise TrainingError(
                f"data set {dataset.name!r}: no {split} likes; import it again with likes in every split"
            )
    if ("val", "random") not in dataset.negatives or "val" not in dataset.fitb:
        raise TrainingError(f"data set {dataset.name!r}: no validation negatives or FITB questions; import it again")


def prepare_folder(out: Path, config: Config, dataset: Dataset, *, resume: bool) -> None:
    """Make the folder and write down what is run. Raises TrainingError if it holds another run."""
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
        return
    if (out / RUN_FILE).exists() or (out / STATE_FILE).exists():
        raise TrainingError(f"{out}: there is a run here already; go on with it by --resume, or name another folder")
    if out.exists() and any(path.name != CONFIG_FILE for path in out.iterdir()):  # a start that failed leaves that
        raise TrainingError(f"{out}: this folder holds something else; name a new folder for the run")
    out.mkdir(parents=True, exist_ok=True)
    folder = None if dataset.folder is None else os.fspath(dataset.folder.resolve())
    run = {
        "dataset": folder,
        "name": dataset.name,
        "checksum": dataset.checksum,
        "seed": config.seed,
        "fingerprint": fingerprint(config, dataset),
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
