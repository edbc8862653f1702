"""What each row asks of a data set, told for all rows at once, before the first hour is spent on training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from panfit.config import Config
from panfit.errors import DataError, FeatureStoreError, Problem
from panfit.features.inputs import extractor_name, store_folder
from panfit.features.store import open_store
from panfit.outfits import SPLITS, Dataset

IMPORT_AGAIN = "Import the data again: what is missing is drawn, with a seed."


@dataclass(frozen=True)
class Need:
    """One thing that a row asks for and does not find; the fields are `Problem`'s."""

    found: str
    wanted: str
    remedy: str


def check_rows(configs: Mapping[str, Config], dataset: Dataset) -> None:
    """Refuse rows that cannot run on a data set.

    Args:
        configs: row name -> its settings.
        dataset: which all rows are to run on.

    Raises:
        DataError: with a problem for each thing that is lacking, which names the rows that need it.
    """
    rows_of: dict[Need, list[str]] = {}
    for row, config in configs.items():
        for need in needs(config, dataset):
            rows_of.setdefault(need, []).append(row)
    if not rows_of:
        return
    problems = [
        Problem(f"row{'s' * (len(rows) > 1)} {', '.join(rows)}", need.found, need.wanted, need.remedy)
        for need, rows in rows_of.items()
    ]
    needy = {row for rows in rows_of.values() for row in rows}
    free = ",".join(row for row in configs if row not in needy)
    otherwise = f"; the others run with --rows {free}" if free else ""
    raise DataError(
        f"the data set {dataset.name!r} lacks what {len(needy)} of {len(configs)} rows need{otherwise}", problems
    )


def needs(config: Config, dataset: Dataset) -> Iterator[Need]:
    """What a run with these settings lacks on this data set."""
    yield from _outfits(dataset)
    yield from _users(config, dataset)
    yield from _categories(config, dataset)
    yield from _pictures(config, dataset)
    yield from _text(config, dataset)
    if config.method == "linear" and find_spec("sklearn") is None:
        yield Need("no scikit-learn", "scikit-learn, for its regressions", "pip install 'panfit[text]'")


def _outfits(dataset: Dataset) -> Iterator[Need]:
    empty = [split for split in SPLITS if not len(dataset.likes.get(split, ()))]
    if empty:
        yield Need(f"no likes in {', '.join(empty)}", "likes in train, val and test", IMPORT_AGAIN)
        return
    for split in ("val", "test"):
        if not len(dataset.negatives.get((split, "random"), ())):
            yield Need(f"no random negatives in {split}", "some to rank the likes among", IMPORT_AGAIN)
        if not len(dataset.fitb.get(split, ())):
            yield Need(f"no fill-in-the-blank questions in {split}", "questions, for FITB", IMPORT_AGAIN)
    worn = dataset.likes["train"].mask  # (B, S)
    for column, slot in enumerate(dataset.slots):
        if not worn[:, column].any():
            yield Need(
                f"no train outfit with a {slot.name}", "every slot worn in train", "Import again without that slot."
            )


def _users(config: Config, dataset: Dataset) -> Iterator[Need]:
    users = np.unique(dataset.likes["train"].users) if "train" in dataset.likes else np.zeros(0)
    if config.method in ("pan", "linear") and len(users) == 1:
        yield Need(
            "a single user",
            "two users or more, to tell tastes apart",
            "Name the liker in user_id, or leave the row out.",
        )


def _categories(config: Config, dataset: Dataset) -> Iterator[Need]:
    leave_out = "Leave the row out by --rows, or import outfits of more slots."
    if config.method == "siamese" and len({slot.category for slot in dataset.slots}) < 2:
        yield Need("items of one category", "two or more: it learns from pairs of different categories", leave_out)
    if config.method in ("bilstm", "csn") and len(dataset.slots) < 2:
        yield Need("outfits of one item", "two or more: it learns which items go together", leave_out)


def _pictures(config: Config, dataset: Dataset) -> Iterator[Need]:
    backbone = config.backbone
    if backbone.source == "stored":
        try:
            open_store(store_folder(dataset, backbone.store or ""), dataset, extractor=extractor_name(backbone))
        except FeatureStoreError as error:
            command = f"panfit features DATASET --backbone {backbone.name} --name {backbone.store}"
            yield Need(str(error), "the trunk's stored maps", f"Run `{command}`, with --weights FILE.")
        return
    bare = dataset.catalogue.images.count(None)
    if bare:
        yield Need(
            f"{bare} of {len(dataset.catalogue)} items without a photo", "a photo each", "Import with --skip-bad."
        )
    if backbone.weights is not None and not Path(backbone.weights).is_file():
        yield Need(
            f"no file {backbone.weights}", "the trunk's weights", "Name the file by --set backbone.weights=FILE."
        )


def _text(config: Config, dataset: Dataset) -> Iterator[Need]:
    source, untitled = config.text.source, dataset.catalogue.titles.count(None)
    bare = f"{untitled} of {len(dataset.catalogue)} items without a title"
    if source == "stored" and dataset.text is None:
        yield Need(
            "no stored text vectors",
            'vectors, since text.source = "stored"',
            "Hash titles instead by --set text.source=titles, or go without by --set text.source=none.",
        )
    if source == "titles" and untitled:
        yield Need(bare, "a title each", "Import titles, or go without by --set text.source=none.")
    has_stored = source in ("stored", "auto") and dataset.text is not None
    has_titles = source in ("titles", "auto") and not untitled and not has_stored
    weights = _text_weights(config)
    if weights and not has_stored and not has_titles:
        settings = " ".join(f"--set {setting}=0" for setting in weights)
        found = 'no text, since text.source = "none"' if source == "none" else bare
        yield Need(
            found, f"text of every item, for {' and '.join(weights)}", f"Import titles, or go without by {settings}."
        )


def _text_weights(config: Config) -> list[str]:
    """The settings that are above 0 and that the method cannot do without text."""
    weights = {
        "bilstm": {"bilstm.lambda_vse": config.bilstm.lambda_vse},
        "csn": {"csn.lambda_vse": config.csn.lambda_vse, "csn.lambda_text": config.csn.lambda_text},
    }
    return [setting for setting, weight in weights.get(config.method, {}).items() if weight > 0]
