"""A trained run on disk -> its Recommender, with the data set it was trained on, or a later state of it.

Never imports train.
"""

import json
from pathlib import Path
from typing import Any

import torch

from panfit.config import Config
from panfit.data.folder import read_dataset
from panfit.errors import CheckpointError, DataError
from panfit.features.inputs import ItemInputs, build_inputs
from panfit.methods import read_model
from panfit.model.checkpoint import CheckpointInfo
from panfit.outfits import Dataset
from panfit.recommend import Recommender

CODES_FOLDER = "codes"
"""Where a run keeps code tables, in its own folder."""


def load(
    run: str | Path,
    *,
    data: str | Path | Dataset | None = None,
    device: str | torch.device = "cpu",
    allow_changed: bool = False,
    trunk_weights: str | Path | None = None,
    cache: str | Path | None = CODES_FOLDER,
) -> Recommender:
    """The Recommender of a run's best checkpoint.

    Args:
        run: a RUN folder, or one of its checkpoint folders (RUN/best, RUN/last).
        data: the data set, where it is no longer in the folder it was trained from.
        device: where the model computes.
        allow_changed: take a data set that has changed since the training, such as a shop's catalogue of today: its
            users, slots and categories are the same, its items and likes may be others. For PAN alone.
        trunk_weights: for a model on stored maps that is to score new photos: the file of the weights of the trunk that
            made the maps, as `panfit features` took it, where it is not the run's ``backbone.weights``.
        cache: where the users' code tables are kept for later processes, a folder in RUN or any other; None: nowhere.

    Raises:
        CacheError: the cache folder holds something else.
        CheckpointError: no checkpoint, a damaged one, a data set that is not the one it was trained on (nor a changed
            one, where that is allowed), or stored maps that were made by something else.
        DataError: the data set is not where it was, its files are damaged, or it lacks photos or text.
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
    is_changed = _check_same(dataset, info, record, allow_changed=allow_changed)
    inputs = build_inputs(dataset, _settled(info, is_changed=is_changed))
    _check_inputs(inputs, info, is_changed=is_changed)
    beta = float(info.extra.get("beta", 1.0))
    return Recommender(
        model.to(device),
        dataset,
        inputs,
        beta=beta,
        trunk_weights=trunk_weights,
        cache=None if cache is None else folder.parent / cache,
    )


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


def _check_same(dataset: Dataset, info: CheckpointInfo, record: dict[str, Any], *, allow_changed: bool) -> bool:
    """Whether the data set has changed since the training.

    Raises CheckpointError where it has and must not, or where it is another one altogether.
    """
    wanted = info.extra.get("checksum", record.get("checksum"))
    slots = tuple((slot.name, slot.category) for slot in dataset.slots)
    wanted_nouns = info.user_ids, info.shape.slots, info.shape.categories
    remedy = "Name the right one (data=..., --data), or train again"
    if (dataset.user_ids, slots, dataset.catalogue.categories) != wanted_nouns:
        difference = "its users, slots or categories differ"
    elif wanted is None or dataset.checksum == wanted:
        return False
    elif allow_changed and info.config.method == "pan":
        return True
    else:
        difference = f"found checksum {dataset.checksum}, wanted {wanted}"
        remedy += ". A later state of it is taken with allow_changed=True (--allow-changed), if the model is PAN"
    raise CheckpointError(
        f"{info.folder}: the data set {dataset.name!r} is not the one that this model was trained on: {difference}. "
        f"{remedy}"
    )


def _settled(info: CheckpointInfo, *, is_changed: bool) -> Config:
    """The settings, with the text that the training took where they leave it to the data.

    Raises CheckpointError where nobody can tell: a run of before it was written down, on data that has changed.
    """
    config, text_dim = info.config, info.shape.text_dim
    taken = info.extra.get("inputs", {}).get("text", config.text.source)
    if taken == "auto" and is_changed:
        if text_dim == config.text.dim:
            raise CheckpointError(
                f'{info.folder}: the data has changed, and the run (text.source = "auto") does not say whether it was '
                "trained on stored text vectors or on titles. Train it again"
            )
        taken = "none" if text_dim is None else "stored"
    return config.model_copy(update={"text": config.text.model_copy(update={"source": taken})})


def _check_inputs(inputs: ItemInputs, info: CheckpointInfo, *, is_changed: bool) -> None:
    """Raise CheckpointError unless maps and text mean what they meant in the training."""
    wanted: dict[str, str] | None = info.extra.get("inputs")
    if wanted is None:
        if is_changed and inputs.kind == "maps":
            raise CheckpointError(
                f"{info.folder}: the data has changed, and the run does not say what made its maps. Train it again"
            )
        wanted = dict(inputs.made_by)
    names = sorted({*wanted, *inputs.made_by})
    differences = [
        f"{name}: found {inputs.made_by.get(name)!r}, wanted {wanted.get(name)!r}"
        for name in names
        if inputs.made_by.get(name) != wanted.get(name)
    ]
    if differences:
        raise CheckpointError(
            f"{info.folder}: the items' inputs are not made as those that this model was trained on; "
            f"{'; '.join(differences)}. Run `panfit features` with the same trunk, weights and photo size"
        )
    text_dim = None if inputs.text is None else inputs.text.shape[1]
    if text_dim != info.shape.text_dim:
        raise CheckpointError(
            f"{info.folder}: the items' text vectors have length {text_dim}, wanted {info.shape.text_dim}"
        )
