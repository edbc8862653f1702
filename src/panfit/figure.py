"""FIGURE: explanations -> a picture as the paper's Fig. 3: a row for each user, a column for each garment.

A user's maps lie over the photos; under each photo stands what the garment adds to the score, beside the row the
score's two parts. Pillow alone, with the font it brings.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from panfit.encode import FloatArray
from panfit.explain import NO_ATTENTION, Explanation
from panfit.features.photos import open_photo
from panfit.heat import color_bar, heat_map
from panfit.outfits import Catalogue

Look = Literal["relative", "absolute"]
"""relative: where a user looks more than others; absolute: where he looks."""
Fit = Literal["pad", "squash"]
"""See `ImageConfig.fit`."""

CELL, GAP, MARGIN, SIDE = 260, 22, 36, 218
"""Pixels: a photo's square, between cells, around everything, the column of the users' names and scores."""
HEADER, FOOTER, BAR = 34, 64, 260
INK, SOFT, RULE, TILE = (28, 30, 36), (112, 116, 126), (222, 224, 229), (243, 244, 246)
GOOD, BAD = (38, 128, 96), (150, 62, 110)
"""Colors of what raises a score and of what lowers it; not those of the maps."""
LEAST_REACH, MOST_REACH = 0.4, 2.0
"""log2 of how many times the usual look gets the strongest color: the most that these maps have, but within this.
Maps that all but agree stay pale rather than show noise at full strength; what is ignored has no bound and sets none.
"""
LAST_SHOWN = 0x17F
"""The last character that Pillow's own font can draw; any other becomes a question mark."""


def explanation_picture(
    explanation: Explanation, photos: Mapping[str, Image.Image], *, look: Look = "relative"
) -> Image.Image:
    """An explanation, and under it the one it was asked ``against``, as one picture on white.

    All maps share one scale, so that users can be compared.

    Args:
        explanation: of `panfit.explain.explain_outfit`.
        photos: slot name -> the item's photo, as `photos_of` gives it; a slot without one gets a gray tile.
        look: what the colors tell.

    Returns:
        RGB.
    """
    if not explanation.has_attention:
        look = "relative"  # nothing to color: all maps are even
    rows = [explanation] if explanation.against is None else [explanation, explanation.against]
    worn = list(explanation.by_item)
    values = [{slot: _values(each, slot, look) for slot in worn} for each in rows]
    reach = max(float(maps[slot].max()) for maps in values for slot in worn)
    if look == "relative":
        reach = min(max(reach, LEAST_REACH), MOST_REACH)
    full = max(abs(share) for each in rows for share in each.by_item.values())
    page = _Page(columns=len(worn), rows=len(rows), pairs=len(explanation.by_pair))
    page.title(_title(rows, look), _subtitle(explanation, look))
    for column, slot in enumerate(worn):
        page.photo(column, f"{slot}: {explanation.items[explanation.slots.index(slot)]}", photos.get(slot))
    for row, (each, maps) in enumerate(zip(rows, values, strict=True)):
        page.user(row, each)
        for column, slot in enumerate(worn):
            photo = photos.get(slot)
            heat = None if photo is None else heat_map(photo, maps[slot], reach=reach, size=_fitted(photo))
            page.heat(row, column, heat)
            page.share(row, column, each.by_item[slot], full)
    if explanation.has_attention:
        page.legend(reach, look)
    return page.image


def photos_of(explanation: Explanation, catalogue: Catalogue, fit: Fit) -> dict[str, Image.Image]:
    """Slot -> the photo of the item worn there, as the model saw it; items without a photo are left out.

    Raises:
        DataError: a photo that cannot be used.
    """
    found = {}
    for slot, item_id in zip(explanation.slots, explanation.items, strict=True):
        image = None if item_id is None else catalogue.images[catalogue.row_of[item_id]]
        if image is not None:
            found[slot] = as_seen(open_photo(catalogue.image_root / image, at_least=CELL), fit)
    return found


def as_seen(photo: Image.Image, fit: Fit) -> Image.Image:
    """The photo with the ground that the model saw it on: what its maps lie over."""
    if fit == "squash" or photo.width == photo.height:
        return photo
    side = max(photo.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(photo, ((side - photo.width) // 2, (side - photo.height) // 2))
    return square


def signed(value: float) -> str:
    """A number with its sign and two decimals; nothing is ever -0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def _values(explanation: Explanation, slot: str, look: Look) -> FloatArray:
    """(H, W) what is colored: log2 of a user's look over everybody's, or his look over an even one; none at 0."""
    if look == "relative":
        return explanation.relative_maps[slot]
    spatial = explanation.spatial_maps[slot]  # (H, W)
    return np.asarray(spatial / spatial.mean())


def _title(rows: list[Explanation], look: Look) -> str:
    verb = "looks" if len(rows) == 1 else "look"
    return f"Where {' and '.join(each.user for each in rows)} {verb}{' more than others' * (look == 'relative')}"


def _subtitle(explanation: Explanation, look: Look) -> str:
    if not explanation.has_attention:
        return NO_ATTENTION[0].upper() + NO_ATTENTION[1:] + "."
    if look == "relative":
        return "Red: looks there more than the average user. Blue: less."
    return "The redder, the more."


def _fitted(picture: Image.Image) -> tuple[int, int]:
    """(width, height) as large as a cell allows."""
    scale = CELL / max(picture.size)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


class _Page:
    """The sheet of paper, and where everything goes on it."""

    def __init__(self, *, columns: int, rows: int, pairs: int) -> None:
        self.row_height = max(CELL + 66, 232 + 23 * pairs)
        self.top = MARGIN + 74 + HEADER + CELL + 30  # of the first user's row
        width = 2 * MARGIN + SIDE + columns * CELL + (columns - 1) * GAP
        self.image = Image.new("RGB", (max(width, 760), self.top + rows * self.row_height + FOOTER + MARGIN), "white")
        self.draw = ImageDraw.Draw(self.image)

    def title(self, title: str, subtitle: str) -> None:
        self._text((MARGIN, MARGIN - 6), self._clipped(title, 30, self.image.width - 2 * MARGIN), 30)
        self._text((MARGIN, MARGIN + 36), subtitle, 17, SOFT)

    def photo(self, column: int, caption: str, photo: Image.Image | None) -> None:
        left, top = self._left(column), MARGIN + 74
        self._text((left, top), self._clipped(caption, 17), 17)
        self._paste(photo, left, top + HEADER)

    def user(self, row: int, each: Explanation) -> None:
        top = self.top + row * self.row_height
        self.draw.line([(MARGIN, top - 14), (self.image.width - MARGIN, top - 14)], RULE, 1)
        self._text((MARGIN, top), self._clipped(each.user, 24, SIDE - 12), 24)
        self._text((MARGIN, top + 36), f"score {signed(each.score)}", 19)
        lines = [("personal: the items", each.personal), ("general: the pairs", each.general)]
        lines += [(f"   {m} + {n}", share) for (m, n), share in each.by_pair.items()]
        for place, (name, value) in enumerate(lines):
            color = INK if place < 2 else SOFT
            self._text((MARGIN, top + 70 + 23 * place), self._clipped(name, 15, SIDE - 64), 15, color)
            self._text((MARGIN + SIDE - 22, top + 70 + 23 * place), signed(value), 15, color, anchor="ra")
        self._swap(top + 82 + 23 * len(lines), each)

    def _swap(self, top: int, each: Explanation) -> None:
        if each.swap is None:
            self._text((MARGIN, top), "no single swap raises it", 15, SOFT)
            return
        self._text((MARGIN, top), "best single swap", 15)
        self._text((MARGIN + SIDE - 22, top), signed(each.swap.gain), 15, GOOD, anchor="ra")
        for place, line in enumerate((each.swap.remove, f"to {each.swap.add}")):
            self._text((MARGIN, top + 23 + 21 * place), self._clipped(line, 15, SIDE - 22), 15, SOFT)

    def heat(self, row: int, column: int, picture: Image.Image | None) -> None:
        self._paste(picture, self._left(column), self.top + row * self.row_height)

    def share(self, row: int, column: int, share: float, full: float) -> None:
        left, base = self._left(column), self.top + row * self.row_height + CELL + 10
        color = GOOD if share >= 0 else BAD
        middle = left + CELL // 2
        length = round(abs(share) / max(full, 1e-9) * (CELL // 2 - 62))
        self.draw.rectangle([left, base, left + CELL, base + 18], fill=TILE)
        end = middle + (length if share >= 0 else -length)
        self.draw.rectangle([min(middle, end), base + 3, max(middle, end), base + 15], fill=color)
        self.draw.line([(middle, base), (middle, base + 18)], SOFT, 1)
        self._text((left + CELL - 6, base), signed(share), 15, INK, anchor="ra")

    def legend(self, reach: float, look: Look) -> None:
        left, top = self._left(0), self.image.height - FOOTER - 10
        self.image.paste(color_bar(BAR, 14, scale="both" if look == "relative" else "more"), (left, top))
        if look == "relative":
            marks = [(0.0, f"1/{2**reach:.1f} x or less"), (0.5, "1 x"), (1.0, f"{2**reach:.1f} x")]
            meaning = "times the look of the average user"
        else:
            marks = [(0.0, "0"), (1 / reach, "1 x"), (1.0, f"{reach:.1f} x")]
            meaning = "times an even look at the whole photo"
        for place, mark in marks:
            x = left + round(place * (BAR - 1))
            self.draw.line([(x, top + 14), (x, top + 19)], SOFT, 1)
            self._text((x, top + 22), mark, 15, SOFT, anchor="ma")
        self._text((left + BAR + 46, top - 4), f"Colors: {meaning}.", 15)
        self._text((left + BAR + 46, top + 20), "Bars: what the item adds to this user's score.", 15)

    def _left(self, column: int) -> int:
        return MARGIN + SIDE + column * (CELL + GAP)

    def _paste(self, picture: Image.Image | None, left: int, top: int) -> None:
        """In the middle of its cell; a hairline shows where a white photo ends."""
        if picture is None:
            self.draw.rectangle([left, top, left + CELL - 1, top + CELL - 1], fill=TILE, outline=RULE)
            self._text((left + CELL // 2, top + CELL // 2), "no photo", 16, SOFT, anchor="mm")
            return
        small = picture.resize(_fitted(picture), Image.Resampling.LANCZOS)
        x, y = left + (CELL - small.width) // 2, top + (CELL - small.height) // 2
        self.image.paste(small, (x, y))
        self.draw.rectangle([x, y, x + small.width - 1, y + small.height - 1], outline=RULE)

    def _text(
        self,
        place: tuple[int, int],
        text: str,
        size: int,
        color: tuple[int, int, int] = INK,
        *,
        anchor: str = "la",
    ) -> None:
        known = "".join(letter if ord(letter) <= LAST_SHOWN else "?" for letter in text)
        self.draw.text(place, known, fill=color, font=ImageFont.load_default(size), anchor=anchor)

    def _clipped(self, text: str, size: int, width: int = CELL) -> str:
        """As much of a text as fits."""
        font = ImageFont.load_default(size)
        if font.getlength(text) <= width:
            return text
        while text and font.getlength(text + "...") > width:
            text = text[:-1]
        return text.rstrip() + "..."
