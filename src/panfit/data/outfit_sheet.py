"""Sheets of outfits (likes, negatives, questions): texts -> places of items, row by row, each fault told.

Everything here speaks of places in items.csv and of user ids; `panfit.data.table` turns them into rows.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from panfit.data.findings import Findings
from panfit.data.item_sheet import NOT_SLOTS, Items
from panfit.data.sheet import Sheet
from panfit.errors import Problem
from panfit.outfits import ABSENT, SPLITS, Slot

TOLERATED_LIKED_NEGATIVES = 0.01
"""Share of a negatives file that may contradict the likes. Hard negatives are other people's likes, and released sets
carry a handful that the user likes too; a file full of them is the likes themselves under another name."""

Worn = tuple[int, ...]
"""Places in items.csv, one a slot, ABSENT where the slot is empty."""


@dataclass(frozen=True)
class Row:
    """One good row: where it stands, whose it is, what is worn, and the split it names ("" where none is named)."""

    line: int
    place: int
    user: str
    items: Worn
    split: str = ""


@dataclass
class Likes:
    """likes.csv as read.

    Attributes:
        rows: what is good.
        seen: (user, split) of every row, also of the bad ones: what is missing only because a row was bad is no
            fault of its own.
        has_splits: whether there is a split column.
    """

    rows: list[Row] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)
    has_splits: bool = False

    @property
    def users(self) -> list[str]:
        return list(dict.fromkeys(row.user for row in self.rows))

    @property
    def known(self) -> set[tuple[str, Worn]]:
        return {(row.user, row.items) for row in self.rows}

    @property
    def users_of_splits(self) -> set[tuple[str, str]]:
        return {(row.user, row.split) for row in self.rows}


def read_rows(
    sheet: Sheet, columns: Sequence[int], slots: Sequence[Slot], items: Items, findings: Findings
) -> list[Row]:
    """The rows whose user and items are all good. ``columns``: the slots' columns in the sheet."""
    users = sheet.column("user_id")
    splits = sheet.column("split") if "split" in sheet.header else None
    rows = []
    for place, line in enumerate(sheet.rows):
        if place in sheet.broken:
            continue
        worn: list[int] = []
        good = bool(users[place])
        if not good:
            _tell(findings.bad, sheet, line, "an empty user_id", "a user's id", "Say whose row it is.")
        for slot, column in zip(slots, columns, strict=True):
            cell = sheet.columns[column][place]
            item = items.index_of.get(cell) if cell else ABSENT
            if item is None:
                good = False
                wanted = f"an item_id of {items.sheet.file}"
                _tell(findings.bad, sheet, line, f"{slot.name} {cell!r}", wanted, "Add the item, or remove this row.")
                continue
            worn.append(item)
            if item == ABSENT:
                continue
            if item in items.bad:
                good = False
                found = f"{slot.name} {cell!r}, an item that was left out"
                _tell(findings.following, sheet, line, found, "items that are all there", "Mend the item's own row.")
            elif items.category(item) != slot.category:
                good = False
                found = f"{cell!r} of category {items.category(item)!r} in column {slot.name!r}"
                remedy = f"Put it in its own column, or mend its category in {items.sheet.file}."
                _tell(findings.bad, sheet, line, found, f"an item of category {slot.category!r}", remedy)
        filled = [item for item in worn if item != ABSENT]
        if good and (not filled or len(set(filled)) != len(filled)):
            good = False
            found = "one item twice in an outfit" if filled else "an outfit without any item"
            _tell(findings.bad, sheet, line, found, "different items, at least one", "Mend or remove the row.")
        if good and splits is not None and splits[place] not in SPLITS:
            good = False
            found = f"split {splits[place]!r}"
            _tell(
                findings.bad, sheet, line, found, f"one of {', '.join(SPLITS)}", "Rename the split, letter by letter."
            )
        if good:
            rows.append(Row(line, place, users[place], tuple(worn), splits[place] if splits else ""))
    return rows


def _tell(into: list[Problem], sheet: Sheet, line: int | None, found: str, wanted: str, remedy: str) -> None:
    into.append(Problem(sheet.file, found, wanted, remedy, row=line))


def read_likes(sheet: Sheet, slots: Sequence[Slot], items: Items, findings: Findings) -> Likes:
    """Good likes, each once; with a split column also: every split is there, and everybody has train likes."""
    columns = [index for index, name in enumerate(sheet.header) if name not in NOT_SLOTS]
    likes = Likes(has_splits="split" in sheet.header)
    first: dict[tuple[str, Worn], int] = {}
    for row in read_rows(sheet, columns, slots, items, findings):
        earlier = first.setdefault((row.user, row.items), row.line)
        if earlier != row.line:
            found = f"the like of row {earlier} again"
            _tell(findings.bad, sheet, row.line, found, "every like of a user once", "Remove one of the two rows.")
        else:
            likes.rows.append(row)
    if not likes.has_splits:
        return likes
    likes.seen = set(zip(sheet.column("user_id"), sheet.column("split"), strict=True))
    for split in SPLITS:
        if split not in sheet.column("split"):
            remedy = "Add some, or remove the split column to have all splits drawn."
            _tell(findings.fatal, sheet, None, f"no likes with split {split!r}", "likes in every split", remedy)
    _drop_untrained(likes, sheet, findings)
    return likes


def _drop_untrained(likes: Likes, sheet: Sheet, findings: Findings) -> None:
    trained = {row.user for row in likes.rows if row.split == "train"}
    for row in likes.rows:
        if row.user not in trained:
            into = findings.following if (row.user, "train") in likes.seen else findings.bad
            found = f"a {row.split} like of user {row.user!r}, who has no train likes"
            remedy = "Move some of the user's likes to train, or leave the user out."
            _tell(into, sheet, row.line, found, "train likes of everybody", remedy)
            trained.add(row.user)  # told once
    kept = {row.user for row in likes.rows if row.split == "train"}
    likes.rows = [row for row in likes.rows if row.user in kept]


def slot_columns(sheet: Sheet, likes: Sheet, findings: Findings) -> list[int] | None:
    """The columns of a further sheet in the order of likes.csv's slots; None where they are not the same (told)."""
    wanted = [name for name in likes.header if name not in NOT_SLOTS]
    found = [name for name in sheet.header if name not in NOT_SLOTS]
    if sorted(wanted) != sorted(found):
        remedy = f"Give it the same slot columns as {likes.file}."
        _tell(findings.fatal, sheet, 1, f"the columns {', '.join(found)}", f"the slots {', '.join(wanted)}", remedy)
        return None
    columns = []
    for index, name in enumerate(wanted):
        nth = wanted[:index].count(name)  # "top,top": the first top is the first top
        columns.append([place for place, other in enumerate(sheet.header) if other == name][nth])
    return columns


def read_negatives(
    sheet: Sheet, columns: Sequence[int], slots: Sequence[Slot], items: Items, likes: Likes, findings: Findings
) -> list[Row]:
    """Good negatives: of users who have likes in that split, and (but for a few) no known like of theirs."""
    rows = of_known_users(read_rows(sheet, columns, slots, items, findings), sheet, likes, findings)
    known = likes.known
    liked = [row for row in rows if (row.user, row.items) in known]
    few = len(liked) <= TOLERATED_LIKED_NEGATIVES * len(rows)
    for row in liked:
        found = f"a negative that user {row.user!r} likes"
        remedy = "Remove the row (or the whole file, to have negatives drawn)."
        into = findings.bad if findings.skip_bad or not few else findings.notes
        _tell(into, sheet, row.line, found, "outfits that the user is not known to like", remedy)
    return [row for row in rows if (row.user, row.items) not in known] if findings.skip_bad else rows


def of_known_users(rows: list[Row], sheet: Sheet, likes: Likes, findings: Findings) -> list[Row]:
    """The rows whose user has likes in the row's split."""
    pairs = likes.users_of_splits
    for row in rows:
        if (row.user, row.split) not in pairs:
            into = findings.following if (row.user, row.split) in likes.seen else findings.bad
            found = f"user {row.user!r}, who has no {row.split} likes"
            remedy = "Remove the row, or add the user's likes."
            _tell(into, sheet, row.line, found, "users with likes in that split", remedy)
    return [row for row in rows if (row.user, row.split) in pairs]


def lacking(sheet: Sheet, rows: Sequence[Row], likes: Likes, findings: Findings) -> set[tuple[str, str]]:
    """(user, split) of likes without any negatives, in splits for which the sheet has some; each is told."""
    splits = {row.split for row in rows}
    there = {(row.user, row.split) for row in rows}
    seen = set(zip(sheet.column("user_id"), sheet.column("split"), strict=True))
    without = sorted(pair for pair in likes.users_of_splits if pair[1] in splits - {"train"} and pair not in there)
    for user, split in without:
        into = findings.following if (user, split) in seen else findings.bad
        found = f"no {split} negatives of user {user!r}"
        remedy = "Add some (or remove the file, to have negatives drawn)."
        _tell(into, sheet, None, found, "negatives of everybody who has likes in the split", remedy)
    return set(without)


@dataclass(frozen=True)
class Question:
    """One fill-in-the-blank question of fitb.csv: the true outfit, the blank slot, the candidates, the answer."""

    truth: Row
    blank: int
    candidates: Worn
    answer: int


def read_fitb(
    sheet: Sheet,
    columns: Sequence[int],
    slots: Sequence[Slot],
    items: Items,
    findings: Findings,
    *,
    keep: Callable[[list[Row]], list[Row]],
) -> list[Question]:
    """Questions whose rows are all good: one answer, one user, candidates that differ in one slot, equally many."""
    names, answers = sheet.column("question"), sheet.column("answer")
    sizes = Counter(names)
    good: dict[str, list[Row]] = {}
    rows = read_rows(sheet, columns, slots, items, findings)
    if "split" not in sheet.header:
        rows = [Row(row.line, row.place, row.user, row.items, "test") for row in rows]
    for row in keep(rows):
        good.setdefault(names[row.place], []).append(row)
    lines = dict(reversed(list(zip(names, sheet.rows, strict=True))))  # each question's first line
    usual = Counter(sizes.values()).most_common(1)[0][0]
    questions = []
    for name, rows in good.items():
        fault = _fault(rows, [answers[row.place] for row in rows], sizes[name], usual)
        if len(rows) < sizes[name]:  # one of its rows was told already
            fault = None
            found = f"question {name!r}, one of whose rows was left out"
            _tell(findings.following, sheet, lines[name], found, "all rows of a question", "Mend that row.")
        elif fault is not None:
            remedy = "Mend the question's rows, or remove them all."
            _tell(findings.bad, sheet, lines[name], f"question {name!r} {fault[0]}", fault[1], remedy)
        else:
            answer = next(index for index, row in enumerate(rows) if answers[row.place] == "1")
            (blank,) = _differing(rows)
            questions.append(Question(rows[answer], blank, tuple(row.items[blank] for row in rows), answer))
    return questions


def _differing(rows: Sequence[Row]) -> list[int]:
    """The slots in which the rows' outfits differ."""
    return [slot for slot, items in enumerate(zip(*(row.items for row in rows), strict=True)) if len(set(items)) > 1]


def _fault(rows: Sequence[Row], answers: Sequence[str], size: int, usual: int) -> tuple[str, str] | None:
    """What is wrong with a question: (found, wanted), or None."""
    if odd := [answer for answer in answers if answer not in ("0", "1")]:
        return f"with the answer {odd[0]!r}", "1 for the liked outfit and 0 for the others"
    if answers.count("1") != 1:
        return f"with {answers.count('1')} answers", "exactly one row with answer 1"
    if size != usual or size < 2:
        return f"of {size} candidates", f"{max(usual, 2)} candidates, as the others have"
    if len({(row.user, row.split) for row in rows}) > 1:
        return "of several users or splits", "one user and one split a question"
    differing = _differing(rows)
    if len(differing) != 1:
        return f"whose candidates differ in {len(differing)} slots", "candidates that differ in one slot"
    candidates = [row.items[differing[0]] for row in rows]
    if ABSENT in candidates or len(set(candidates)) != len(candidates):
        return "with an empty or repeated candidate", "different items in the blank slot"
    return None
