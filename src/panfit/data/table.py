"""A shop's own tables and photos -> Dataset: items, likes, and optional negatives and questions (design section 3).

Reads everything, tells everything that is wrong at once, and only then refuses, or leaves out what is bad. What the
source brings is used as it is; what it lacks is drawn with a seed (`panfit.data.splits`).
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from panfit.data.findings import Findings, ImportReport
from panfit.data.item_sheet import NOT_SLOTS, Items, check_items, find_slots, read_items
from panfit.data.outfit_sheet import (
    Likes,
    Question,
    Row,
    lacking,
    of_known_users,
    read_fitb,
    read_likes,
    read_negatives,
    slot_columns,
)
from panfit.data.sheet import Sheet, find_sheet, read_sheet
from panfit.data.splits import complete, draw_item_splits, draw_splits
from panfit.errors import DataError, Problem
from panfit.outfits import ABSENT, SPLITS, Dataset, FitbQuestions, Kind, Outfits, Slot, Split

REQUIRED = {
    "items": ("item_id", "category", "image"),
    "likes": ("user_id",),
    "negatives": ("user_id", "split"),
    "negatives_hard": ("user_id", "split"),
    "fitb": ("user_id", "question", "answer"),
}
"""Table -> the columns it must have, besides the slots'."""
EVERYBODY = "everybody"
"""The one user of a shop whose tables have no column user_id: it knows which outfits are liked, not by whom."""
KIND_OF: dict[str, Kind] = {"negatives": "random", "negatives_hard": "hard"}

_log = logging.getLogger("panfit")


def import_table(
    source: str | Path,
    *,
    name: str | None = None,
    seed: int = 0,
    image_root: str | Path | None = None,
    skip_bad: bool = False,
    item_disjoint: bool = False,
) -> ImportReport:
    """Read a folder of items.csv and likes.csv (or .parquet), with negatives*.csv and fitb.csv where there are any.

    Args:
        source: the folder.
        name: the data set's name; by default the folder's.
        seed: of everything that is drawn: splits, negatives, questions.
        image_root: the folder that photo paths start from; by default ``source``.
        skip_bad: leave out what is bad, and what hangs on it, instead of refusing the whole import.
        item_disjoint: draw splits that share no item, dropping the likes that lie across.

    Raises:
        DataError: with every problem of every file.
    """
    source = Path(source)
    image_root = source if image_root is None else Path(image_root)
    for folder in (source, image_root):
        if not folder.is_dir():
            found = "a file" if folder.exists() else "no such folder"
            raise DataError("nothing to import", [Problem(str(folder), found, "a folder", "Check the path.")])
    findings = Findings(skip_bad)
    summary = f"{source} cannot be imported"
    sheets = _read_sheets(source, findings)
    if "items" not in sheets or "likes" not in sheets:
        findings.stop_if_needed(summary)
    items = read_items(sheets["items"], findings)
    # without the users' column, any column of another name than a category's may be theirs
    slots = find_slots(sheets["likes"], items, findings, by_name=_of_everybody(sheets))
    check_items(items, slots, image_root, findings)
    if not slots or findings.fatal:
        findings.stop_if_needed(summary)
    _note_oddities(sheets["likes"], slots, findings)
    likes = read_likes(sheets["likes"], slots, items, findings)
    _check_options(sheets, likes, item_disjoint, findings)
    negatives, questions = _read_fixed(sheets, slots, items, likes, findings)
    findings.stop_if_needed(summary)
    num_dropped = 0
    if not likes.has_splits:
        num_dropped = _split(likes, len(sheets["items"]), seed, item_disjoint)
    for split in SPLITS:
        if not any(row.split == split for row in likes.rows):
            _no_likes(sheets["likes"], split, findings)
    findings.stop_if_needed(summary)
    dataset = _assemble(name or source.resolve().name, slots, items, likes, negatives, questions, image_root)
    return ImportReport(complete(dataset, seed=seed), findings.skipped, tuple(findings.notes), num_dropped)


def _read_sheets(source: Path, findings: Findings) -> dict[str, Sheet]:
    """Table -> its sheet. Where the likes name no users, everybody is one, in the other tables too."""
    sheets: dict[str, Sheet] = {}
    for stem, required in REQUIRED.items():
        path = find_sheet(source, stem, findings, required=stem in ("items", "likes"))
        may_be_everybody = stem == "likes" or (stem != "items" and _of_everybody(sheets))
        otherwise = {"user_id": EVERYBODY} if may_be_everybody else {}
        sheet = None if path is None else read_sheet(path, findings, required=required, otherwise=otherwise)
        if sheet is not None:
            sheets[stem] = sheet
    return sheets


def _of_everybody(sheets: dict[str, Sheet]) -> bool:
    return "likes" in sheets and "user_id" in sheets["likes"].filled


def _note_oddities(likes: Sheet, slots: Sequence[Slot], findings: Findings) -> None:
    """What works, but may not be meant."""

    def note(found: str, wanted: str, remedy: str) -> None:
        findings.notes.append(Problem(likes.file, found, wanted, remedy, row=1))

    if "user_id" in likes.filled:
        remedy = f"All likes count as those of one user, {EVERYBODY!r}; add the column if there are several."
        note("no column user_id", "a column that says whose like it is", remedy)
    if len({slot.category for slot in slots}) == 1:
        remedy = "Each user's taste is learnt, but not what goes together: only items of two categories make a pair."
        note(f"slots of one category only ({slots[0].category})", "slots of several categories", remedy)
    columns = [cells for name, cells in zip(likes.header, likes.columns, strict=True) if name not in NOT_SLOTS]
    for slot, cells in zip(slots, columns, strict=True):
        if not any(cells):
            remedy = "Nothing is learnt of such items; remove the column, or fill it."
            note(f"the column {slot.name!r}, empty in every row", "items in every slot, at least now and then", remedy)


def _check_options(sheets: dict[str, Sheet], likes: Likes, item_disjoint: bool, findings: Findings) -> None:
    file = sheets["likes"].file
    if likes.has_splits and item_disjoint:
        remedy = "Remove the column, or do not ask for item-disjoint splits."
        found = "a split column, although item-disjoint splits are asked for"
        findings.fatal.append(Problem(file, found, "no split column", remedy, row=1))
    if not likes.has_splits:
        for stem in ("negatives", "negatives_hard", "fitb"):
            if stem in sheets:
                remedy = f"Add the split column to {file}, or remove this file to have everything drawn."
                found = f"a table of fixed {stem.replace('_', ' ')} beside likes without splits"
                findings.fatal.append(Problem(sheets[stem].file, found, "a split column in the likes", remedy))


def _read_fixed(
    sheets: dict[str, Sheet], slots: Sequence[Slot], items: Items, likes: Likes, findings: Findings
) -> tuple[dict[Kind, list[Row]], list[Question]]:
    """The negatives and questions that the source brings. Users whom a file of negatives forgets lose those likes."""
    negatives: dict[Kind, list[Row]] = {}
    questions: list[Question] = []
    if not likes.has_splits:
        return negatives, questions
    forgotten: set[tuple[str, str]] = set()
    for stem, kind in KIND_OF.items():
        columns = slot_columns(sheets[stem], sheets["likes"], findings) if stem in sheets else None
        if columns is not None:
            rows = read_negatives(sheets[stem], columns, slots, items, likes, findings)
            forgotten |= lacking(sheets[stem], rows, likes, findings)
            negatives[kind] = rows
    likes.rows = [row for row in likes.rows if (row.user, row.split) not in forgotten]
    negatives = {
        kind: [row for row in rows if (row.user, row.split) not in forgotten] for kind, rows in negatives.items()
    }
    if "fitb" in sheets:
        sheet = sheets["fitb"]
        columns = slot_columns(sheet, sheets["likes"], findings)
        if columns is not None:

            def keep(rows: list[Row]) -> list[Row]:
                return of_known_users(rows, sheet, likes, findings)

            questions = read_fitb(sheet, columns, slots, items, findings, keep=keep)
    return negatives, questions


def _split(likes: Likes, num_items: int, seed: int, item_disjoint: bool) -> int:
    """Draw the split of each like; returns how many likes an item-disjoint split drops."""
    rng = np.random.default_rng([seed, len(SPLITS)])  # its own stream: see splits.complete
    if item_disjoint:
        splits = draw_item_splits(np.array([row.items for row in likes.rows], dtype=np.int64), num_items, rng=rng)
    else:
        place = {user: index for index, user in enumerate(likes.users)}
        splits = draw_splits(np.array([place[row.user] for row in likes.rows], dtype=np.int64), rng=rng)
    rows = [
        Row(row.line, row.place, row.user, row.items, SPLITS[split])
        for row, split in zip(likes.rows, splits.tolist(), strict=True)
        if split >= 0
    ]
    trained = {row.user for row in rows if row.split == "train"}
    num_before = len(likes.rows)
    likes.rows = [row for row in rows if row.user in trained]
    if num_before > len(likes.rows):
        _log.warning("item-disjoint splits: %d of %d likes dropped", num_before - len(likes.rows), num_before)
    return num_before - len(likes.rows)


def _no_likes(sheet: Sheet, split: Split, findings: Findings) -> None:
    if not any(f"split {split!r}" in problem.found for problem in findings.fatal):
        remedy = "Give more likes (three of one user at the very least), or splits of your own."
        findings.fatal.append(Problem(sheet.file, f"no likes left for split {split!r}", "likes in every split", remedy))


def _assemble(
    name: str,
    slots: tuple[Slot, ...],
    items: Items,
    likes: Likes,
    negatives: dict[Kind, list[Row]],
    questions: list[Question],
    image_root: Path,
) -> Dataset:
    categories = tuple(dict.fromkeys(slot.category for slot in slots))
    catalogue, row_of = items.catalogue(categories, image_root)
    row_of[ABSENT] = ABSENT
    user_row = {user: row for row, user in enumerate(likes.users)}

    def outfits(rows: Sequence[Row]) -> Outfits:
        worn = [[row_of[item] for item in row.items] for row in rows]
        users = np.array([user_row[row.user] for row in rows], dtype=np.int64)
        return Outfits(users, np.array(worn, dtype=np.int64).reshape(len(rows), len(slots)))

    def of(split: Split, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if row.split == split]

    def fitb(found: Sequence[Question]) -> FitbQuestions:
        candidates = [[row_of[item] for item in question.candidates] for question in found]
        return FitbQuestions(
            outfits([question.truth for question in found]),
            np.array([question.blank for question in found], dtype=np.int64),
            np.array(candidates, dtype=np.int64),
            np.array([question.answer for question in found], dtype=np.int64),
        )

    by_split = {split: [q for q in questions if q.truth.split == split] for split in SPLITS}
    return Dataset(
        name=name,
        slots=slots,
        user_ids=tuple(likes.users),
        catalogue=catalogue,
        likes={split: outfits(of(split, likes.rows)) for split in SPLITS},
        negatives={
            (split, kind): outfits(of(split, rows))
            for kind, rows in negatives.items()
            for split in SPLITS
            if of(split, rows)
        },
        fitb={split: fitb(found) for split, found in by_split.items() if found},
    )
