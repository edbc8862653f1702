"""Polyvore-630, 519, 53 and 32 as their authors released them -> Dataset.

    ROOT/images/291x291/*.jpg                     the photos (or a folder given with --images)
    ROOT/sentence_vector/semantic.pkl             {photo name: vector}, optional
    ROOT/tuples_630/image_list_{top,bottom,shoe}  a photo name a line; an item's index is its line, from 0
    ROOT/tuples_630/tuples_{train,val,test}_posi  user,top,bottom,shoe: the likes
    ROOT/tuples_630/tuples_{...}_{nega,nega_hard} likewise: the fixed negatives
    ROOT/tuples_630/fill_in_blank_test            four outfits a line, the first is true, one slot differs

519 and 32 have two top columns, -1 where there is no second top (decision D14). The train negatives are not read:
training draws its own anew each epoch (decision D9). Layout: data/README.md of the authors' repository; literature 2.5.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from panfit.data.findings import Findings, ImportReport
from panfit.data.polyvore_items import CATEGORIES, PolyvoreItems, read_items
from panfit.data.splits import complete
from panfit.data.tuple_file import TupleFile, read_tuple_file
from panfit.errors import DataError, Problem
from panfit.outfits import ABSENT, SPLITS, Dataset, FitbQuestions, IntArray, Kind, Outfits, Slot, Split

Subset = Literal["630", "519", "53", "32"]

ONE_TOP = tuple(Slot(category, category) for category in CATEGORIES)
TWO_TOPS = (Slot("top", "top"), Slot("top2", "top"), Slot("bottom", "bottom"), Slot("shoe", "shoe"))
SLOTS: dict[Subset, tuple[Slot, ...]] = {"630": ONE_TOP, "53": ONE_TOP, "519": TWO_TOPS, "32": TWO_TOPS}
EXPECTED_LIKES: dict[Subset, dict[Split, int]] = {
    "630": {"train": 127_326, "val": 12_565, "test": 23_054},
    "519": {"train": 83_416, "val": 8_736, "test": 14_654},
}
"""Likes of the released files (literature 1.1); others are noted, since results then do not compare."""
NUM_CANDIDATES = 4
QUESTIONS = "fill_in_blank_test"


def import_polyvore_u(
    source: str | Path, *, subset: Subset = "630", images: Path | None = None, seed: int = 0, skip_bad: bool = False
) -> ImportReport:
    """Read one of the four sets; negatives and questions whose files are missing are drawn with ``seed``.

    Args:
        source: ROOT, or its tuples folder.
        subset: which set.
        images: the folder of photos; by default ROOT/images/291x291, where it exists.
        seed: of what is drawn.
        skip_bad: leave out items and rows that are bad, and what hangs on them, instead of refusing the import.

    Returns:
        The data set, what was left out, and notes on what is unlike the released files.

    Raises:
        DataError: with every problem of every file.
    """
    findings = Findings(skip_bad)
    summary = f"{source} cannot be imported as Polyvore-{subset}"
    slots = SLOTS[subset]
    folder, root = _find_folders(Path(source), subset)
    items = read_items(folder, root, images, findings)
    files = _read_files(folder, slots, findings)
    if items is None or findings.fatal:
        findings.stop_if_needed(summary)
    assert items is not None  # a missing list is fatal
    indices = _Indices(slots, items)
    usable = {name: indices.usable(file, findings) for name, file in files.items()}
    users = _keep_known_users(files, usable, findings)
    for split in SPLITS:
        _check_likes(usable[_likes_file(split)], EXPECTED_LIKES.get(subset, {}).get(split), findings)
    questions = usable.get(QUESTIONS)
    if questions is not None:
        questions = usable[QUESTIONS] = _well_posed(questions, slots, findings)
    findings.stop_if_needed(summary)
    dataset = Dataset(
        name=f"polyvore-{subset}",
        slots=slots,
        user_ids=tuple(str(user) for user in users),
        catalogue=items.catalogue,
        likes={split: indices.outfits(usable[_likes_file(split)].values, users) for split in SPLITS},
        negatives={
            (split, kind): indices.outfits(usable[name].values, users)
            for split, kind, name in _negatives_files()
            if name in usable and len(usable[name])
        },
        fitb={} if questions is None or not len(questions) else {"test": indices.questions(questions, users)},
        text=items.text,
    )
    return ImportReport(complete(dataset, seed=seed), findings.skipped, tuple(findings.notes))


def _find_folders(source: Path, subset: Subset) -> tuple[Path, Path]:
    """The tuples folder, and the folder above it. Raises DataError."""
    if (source / f"tuples_{subset}").is_dir():
        return source / f"tuples_{subset}", source
    if (source / "image_list_top").exists():
        return source, source.resolve().parent
    found = f"no folder tuples_{subset}" if source.is_dir() else "no such folder"
    remedy = "Give the folder that holds tuples_630 (or another set, with --subset), or that folder itself"
    raise DataError("nothing to import", [Problem(str(source), found, "the released layout", remedy)])


def _likes_file(split: Split) -> str:
    return f"tuples_{split}_posi"


def _negatives_files() -> list[tuple[Split, Kind, str]]:
    endings: dict[Kind, str] = {"random": "nega", "hard": "nega_hard"}
    splits: tuple[Split, ...] = ("val", "test")
    return [(split, kind, f"tuples_{split}_{ending}") for split in splits for kind, ending in endings.items()]


def _read_files(folder: Path, slots: Sequence[Slot], findings: Findings) -> dict[str, TupleFile]:
    """File name -> its rows: the likes, and those of the other files that are there."""
    columns = ["user", *(slot.category for slot in slots)]
    wanted = {_likes_file(split): columns for split in SPLITS}
    wanted |= {name: columns for _, _, name in _negatives_files() if (folder / name).exists()}
    if (folder / QUESTIONS).exists():
        wanted[QUESTIONS] = columns * NUM_CANDIDATES
    files = {name: read_tuple_file(folder / name, header, findings) for name, header in wanted.items()}
    return {name: file for name, file in files.items() if file is not None}


class _Indices:
    """Users and item indices as the files write them -> rows of the data set."""

    def __init__(self, slots: Sequence[Slot], items: PolyvoreItems) -> None:
        self._slots = slots
        self._row_of = [items.row_of[CATEGORIES.index(slot.category)] for slot in slots]

    def usable(self, file: TupleFile, findings: Findings) -> TupleFile:
        """The rows whose users and items exist; what is wrong with the others is told."""
        values = _by_outfit(file, self._slots)  # (B, K, 1 + S)
        good = np.ones(len(file), dtype=np.bool_)

        def leave_out(wrong: NDArray[np.bool_], column: int, what: str, wanted: str, into: list[Problem]) -> None:
            rows = wrong.any(axis=1) & good  # (B,)
            if rows.any():
                first = values[rows, wrong[rows].argmax(axis=1), column]
                into += file.problems(rows, [f"{what} {value}" for value in first.tolist()], wanted)
                good[rows] = False

        leave_out(values[..., 0] < 0, 0, "user", "a number from 0", findings.bad)
        for column, (slot, row_of) in enumerate(zip(self._slots, self._row_of, strict=True), start=1):
            index = values[..., column]  # (B, K)
            empty = (index == ABSENT) & (slot.name != slot.category)  # only a second top may be missing
            outside = ~empty & ((index < 0) | (index >= len(row_of)))
            range_text = f"0 to {len(row_of) - 1}" + (", or -1" if slot.name != slot.category else "")
            leave_out(outside, column, f"{slot.name} index", range_text, findings.bad)
            missing = ~empty & ~outside
            missing[missing] = row_of[index[missing]] == ABSENT
            leave_out(missing, column, f"{slot.name} index", "an item that was not left out", findings.following)
        return file.take(good)

    def outfits(self, values: IntArray, users: IntArray) -> Outfits:
        """(B, 1 + S) users and indices -> rows."""
        columns = []
        for column, row_of in enumerate(self._row_of, start=1):
            index = values[:, column]
            columns.append(np.where(index == ABSENT, ABSENT, row_of[np.maximum(index, 0)]))
        return Outfits(np.searchsorted(users, values[:, 0]), np.column_stack(columns))

    def questions(self, file: TupleFile, users: IntArray) -> FitbQuestions:
        """Well-posed questions -> rows; the first candidate is the true one."""
        values = _by_outfit(file, self._slots)  # (Q, K, 1 + S)
        num_questions, num_candidates, width = values.shape
        blank = _differing(values).argmax(axis=1)  # (Q,)
        filled = self.outfits(values.reshape(-1, width), users)
        items = filled.items.reshape(num_questions, num_candidates, width - 1)  # (Q, K, S)
        candidates = np.take_along_axis(items, blank[:, None, None], axis=2)[..., 0]  # (Q, K)
        outfits = Outfits(filled.users[::num_candidates], items[:, 0])
        return FitbQuestions(outfits, blank, candidates, np.zeros(num_questions, dtype=np.int64))


def _by_outfit(file: TupleFile, slots: Sequence[Slot]) -> IntArray:
    """(B, K, 1 + S): user and indices of each of a row's K outfits (K = 1 but for questions)."""
    return file.values.reshape(len(file), file.values.shape[1] // (1 + len(slots)), 1 + len(slots))


def _differing(values: IntArray) -> NDArray[np.bool_]:
    """(Q, S) True in the slots in which a question's candidates differ."""
    different: NDArray[np.bool_] = (values[:, :, 1:] != values[:, :1, 1:]).any(axis=1)
    return different


def _keep_known_users(files: dict[str, TupleFile], usable: dict[str, TupleFile], findings: Findings) -> IntArray:
    """Keep the rows of users who are trained on and, in a split, have both likes and negatives; returns those users.

    A row whose user is only missing because of rows that were left out follows them.
    """

    def keep(name: str, others: Sequence[str], wanted: str) -> None:
        file = usable[name]
        for other in others:
            rows = ~np.isin(file.values[:, 0], usable[other].values[:, 0])
            was_there = np.isin(file.values[:, 0], files[other].values[:, 0])
            for which, into in ((rows & ~was_there, findings.bad), (rows & was_there, findings.following)):
                found = [f"user {user}, who is not in {other}" for user in file.values[which, 0].tolist()]
                into += file.problems(which, found, wanted)
            file = file.take(~rows)
        usable[name] = file

    train = _likes_file("train")
    for split in SPLITS[1:]:
        negatives = [name for other, _, name in _negatives_files() if other == split and name in usable]
        keep(_likes_file(split), [train], "users with train likes")
        keep(_likes_file(split), negatives, "users with negatives in the split")
        for name in negatives:
            keep(name, [_likes_file(split)], "users with likes in the split")
    if QUESTIONS in usable:
        keep(QUESTIONS, [_likes_file("test")], "users with test likes")
    return np.unique(usable[train].values[:, 0])


def _check_likes(file: TupleFile, expected: int | None, findings: Findings) -> None:
    if not len(file):
        remedy = "Download the file anew"
        findings.fatal.append(Problem(str(file.path), "no like that can be used", "likes in every split", remedy))
    elif expected is not None and len(file) != expected:
        remedy = "Results will not compare with published ones"
        findings.notes.append(Problem(str(file.path), f"{len(file)} likes", f"{expected}, as released", remedy))


def _well_posed(file: TupleFile, slots: Sequence[Slot], findings: Findings) -> TupleFile:
    """The questions of one user each whose candidates differ in one slot and fill it."""
    values = _by_outfit(file, slots)  # (Q, K, 1 + S)
    good = np.ones(len(file), dtype=np.bool_)

    def leave_out(wrong: NDArray[np.bool_], found: str, wanted: str) -> None:
        rows = wrong & good
        findings.bad += file.problems(rows, [found] * int(rows.sum()), wanted)
        good[rows] = False

    leave_out((values[..., 0] != values[:, :1, 0]).any(axis=1), "candidates of several users", "one user a line")
    differing = _differing(values)  # (Q, S)
    num_slots = differing.sum(axis=1)  # (Q,)
    leave_out(num_slots == 0, "the same outfit in every place", "candidates that differ in one slot")
    leave_out(num_slots > 1, "candidates that differ in several slots", "candidates that differ in one slot")
    blank = np.take_along_axis(values[:, :, 1:], differing.argmax(axis=1)[:, None, None], axis=2)  # (Q, K, 1)
    leave_out((blank == ABSENT).any(axis=(1, 2)), "an empty candidate", "an item in every candidate")
    return file.take(good)
