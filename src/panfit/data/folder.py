"""The dataset folder: what every importer writes and everything else reads (design section 3).

    dataset.json        name, format, slots, source, image root, counts, checksums
    items.parquet       item_id, category, image, title
    users.parquet       user_id
    outfits.parquet     outfit_id, user_id, items, split                        the likes
    negatives.parquet   user_id, items, split, kind                             fixed
    fitb.parquet        question, user_id, items, blank, candidates, answer, split
    text/vectors.npy    optional (N, T) float32, one row an item
    images/             the photos, where they were copied

It is there whole or not at all, and it is read strictly: a file that does not match its checksum is refused.
"""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from panfit.data.photo_check import stays_inside
from panfit.data.staging import staged_folder
from panfit.data.stored import REMEDY, SCHEMAS, TableReader, load_table
from panfit.data.storing import write_table
from panfit.errors import DataError, Problem
from panfit.outfits import Catalogue, Dataset, Slot

FORMAT = 1
"""The folder's format version; another one is refused."""
MANIFEST = "dataset.json"
TEXT = "text/vectors.npy"


class Manifest(BaseModel):
    """dataset.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int
    name: str
    slots: list[str]
    slot_categories: list[str]
    categories: list[str]
    source: dict[str, Any]
    image_root: str
    """Absolute, or relative to the dataset folder."""
    counts: dict[str, Any]
    checksums: dict[str, str]
    """File -> sha256 of its bytes."""

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if len(self.slots) != len(self.slot_categories) or len(set(self.slots)) != len(self.slots):
            raise ValueError("slots must be distinct, with one of slot_categories each")
        if not set(self.slot_categories) <= set(self.categories):
            raise ValueError("slot_categories must be among categories")
        if not set(SCHEMAS) <= set(self.checksums) <= {*SCHEMAS, TEXT}:
            raise ValueError(f"checksums must name {', '.join(SCHEMAS)} and at most {TEXT} besides")
        return self

    def fingerprint(self) -> str:
        """The data set's checksum: of its tables, slots and categories, not of where its photos lie."""
        parts = [self.slots, self.slot_categories, self.categories, sorted(self.checksums.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# ---- write


def write_dataset(dataset: Dataset, folder: str | Path, *, source: str, copy_images: bool = False) -> Path:
    """Write a dataset folder, whole or not at all; an older data set at ``folder`` is replaced.

    Args:
        dataset: what to write.
        folder: where; must not exist, be empty, or hold an older data set.
        source: where the data came from, for dataset.json.
        copy_images: copy the photos into the folder; otherwise they stay where they are.

    Returns:
        ``folder``.

    Raises:
        DataError: something else is at ``folder``, or it cannot be written.
    """
    folder = Path(folder)
    old_home = folder.resolve()
    inside = old_home in [dataset.catalogue.image_root.resolve(), *dataset.catalogue.image_root.resolve().parents]
    with staged_folder(folder) as stage:
        image_root = str(dataset.catalogue.image_root.resolve())
        if copy_images or inside:  # photos of the data set that is being replaced must not go with it
            _copy_images(dataset.catalogue, stage / "images")
            image_root = "images"
        write_tables(dataset, stage, source=source, image_root=image_root)
    return folder


def write_tables(dataset: Dataset, folder: Path, *, source: str, image_root: str) -> None:
    """Write the tables and dataset.json into a folder that somebody stages (see `staging.staged_folder`).

    Args:
        dataset: what to write.
        folder: an existing folder.
        source: where the data came from.
        image_root: what photo paths start from: absolute, or relative to ``folder`` ("images").
    """
    checksums = {}
    for name in SCHEMAS:
        write_table(dataset, name, folder / name)
        checksums[name] = _sha256(folder / name)
    if dataset.text is not None:
        (folder / TEXT).parent.mkdir()
        np.save(folder / TEXT, np.ascontiguousarray(dataset.text, dtype=np.float32))
        checksums[TEXT] = _sha256(folder / TEXT)
    manifest = Manifest(
        format=FORMAT,
        name=dataset.name,
        slots=[slot.name for slot in dataset.slots],
        slot_categories=[slot.category for slot in dataset.slots],
        categories=list(dataset.catalogue.categories),
        source={"from": source, "panfit": version("panfit")},
        image_root=image_root,
        counts=counts(dataset),
        checksums=checksums,
    )
    text = json.dumps(manifest.model_dump(), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, "utf-8")  # last: without it, it is no data set


def counts(dataset: Dataset) -> dict[str, Any]:
    """How much of everything there is, for dataset.json and `panfit check`."""
    categories = dataset.catalogue.item_categories
    return {
        "users": len(dataset.user_ids),
        "items": {name: categories.count(name) for name in dataset.catalogue.categories},
        "likes": {split: len(outfits) for split, outfits in dataset.likes.items()},
        "negatives": {f"{split} {kind}": len(outfits) for (split, kind), outfits in dataset.negatives.items()},
        "fitb": {split: len(questions) for split, questions in dataset.fitb.items()},
    }


def _copy_images(catalogue: Catalogue, target: Path) -> None:
    for image in sorted({image for image in catalogue.images if image is not None}):
        (target / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(catalogue.image_root / image, target / image)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- read


def read_dataset(folder: str | Path) -> Dataset:
    """Read a dataset folder, strictly.

    Raises:
        DataError: with every problem: a missing or changed file, another format version, tables that do not fit.
    """
    folder = Path(folder)
    problems: list[Problem] = []
    manifest = _read_manifest(folder, problems)
    if manifest is not None:
        _check_files(folder, manifest, problems)
    if manifest is None or problems:
        raise DataError(f"{folder} is not a whole panfit data set", problems)
    tables = {name: load_table(folder, name, problems) for name in SCHEMAS}
    present = {name: table for name, table in tables.items() if table is not None}
    catalogue = _catalogue(folder, manifest, present, problems)
    text = _read_text(folder, manifest, len(present.get("items.parquet", ())), problems)
    if problems or catalogue is None:
        raise DataError(f"{folder} holds tables that do not fit together", problems)
    user_ids = tuple(present["users.parquet"]["user_id"].to_pylist())
    slots = tuple(map(Slot, manifest.slots, manifest.slot_categories))
    reader = TableReader(slots, user_ids, catalogue, problems)
    likes = reader.likes(folder / "outfits.parquet", present["outfits.parquet"])
    negatives = reader.negatives(folder / "negatives.parquet", present["negatives.parquet"])
    fitb = reader.fitb(folder / "fitb.parquet", present["fitb.parquet"])
    if problems:
        raise DataError(f"{folder} holds tables that do not fit together", problems)
    return Dataset(
        name=manifest.name,
        slots=slots,
        user_ids=user_ids,
        catalogue=catalogue,
        likes=likes,
        negatives=negatives,
        fitb=fitb,
        text=text,
        checksum=manifest.fingerprint(),
        folder=folder,
    )


def _read_manifest(folder: Path, problems: list[Problem]) -> Manifest | None:
    path = folder / MANIFEST
    wanted = "a data set made by `panfit import` or `panfit demo`"
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError:
        found = "no such folder" if not folder.exists() else "no dataset.json" if folder.is_dir() else "a file"
        problems.append(Problem(str(folder), found, wanted, "Check the path, or import the data set first."))
        return None
    except ValueError as error:
        problems.append(Problem(str(path), f"no JSON ({error})", wanted, REMEDY))
        return None
    found_format = values.get("format") if isinstance(values, dict) else None
    if found_format != FORMAT or isinstance(found_format, bool):
        remedy = "Import the data set again with this version of panfit."
        problems.append(Problem(str(path), f"format {found_format!r}", f"format {FORMAT}", remedy))
        return None
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        for detail in error.errors():
            key = ".".join(map(str, detail["loc"])) or "dataset.json"
            problems.append(Problem(str(path), f"{key}: {detail['msg']}", "what panfit wrote there", REMEDY))
        return None


def _check_files(folder: Path, manifest: Manifest, problems: list[Problem]) -> None:
    for name, wanted in manifest.checksums.items():
        path = folder / name
        try:
            found = _sha256(path)
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
            problems.append(Problem(str(path), reason, "the file that dataset.json names", REMEDY))
            continue
        if found != wanted:
            remedy = "The file was changed or damaged after it was made. " + REMEDY
            problems.append(Problem(str(path), f"sha256 {found[:12]}...", f"sha256 {wanted[:12]}...", remedy))


def _catalogue(
    folder: Path, manifest: Manifest, tables: dict[str, pa.Table], problems: list[Problem]
) -> Catalogue | None:
    for name, column in [("items.parquet", "item_id"), ("users.parquet", "user_id")]:
        if name in tables:
            _check_ids(folder / name, tables[name][column].to_pylist(), problems)
    if "items.parquet" not in tables:
        return None
    path = folder / "items.parquet"
    columns = tables["items.parquet"].to_pydict()
    wanted = f"one of {', '.join(manifest.categories)}"
    for row, category in enumerate(columns["category"], start=1):
        if category not in manifest.categories:
            problems.append(Problem(str(path), f"category {category!r}", wanted, REMEDY, row=row))
    for row, image in enumerate(columns["image"], start=1):
        if image is not None and not stays_inside(image):
            found = f"the photo path {image!r}"
            problems.append(Problem(str(path), found, "a path inside the image root", REMEDY, row=row))
    if problems:
        return None
    return Catalogue(
        item_ids=tuple(columns["item_id"]),
        item_categories=tuple(columns["category"]),
        images=tuple(columns["image"]),
        titles=tuple(columns["title"]),
        categories=tuple(manifest.categories),
        image_root=folder / manifest.image_root,  # an absolute root stands for itself
    )


def _check_ids(path: Path, ids: list[str | None], problems: list[Problem]) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(ids, start=1):
        if not name:
            problems.append(Problem(str(path), "an empty id", "an id", REMEDY, row=row))
        elif name in seen:
            found = f"the id {name!r} of row {seen[name]} again"
            problems.append(Problem(str(path), found, "every id once", REMEDY, row=row))
        else:
            seen[name] = row


def _read_text(folder: Path, manifest: Manifest, num_items: int, problems: list[Problem]) -> Any:
    if TEXT not in manifest.checksums:
        return None
    path = folder / TEXT
    try:
        # Copy on write: torch takes such memory as it is, and refuses to without a warning where it cannot be written.
        text = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        problems.append(Problem(str(path), f"an unreadable array ({error})", "a .npy array", REMEDY))
        return None
    if text.ndim != 2 or text.dtype != np.float32 or len(text) != num_items:
        found = f"{text.dtype} of shape {text.shape}"
        problems.append(Problem(str(path), found, f"float32 of shape ({num_items}, T)", REMEDY))
    return text
