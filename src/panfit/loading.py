"""A trained run on disk -> its Recommender, with the data set it was trained on. Never imports train."""

import json
from pathlib import Path
from typing import Any

import torch

from panfit.data.folder import read_dataset
from panfit.errors import CheckpointError, DataError
from panfit.features.inputs import build_inputs
from panfit.methods import read_model
from panfit.model.checkpoint import CheckpointInfo
from panfit.outfits import Dataset
from panfit.recommend import Recommender


def load(
    run: str | Path, *, data: str | Path | Dataset | None = None, device: str | torch.device = "cpu"
) -> Recommender:
    """The Recommender of a run's best checkpoint.

    Args:
        run: a RUN folder, or one of its checkpoint folders (RUN/best, RUN/last).
        data: the data set, where it is no longer in the folder it was trained from.
        device: where the model computes.

    Raises:
        CheckpointError: no checkpoint, a damaged one, or a data set that is not the one it was trained on.
        DataError: the data set is not where it was, or its files are damaged.
    """
    run = Path(run)
    if not run.is_dir():
        raise CheckpointError(f"{run}: there is no such run folder")
    folder = run if (run / "config.json").exists() else run / "best"
    if not folder.is_dir():
        raise CheckpointError(f"{run}: no best checkpoint here; it is written after the first validation of a training")
    model, info = read_model(folder)
    record = _read_record(folder.parent / "run.json")
    dataset = data if isinstance(data, Dataset) else read_dataset(_dataset_folder(folder.parent, record, data))
    _check_same(dataset, info, record)
    inputs = build_inputs(dataset, info.config)
    return Recommender(model.to(device), dataset, inputs, beta=float(info.extra.get("beta", 1.0)))


def _read_record(path: Path) -> dict[str, Any]:
    """run.json; {} where there is none, as beside a checkpoint that stands alone."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from None
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: damaged: wanted an object")
    return record


def _dataset_folder(run: Path, record: dict[str, Any], data: str | Path | None) -> Path:
    if data is not None:
        return Path(data)
    written = record.get("dataset")
    if written is None:
        raise DataError(f"{run}: the run does not say where its data set is; name it (data=..., --data)")
    for folder in (run / written, Path(written)):  # an absolute path is the same in both
        if folder.is_dir():
            return folder
    raise DataError(f"{run}: its data set is no longer in {written}; name where it is (data=..., --data)")


def _check_same(dataset: Dataset, info: CheckpointInfo, record: dict[str, Any]) -> None:
    """Raise CheckpointError unless the data set is the one that the checkpoint was trained on."""
    wanted = info.extra.get("checksum", record.get("checksum"))
    slots = tuple((slot.name, slot.category) for slot in dataset.slots)
    wanted_nouns = info.user_ids, info.shape.slots, info.shape.categories
    if (dataset.user_ids, slots, dataset.catalogue.categories) != wanted_nouns:
        difference = "its users, slots or categories differ"
    elif wanted is not None and dataset.checksum != wanted:
        difference = f"found checksum {dataset.checksum}, wanted {wanted}"
    else:
        return
    raise CheckpointError(
        f"{info.folder}: the data set {dataset.name!r} is not the one that this model was trained on: {difference}. "
        "Name the right one (data=..., --data), or train again"
    )
