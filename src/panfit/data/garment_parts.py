"""What all drawn garments share: colors, the Factor (a visible trait, its region, its values), patterns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from panfit.data.pen import LINE, Color, Path, Pen, box, ellipse, mirror, star, tint

CREAM: Color = (250, 245, 232)
NAVY: Color = (38, 44, 74)
GOLD: Color = (233, 185, 73)
LEATHER: Color = (122, 78, 48)


@dataclass(frozen=True)
class Cloth:
    """The colors one garment is painted with: its fabric's, and what stands out on it."""

    base: Color
    ink: Color
    accent: Color

    @property
    def dark(self) -> Color:
        """The inside of a garment and other shadowed fabric."""
        return tint(self.base, 0.74)

    @property
    def line(self) -> Color:
        """Outlines and seams."""
        return tint(self.base, 0.56)


COLORS: Mapping[str, Cloth] = {
    "black": Cloth((66, 68, 80), CREAM, (229, 106, 92)),
    "white": Cloth((246, 243, 236), NAVY, (214, 84, 78)),
    "red": Cloth((208, 66, 66), CREAM, (250, 206, 92)),
    "yellow": Cloth((240, 190, 70), NAVY, (203, 84, 60)),
    "green": Cloth((80, 152, 106), CREAM, (247, 208, 96)),
    "blue": Cloth((66, 112, 184), CREAM, (250, 200, 84)),
    "pink": Cloth((240, 164, 184), NAVY, (190, 58, 96)),
    "brown": Cloth((166, 116, 78), CREAM, (52, 108, 112)),
}

Draw = Callable[[Pen, Cloth], None]
"""Paints one value of one factor."""
Side = Callable[[Path], Path]
"""Puts a shape on the left as drawn, or mirrored on the right."""


@dataclass(frozen=True)
class Factor:
    """A visible trait of a category of garments.

    Attributes:
        name: what it is called.
        values: value name -> how it is painted. A painter stays inside ``region``.
        region: the polygons, in garment units, inside which the value can be seen; () for the whole garment.
        words: value name -> the word a title may use; a value that is not there goes without saying.
        shapes: whether the values differ in outline, and so in the shadow they cast.
    """

    name: str
    values: Mapping[str, Draw]
    region: tuple[Path, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    shapes: bool = False


def nothing(pen: Pen, cloth: Cloth) -> None:
    """The value of a factor that is told by its absence."""


def both_sides(draw: Callable[[Pen, Cloth, Side], None]) -> Draw:
    """Paint a part twice: as drawn, and mirrored."""

    def painted(pen: Pen, cloth: Cloth) -> None:
        draw(pen, cloth, lambda points: points)
        draw(pen, cloth, mirror)

    return painted


def stripes(pen: Pen, color: Color, bounds: tuple[float, float, float, float], *, count: int, share: float) -> None:
    """Horizontal stripes that fill bounds (left, top, right, bottom); ``share`` of the height is painted."""
    left, top, right, bottom = bounds
    pitch = (bottom - top) / count
    for index in range(count):
        middle = top + (index + 0.5) * pitch
        pen.fill(box(left, middle - share * pitch / 2, right, middle + share * pitch / 2), color)


def dots(pen: Pen, color: Color, bounds: tuple[float, float, float, float], *, rows: int, radius: float) -> None:
    """Staggered dots, wholly inside bounds (left, top, right, bottom)."""
    left, top, right, bottom = bounds
    pitch = (bottom - top) / rows
    columns = max(1, round((right - left) / pitch))
    for row in range(rows):
        offset = 0.5 if row % 2 else 0.0
        for column in range(columns + 1):
            x = left + (right - left) * (column + offset) / columns
            if left + radius <= x <= right - radius:
                pen.fill(ellipse((x, top + (row + 0.5) * pitch), radius, points=12), color)


def checks(pen: Pen, color: Color, bounds: tuple[float, float, float, float], *, rows: int) -> None:
    """A checkerboard that fills bounds (left, top, right, bottom)."""
    left, top, right, bottom = bounds
    pitch = (bottom - top) / rows
    columns = round((right - left) / pitch)
    width = (right - left) / columns
    for row in range(rows):
        for column in range(row % 2, columns, 2):
            x, y = left + column * width, top + row * pitch
            pen.fill(box(x, y, x + width, y + pitch), color)


def zigzag(pen: Pen, color: Color, bounds: tuple[float, float, float, float], *, rows: int, teeth: int) -> None:
    """Zigzag lines inside bounds (left, top, right, bottom)."""
    left, top, right, bottom = bounds
    pitch = (bottom - top) / rows
    for row in range(rows):
        middle = top + (row + 0.5) * pitch
        path = [
            (left + (right - left) * index / teeth, middle + (0.26 if index % 2 else -0.26) * pitch)
            for index in range(teeth + 1)
        ]
        pen.stroke(path, color, width=0.3 * pitch)


def buckle(pen: Pen, bounds: tuple[float, float, float, float]) -> None:
    """A golden frame."""
    left, top, right, bottom = bounds
    pen.fill(box(*bounds), GOLD)
    inset = 0.3 * min(right - left, bottom - top)
    pen.fill(box(left + inset, top + inset, right - inset, bottom - inset), tint(GOLD, 0.6))


def bow(pen: Pen, center: tuple[float, float], width: float, color: Color) -> None:
    """Two loops and a knot."""
    x, y = center
    line = tint(color, 0.66)
    for side in (-1, 1):
        loop = [
            (x, y),
            (x + side * 0.5 * width, y - 0.34 * width),
            (x + side * 0.56 * width, y),
            (x + side * 0.5 * width, y + 0.34 * width),
        ]
        pen.fill(loop, color, outline=line)
    pen.fill(ellipse(center, 0.13 * width, points=10), tint(color, 0.82))


def heart(center: tuple[float, float], size: float) -> Path:
    """A heart; ``size`` is half its width."""
    x, y = center
    half = [(0.0, -0.45), (0.25, -0.85), (0.62, -0.95), (0.95, -0.7), (1.0, -0.3), (0.8, 0.1), (0.45, 0.5), (0.0, 0.95)]
    right = [(x + size * dx, y + size * dy) for dx, dy in half]
    left = [(x - size * dx, y + size * dy) for dx, dy in reversed(half[1:-1])]
    return [*right, *left]


def flower(pen: Pen, center: tuple[float, float], size: float, petals: Color, eye: Color) -> None:
    """Five petals and an eye."""
    for x, y in star(center, 0.62 * size, inner=0.62)[::2]:
        pen.fill(ellipse((x, y), 0.42 * size, points=12), petals)
    pen.fill(ellipse(center, 0.3 * size, points=12), eye)


def seam(pen: Pen, points: Path, cloth: Cloth, *, width: float = 0.6 * LINE) -> None:
    """A fine line of stitching."""
    pen.stroke(points, tint(cloth.base, 0.72), width=width)
