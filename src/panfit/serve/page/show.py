"""SHOW: items, outfits and scores -> what the templates draw."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from panfit.encode import FloatArray
from panfit.figure import signed
from panfit.ids import OutfitIds
from panfit.outfits import Dataset
from panfit.serve.queries import Ranked


@dataclass(frozen=True)
class Piece:
    """One item as it is shown. ``slot``: where it is worn, or its category; ``photo``: its address without a size."""

    item_id: str
    slot: str
    title: str
    photo: str | None

    @property
    def key(self) -> str:
        """Short, of letters and digits."""
        return key_of(self.item_id)


@dataclass(frozen=True)
class Part:
    """A number as a bar: from the middle, to the right where positive; ``x`` and ``width`` are of a bar of 100."""

    value: float
    x: float
    width: float

    @property
    def text(self) -> str:
        return signed(self.value)

    @property
    def is_good(self) -> bool:
        return self.value >= 0


@dataclass(frozen=True)
class Card:
    """One outfit as it is shown.

    Attributes:
        outfit: item ids in slot order.
        pieces: of the worn slots.
        key: short, of letters and digits, the same for the same outfit.
        score, general, personal: None where nobody was asked.
        opinion: "liked", "disliked", or "" of whoever looks.
    """

    outfit: OutfitIds
    pieces: tuple[Piece, ...]
    key: str
    score: Part | None = None
    general: Part | None = None
    personal: Part | None = None
    opinion: str = ""

    @property
    def items(self) -> list[str]:
        """As an address or a form names them: an empty text where nothing is worn."""
        return [item_id or "" for item_id in self.outfit]

    @property
    def alt(self) -> str:
        """The outfit in words."""
        return ", ".join(piece.title for piece in self.pieces)


def piece(dataset: Dataset, item_id: str, slot: str | None = None) -> Piece:
    """An item of the catalogue."""
    catalogue = dataset.catalogue
    row = catalogue.row_of[item_id]
    category = catalogue.item_categories[row]
    photo = None if catalogue.images[row] is None else f"/v1/photos/{quote(item_id, safe='')}"
    return Piece(item_id, slot or category, catalogue.titles[row] or f"{category} {item_id}", photo)


def card(dataset: Dataset, outfit: OutfitIds, *, opinion: str = "", **parts: Part) -> Card:
    """An outfit of the catalogue."""
    worn = [(slot.name, item_id) for slot, item_id in zip(dataset.slots, outfit, strict=True) if item_id is not None]
    pieces = tuple(piece(dataset, item_id, slot) for slot, item_id in worn)
    return Card(outfit, pieces, key_of(*outfit), opinion=opinion, **parts)


def key_of(*item_ids: str | None) -> str:
    """Of one item or an outfit: short, of letters and digits, so that it can be an element's id."""
    return hashlib.sha256("\0".join(item_id or "" for item_id in item_ids).encode()).hexdigest()[:12]


def cards(dataset: Dataset, ranked: Ranked) -> list[Card]:
    """Outfits with their scores, all bars on one scale."""
    full = full_of(ranked.general, ranked.personal)
    columns = zip(ranked.outfits, ranked.scores, ranked.general, ranked.personal, strict=True)
    return [
        card(dataset, outfit, score=part(y, full), general=part(general, full), personal=part(personal, full))
        for outfit, y, general, personal in columns
    ]


def part(value: float, full: float) -> Part:
    """A number as a bar; ``full``: the absolute value of a bar of full length."""
    width = min(abs(float(value)) / max(full, 1e-9), 1.0) * 50
    return Part(float(value), round(50 - width if value < 0 else 50, 2), round(max(width, 0.5), 2))


def full_of(*values: FloatArray | Iterable[float]) -> float:
    """The largest absolute value of all."""
    return max((abs(float(each)) for column in values for each in column), default=0.0)


def url(path: str, *params: dict[str, Any], **more: Any) -> str:
    """An address with its query; None is left out, a list is repeated."""
    query = [(name, value) for each in (*params, more) for name, value in each.items() if value is not None]
    flat = [(name, each) for name, value in query for each in (value if isinstance(value, list | tuple) else [value])]
    return f"{path}?{urlencode(flat)}" if flat else path
