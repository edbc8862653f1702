"""The pen the wardrobe world is drawn with: polygons in the unit square, a pose, layers, and clean downscaling.

A garment lives in a unit square (x right, y down). A `Pose` says where that square lies in the picture; every shape is
a polygon, so a pose moves points and nothing else. A `Pen` paints the picture, `stencil` only where a region is.
Both work several times finer than the picture and reduce by whole blocks: a pixel depends on its own block only.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

Point = tuple[float, float]
Path = Sequence[Point]
Color = tuple[int, int, int]

LINE = 0.012
"""Width of an outline, in garment units."""
SHADOW = (0.014, 0.022)
"""How far a garment's shadow on the ground lies from it, in garment units."""
SHADOW_TONE = 0.88
"""The shadow's brightness relative to the ground."""


@dataclass(frozen=True)
class Pose:
    """How a garment lies in its picture: what makes two photos of one garment differ.

    Attributes:
        shift: (x, y) of the garment's center from the picture's, in shares of the side, about -0.03..0.03.
        scale: size of the garment's unit square in shares of the side, about 0.9..1.
        angle: degrees, clockwise.
        ground: the background's color.
        light: brightness of the garment, about 0.95..1.
        stretch: (x, y) how much wider and taller than drawn; a category's own (see garments.py).
        raised: how far the garment is moved up, in garment units; a category's own.
    """

    shift: Point = (0.0, 0.0)
    scale: float = 0.96
    angle: float = 0.0
    ground: Color = (240, 240, 238)
    light: float = 1.0
    stretch: Point = (1.0, 1.0)
    raised: float = 0.0

    def place(self, points: Path, side: int) -> list[Point]:
        """Points in garment units -> points in a picture of ``side`` pixels."""
        cos, sin = math.cos(math.radians(self.angle)) * self.scale, math.sin(math.radians(self.angle)) * self.scale
        x_0, y_0 = self.shift[0] + 0.5, self.shift[1] + 0.5
        across = [self.stretch[0] * (x - 0.5) for x, _ in points]
        down = [self.stretch[1] * (y - 0.5 - self.raised) for _, y in points]
        return [
            (side * (x_0 + cos * x - sin * y), side * (y_0 + sin * x + cos * y))
            for x, y in zip(across, down, strict=True)
        ]


def supersampling(size: int) -> int:
    """How many times finer than the picture the drawing is: 4 at 64 pixels and below, 2 above 96."""
    return 4 if size <= 64 else 3 if size <= 96 else 2


def mirror(points: Path) -> list[Point]:
    """The other side of a garment that is symmetric about x = 0.5."""
    return [(1.0 - x, y) for x, y in points]


def symmetric(points: Path) -> list[Point]:
    """A closed outline from its left half, given from top to bottom."""
    return [*points, *reversed(mirror(points))]


def smooth(points: Path, *, closed: bool = False, steps: int = 6) -> list[Point]:
    """A Catmull-Rom curve through the points."""
    knots = np.array([points[-1], *points, *points[:2]] if closed else [points[0], *points, points[-1]])  # (K, 2)
    before, start, end, after = (knots[offset : len(knots) - 3 + offset, None] for offset in range(4))  # (K-3, 1, 2)
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]  # (1, T, 1)
    curve = start + 0.5 * t * (
        end - before + t * (2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) + after - before))
    )  # (K-3, T, 2)
    path = [(float(x), float(y)) for x, y in curve.reshape(-1, 2)]
    return path if closed else [*path, points[-1]]


def ellipse(center: Point, radius: float, *, ratio: float = 1.0, points: int = 20) -> list[Point]:
    """An ellipse as a polygon; ``ratio`` is its height over its width."""
    turns = [2 * math.pi * index / points for index in range(points)]
    return [(center[0] + radius * math.cos(turn), center[1] + ratio * radius * math.sin(turn)) for turn in turns]


def box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """An upright rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def star(center: Point, radius: float, *, tips: int = 5, inner: float = 0.42) -> list[Point]:
    """A star that stands on two tips."""
    turns = [math.pi * (index / tips - 0.5) for index in range(2 * tips)]
    radii = [radius * (inner if index % 2 else 1.0) for index in range(2 * tips)]
    return [
        (center[0] + size * math.cos(turn), center[1] + size * math.sin(turn))
        for size, turn in zip(radii, turns, strict=True)
    ]


def tint(color: Color, factor: float) -> Color:
    """Darker (factor below 1) or lighter (above 1: mixed with white)."""
    if factor <= 1:
        red, green, blue = (round(channel * factor) for channel in color)
    else:
        red, green, blue = (round(255 - (255 - channel) * (2 - factor)) for channel in color)
    return red, green, blue


class Pen:
    """Paints one garment. Shapes lie in garment units; later shapes cover earlier ones."""

    def __init__(self, size: int, pose: Pose) -> None:
        self._size, self._pose, self._factor = size, pose, supersampling(size)
        self._side = size * self._factor
        self._layer = Image.new("RGBA", (self._side, self._side))
        self._shade = Image.new("L", (self._side, self._side), 255)
        self._draw = ImageDraw.Draw(self._layer)
        self._shade_draw = ImageDraw.Draw(self._shade)

    def fill(self, points: Path, color: Color, *, outline: Color | None = None) -> None:
        """A polygon, with an outline of LINE's width if asked for."""
        self._draw.polygon(self._pose.place(points, self._side), fill=(*color, 255))
        if outline is not None:
            self.stroke([*points, points[0], points[1]], outline)

    def stroke(self, points: Path, color: Color, *, width: float = LINE) -> None:
        """A line with round joints."""
        pixels = max(1, round(width * self._pose.scale * self._side))
        self._draw.line(self._pose.place(points, self._side), fill=(*color, 255), width=pixels, joint="curve")

    def shade(self, points: Path, tone: float = 0.9) -> None:
        """Darken what the layer shows inside a polygon, without covering it."""
        self._shade_draw.polygon(self._pose.place(points, self._side), fill=round(255 * tone))

    @contextmanager
    def inside(self, points: Path) -> Iterator[None]:
        """What is painted meanwhile shows inside the polygon only."""
        before = self._layer.copy()
        try:
            yield
        finally:
            stencil = Image.new("L", before.size)
            ImageDraw.Draw(stencil).polygon(self._pose.place(points, self._side), fill=255)
            self._layer = Image.composite(self._layer, before, stencil)
            self._draw = ImageDraw.Draw(self._layer)

    def picture(self) -> Image.Image:
        """The garment on its ground, at the picture's size."""
        alpha = self._layer.getchannel("A")
        shade = self._shade.point([min(255, round(tone * self._pose.light)) for tone in range(256)])
        colors = ImageChops.multiply(self._layer.convert("RGB"), Image.merge("RGB", (shade, shade, shade)))
        ground = Image.new("RGB", alpha.size, self._pose.ground)
        ground.paste(tint(self._pose.ground, SHADOW_TONE), self._shadow_shift(), self._shadow_stencil(alpha))
        ground.paste(colors, (0, 0), alpha)
        return ground.reduce(self._factor)

    def silhouette(self) -> NDArray[np.bool_]:
        """(size, size) True where the garment covers any of a pixel."""
        alpha = np.asarray(self._layer.getchannel("A"))
        return _any_in_block(alpha, self._factor)

    def covered(self) -> NDArray[np.bool_]:
        """(size, size) True where the garment covers the whole pixel."""
        alpha = np.asarray(self._layer.getchannel("A"))
        return ~_any_in_block(255 - alpha, self._factor)

    def _shadow_shift(self) -> tuple[int, int]:
        return (round(SHADOW[0] * self._side), round(SHADOW[1] * self._side))

    def _shadow_stencil(self, alpha: Image.Image) -> Image.Image:
        right, down = self._shadow_shift()
        return alpha.crop((0, 0, self._side - right, self._side - down))


def stencil(shapes: Sequence[Path], size: int, pose: Pose, *, shadow: bool = False) -> NDArray[np.bool_]:
    """(size, size) True where painting inside the shapes can touch a pixel, or with ``shadow`` darken the ground."""
    side = size * supersampling(size)
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    shift = (round(SHADOW[0] * side), round(SHADOW[1] * side))
    for shape in shapes:
        points = pose.place(shape, side)
        for right, down in ((0, 0), shift) if shadow else ((0, 0),):
            moved = [(x + right, y + down) for x, y in points]
            draw.polygon(moved, fill=255)
    return _any_in_block(np.asarray(image), side // size)


def _any_in_block(layer: NDArray[np.uint8], factor: int) -> NDArray[np.bool_]:
    size = len(layer) // factor
    return np.asarray((layer.reshape(size, factor, size, factor) > 0).any(axis=(1, 3)))
