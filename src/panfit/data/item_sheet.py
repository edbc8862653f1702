"""items.csv and the slots that likes.csv gives them: ids, categories, photos, each checked.

A row that is bad stays known by its id, so that the likes that wear it are not reported as faults of their own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from panfit.data.findings import Findings
from panfit.data.photo_check import photo_faults
from panfit.data.sheet import Sheet
from panfit.errors import Problem
from panfit.outfits import Catalogue, Slot

NOT_SLOTS = ("user_id", "split", "outfit_id", "question", "answer")
"""Columns of likes.csv and its kin that are no slot."""
_PHOTO_REMEDY = "Give the item a photo, or leave it out."


@dataclass
class Items:
    """The rows of items.csv.

    Attributes:
        sheet: the table.
        index_of: item id -> its place in the table (the first, if the id is there twice).
        bad: places that an import has to leave out.
    """

    sheet: Sheet
    index_of: dict[str, int] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)

    def category(self, place: int) -> str:
        return self.sheet.column("category")[place]

    def catalogue(self, categories: tuple[str, ...], image_root: Path) -> tuple[Catalogue, dict[int, int]]:
        """The good rows as a Catalogue, and place in the table -> row of the catalogue."""
        good = [place for place in range(len(self.sheet)) if place not in self.bad]

        def column(name: str) -> list[str]:
            cells = self.sheet.column(name) if name in self.sheet.header else [""] * len(self.sheet)
            return [cells[place] for place in good]

        catalogue = Catalogue(
            item_ids=tuple(column("item_id")),
            item_categories=tuple(column("category")),
            images=tuple(column("image")),
            titles=tuple(title or None for title in column("title")),
            categories=categories,
            image_root=image_root,
        )
        return catalogue, {place: row for row, place in enumerate(good)}


def read_items(sheet: Sheet, findings: Findings) -> Items:
    """Ids: there, and each once."""
    items = Items(sheet)
    for place, (row, item_id) in enumerate(zip(sheet.rows, sheet.column("item_id"), strict=True)):
        if place in sheet.broken:
            items.bad.add(place)
            items.index_of.setdefault(item_id, place)
        elif not item_id:
            items.bad.add(place)
            remedy = "Give every item an id, and every id once."
            findings.bad.append(Problem(sheet.file, "an empty item_id", "an id", remedy, row=row))
        elif item_id in items.index_of:
            items.bad.add(place)
            first = sheet.rows[items.index_of[item_id]]
            found = f"item_id {item_id!r}, which row {first} has already"
            findings.bad.append(Problem(sheet.file, found, "every id once", "Remove one of the two rows.", row=row))
        else:
            items.index_of[item_id] = place
    return items


def find_slots(sheet: Sheet, items: Items, findings: Findings, *, by_name: bool = False) -> tuple[Slot, ...]:
    """The slots that the columns of likes.csv are: named like a category, with or without a number behind.

    A column of another name is a slot if all its items share one category, unless ``by_name``. A name that comes twice
    ("top,top") gets a number ("top", "top2").
    """
    categories = {items.category(place) for place in items.index_of.values()}
    slots: list[Slot] = []
    for index, column in enumerate(sheet.header):
        if column in NOT_SLOTS:
            continue
        stem = re.sub(r"[ ._-]?\d+$", "", column)
        worn = {items.category(items.index_of[cell]) for cell in sheet.columns[index] if cell in items.index_of}
        category = column if column in categories else stem if stem in categories else None
        if category is None and len(worn) == 1 and not by_name:
            (category,) = worn
        if not category:
            found = f"a column {column!r}" + (
                f" with items of {_some(sorted(worn))}" if worn else " without known items"
            )
            wanted = (
                f"{', '.join(NOT_SLOTS[:3])}, or the name of a category ({_some(sorted(filter(None, categories)))})"
            )
            remedy = "Rename the column to the category of its items, or remove it."
            findings.fatal.append(Problem(sheet.file, found, wanted, remedy, row=1))
        else:
            taken = {slot.name for slot in slots}
            names = [column, *(f"{column}{number}" for number in range(2, len(sheet.header) + 2))]
            slots.append(Slot(next(name for name in names if name not in taken), category))
    if len(slots) < 2 and not findings.fatal:
        found = f"{len(slots)} slot columns" if len(slots) != 1 else f"one slot column ({slots[0].name})"
        remedy = "Give one column for each item of an outfit."
        findings.fatal.append(Problem(sheet.file, found, "at least two, such as top, bottom, shoe", remedy, row=1))
    return tuple(slots)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + ", ..." * (len(names) > 8)


def check_items(items: Items, slots: tuple[Slot, ...], image_root: Path, findings: Findings) -> None:
    """Categories that a slot has, and photos that can be opened; what has neither is bad."""
    sheet = items.sheet
    wanted = {slot.category for slot in slots}
    to_open: list[int] = []
    cells = zip(sheet.rows, sheet.column("category"), sheet.column("image"), strict=True)
    for place, (row, category, image) in enumerate(cells):
        if place in items.bad:
            continue
        problem = None
        if slots and category not in wanted:
            found = f"category {category!r}" if category else "an empty category"
            remedy = "Mend the category, or leave the item out; likes.csv has no column for such items."
            problem = Problem(sheet.file, found, f"one of {_some(sorted(wanted))}", remedy, row=row)
        elif not image:
            problem = Problem(sheet.file, "an empty image", "the path of a photo", _PHOTO_REMEDY, row=row)
        if problem is None:
            to_open.append(place)
        else:
            items.bad.add(place)
            findings.bad.append(problem)
    images = sheet.column("image")
    for index, (found, needed, remedy) in photo_faults(
        image_root, (images[place] for place in to_open), thorough=False
    ):
        place = to_open[index]
        items.bad.add(place)
        findings.bad.append(Problem(sheet.file, found, needed, remedy, row=sheet.rows[place]))
