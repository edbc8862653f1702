"""`panfit check`: is this data set whole, and is it fit to train and evaluate on? Every problem at once, and a summary.

Reading already refuses a damaged folder; this also opens every photo whole and looks at what the likes and the fixed
negatives say together.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from panfit.data.folder import counts, read_dataset
from panfit.data.known import KnownOutfits, first_places, rows_of
from panfit.data.outfit_sheet import TOLERATED_LIKED_NEGATIVES
from panfit.data.photo_check import photo_faults
from panfit.errors import DataError, Problem
from panfit.outfits import KINDS, SPLITS, Dataset, Split

IMPORT_AGAIN = "Mend the source and import it again (or import with --skip-bad)."


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        problems: what has to be mended; empty for a data set that is fit for use.
        summary: names and counts, for people and for JSON; {} where the folder cannot be read.
        notes: what is odd, and does no harm.
    """

    problems: tuple[Problem, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    notes: tuple[Problem, ...] = ()


def check_dataset(folder: str | Path, *, progress: Callable[[int], object] | None = None) -> CheckReport:
    """Look at everything in a dataset folder, its photos included. Never raises for what is wrong with the data.

    Args:
        folder: the dataset folder.
        progress: called with the number of photos opened so far.
    """
    folder = Path(folder)
    try:
        dataset = read_dataset(folder)
    except DataError as error:
        return CheckReport(problems=error.problems)
    notes: list[Problem] = []
    problems = [*_likes(folder, dataset), *_negatives(folder, dataset, notes)]
    problems += _photos(folder, dataset, notes, progress)
    for split in ("val", "test"):
        if split in dataset.likes and split not in dataset.fitb:
            notes.append(_problem(folder / "fitb.parquet", f"no questions for {split}", "some, to measure FITB"))
    return CheckReport(tuple(problems), summary(dataset), tuple(notes))


def summary(dataset: Dataset) -> dict[str, Any]:
    """Names and counts of a data set."""
    worn = {split: np.zeros(len(dataset.catalogue), dtype=np.bool_) for split in dataset.likes}  # (N,) each
    for split, outfits in dataset.likes.items():
        worn[split][outfits.items[outfits.mask]] = True
    catalogue = dataset.catalogue
    return {
        "name": dataset.name,
        "checksum": dataset.checksum,
        "slots": {slot.name: slot.category for slot in dataset.slots},
        **counts(dataset),
        "items_of_train_again_in": {
            split: int((worn["train"] & worn[split]).sum()) for split in worn if split != "train"
        },
        "items_never_liked": int((~np.logical_or.reduce(list(worn.values()))).sum()),
        "photos": sum(image is not None for image in catalogue.images),
        "titles": sum(title is not None for title in catalogue.titles),
        "text_vectors": None if dataset.text is None else list(dataset.text.shape),
        "image_root": str(catalogue.image_root),
    }


def _problem(path: Path, found: str, wanted: str, *, row: int | None = None, remedy: str = IMPORT_AGAIN) -> Problem:
    return Problem(str(path), found, wanted, remedy, row=row)


def _likes(folder: Path, dataset: Dataset) -> Iterator[Problem]:
    path = folder / "outfits.parquet"
    for split in SPLITS:
        if split not in dataset.likes or not len(dataset.likes[split]):
            yield _problem(path, f"no likes in split {split}", "likes in every split")
    stored = [split for split in SPLITS if split in dataset.likes]  # the order in which the folder stores them
    rows = rows_of([dataset.likes[split] for split in stored])  # (L, 1 + S)
    first = first_places(rows)  # (L,)
    is_again = first != np.arange(len(rows))  # (L,)
    is_untrained = ~np.isin(rows[:, 0], dataset.likes["train"].users)  # (L,)
    is_untrained &= first_places(rows[:, :1]) == np.arange(len(rows))  # told once a user
    ends = np.cumsum([len(dataset.likes[split]) for split in stored])
    for row in np.flatnonzero(is_again | is_untrained).tolist():
        if is_again[row]:
            yield _problem(path, f"the like of row {first[row] + 1} again", "every like of a user once", row=row + 1)
        if is_untrained[row]:
            split = stored[int(np.searchsorted(ends, row, side="right"))]
            found = f"a {split} like of user {dataset.user_ids[rows[row, 0]]!r}, who has no train likes"
            yield _problem(path, found, "train likes of everybody", row=row + 1)


def _negatives(folder: Path, dataset: Dataset, notes: list[Problem]) -> Iterator[Problem]:
    path = folder / "negatives.parquet"
    known = KnownOutfits([dataset.likes[split] for split in SPLITS if split in dataset.likes])
    start = 0
    for split in SPLITS:
        for kind in KINDS:
            liking = set(np.unique(dataset.likes[split].users).tolist()) if split in dataset.likes else set()
            if (split, kind) not in dataset.negatives:
                if split != "train" and liking:
                    missing = _problem(path, f"no {kind} negatives for {split}", "10 for each like")
                    if kind == "random":
                        yield missing
                    else:  # a single user has none: nobody else likes anything
                        notes.append(missing)
                continue
            outfits = dataset.negatives[split, kind]
            liked = []
            for row in np.flatnonzero(known.contains(outfits.users, outfits.items)).tolist():
                found = f"a {split} {kind} negative that user {dataset.user_ids[outfits.users[row]]!r} likes"
                wanted = "outfits that the user is not known to like"
                liked.append(_problem(path, found, wanted, row=start + row + 1))
            start += len(outfits)
            if len(liked) > TOLERATED_LIKED_NEGATIVES * len(outfits):
                yield from liked
            else:
                notes += liked
            yield from _uneven(path, dataset, split, kind, liking, set(np.unique(outfits.users).tolist()))


def _uneven(
    path: Path, dataset: Dataset, split: Split, kind: str, liking: set[int], disliking: set[int]
) -> Iterator[Problem]:
    """Users with likes and no negatives in a split, or the other way round: nothing can be measured on them."""
    for user in sorted(liking - disliking):
        found = f"no {split} {kind} negatives of user {dataset.user_ids[user]!r}"
        yield _problem(path, found, "negatives of everybody who has likes in the split")
    for user in sorted(disliking - liking):
        found = f"{split} {kind} negatives of user {dataset.user_ids[user]!r}, who has no likes there"
        yield _problem(path, found, "users with likes in that split")


def _photos(
    folder: Path, dataset: Dataset, notes: list[Problem], progress: Callable[[int], object] | None
) -> Iterator[Problem]:
    path = folder / "items.parquet"
    catalogue = dataset.catalogue
    there = [(row, image) for row, image in enumerate(catalogue.images) if image is not None]
    if len(there) < len(catalogue):
        found = f"{len(catalogue) - len(there)} of {len(catalogue)} items without a photo"
        notes.append(_problem(path, found, "photos, to train on them", remedy="Train on stored maps instead."))
    if there and not catalogue.image_root.is_dir():
        remedy = "Put the folder back, or import again (with --copy-images, to keep the photos in the data set)."
        yield _problem(path, f"no photo folder {catalogue.image_root}", "the folder of the photos", remedy=remedy)
        return
    images = (image for _, image in there)
    for place, (found, wanted, remedy) in photo_faults(catalogue.image_root, images, thorough=True, progress=progress):
        yield _problem(path, found, wanted, row=there[place][0] + 1, remedy=remedy)
