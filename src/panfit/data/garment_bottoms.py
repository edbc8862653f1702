"""Bottoms, drawn from the front: waist, belt, pockets, texture of the thighs, cut (trousers and skirts), color."""

from panfit.data.garment_parts import (
    CREAM,
    GOLD,
    LEATHER,
    Cloth,
    Factor,
    Side,
    both_sides,
    bow,
    buckle,
    checks,
    dots,
    nothing,
    seam,
    stripes,
)
from panfit.data.pen import LINE, Path, Pen, box, ellipse, mirror, smooth, symmetric, tint

HIP = [(0.352, 0.135), (0.335, 0.2), (0.31, 0.3), (0.296, 0.4), (0.292, 0.465)]
HIPS = symmetric(HIP)
THIGHS = (0.27, 0.325, 0.73, 0.44)
"""The texture's bounds: left, top, right, bottom."""


def hips(pen: Pen, cloth: Cloth) -> None:
    """The body: from the waist to the top of the legs."""
    pen.fill(HIPS, cloth.base, outline=cloth.line)
    pen.fill(box(0.302, 0.44, 0.698, 0.48), cloth.base)
    pen.shade(
        [(0.648, 0.135), (0.665, 0.2), (0.69, 0.3), (0.708, 0.465), (0.66, 0.465), (0.635, 0.3), (0.62, 0.135)], 0.87
    )


def _band(pen: Pen, cloth: Cloth) -> None:
    pen.fill(symmetric([(0.352, 0.07), (0.35, 0.135)]), tint(cloth.base, 0.9), outline=cloth.line)
    pen.fill(ellipse((0.5, 0.103), 0.019, points=12), GOLD)


def _elastic(pen: Pen, cloth: Cloth) -> None:
    pen.fill(symmetric([(0.347, 0.065), (0.35, 0.135)]), cloth.ink, outline=cloth.line)
    for index in range(1, 10):
        x = 0.35 + 0.3 * index / 10
        pen.stroke([(x, 0.072), (x, 0.13)], cloth.line, width=0.8 * LINE)


def _paperbag(pen: Pen, cloth: Cloth) -> None:
    top = smooth(
        [
            (0.3, 0.04),
            (0.35, 0.06),
            (0.4, 0.03),
            (0.45, 0.06),
            (0.5, 0.03),
            (0.55, 0.06),
            (0.6, 0.03),
            (0.65, 0.06),
            (0.7, 0.04),
        ]
    )
    pen.fill([*top, (0.65, 0.135), (0.35, 0.135)], tint(cloth.base, 1.2), outline=cloth.line)
    for x in (0.4, 0.45, 0.5, 0.55, 0.6):
        seam(pen, [(0.5 + 1.12 * (x - 0.5), 0.065), (x, 0.13)], cloth)


def _drawstring(pen: Pen, cloth: Cloth) -> None:
    pen.fill(symmetric([(0.35, 0.07), (0.35, 0.135)]), cloth.accent, outline=tint(cloth.accent, 0.66))
    bow(pen, (0.5, 0.098), 0.11, CREAM)


def _thin_belt(pen: Pen, cloth: Cloth) -> None:
    pen.fill(symmetric([(0.35, 0.155), (0.344, 0.19)]), cloth.ink)
    buckle(pen, (0.47, 0.152, 0.53, 0.193))


def _wide_belt(pen: Pen, cloth: Cloth) -> None:
    pen.fill(symmetric([(0.346, 0.15), (0.336, 0.205)]), LEATHER, outline=tint(LEATHER, 0.6))
    buckle(pen, (0.455, 0.147, 0.545, 0.208))


def _chain(pen: Pen, cloth: Cloth) -> None:
    for index in range(9):
        x = 0.36 + 0.28 * index / 8
        y = 0.168 + 0.02 * (1 - ((x - 0.5) / 0.14) ** 2)
        pen.fill(ellipse((x, y), 0.02, points=10), GOLD if index % 2 else CREAM, outline=tint(GOLD, 0.4))


def _sash(pen: Pen, cloth: Cloth) -> None:
    pen.fill(symmetric([(0.346, 0.155), (0.338, 0.2)]), cloth.accent)
    bow(pen, (0.41, 0.177), 0.085, tint(cloth.accent, 0.9))


@both_sides
def _slant_pocket(pen: Pen, cloth: Cloth, side: Side) -> None:
    pen.stroke(side(smooth([(0.435, 0.228), (0.42, 0.265), (0.345, 0.295)])), cloth.ink, width=1.5 * LINE)


@both_sides
def _patch_pocket(pen: Pen, cloth: Cloth, side: Side) -> None:
    pen.fill(side([(0.345, 0.225), (0.455, 0.225), (0.455, 0.285), (0.4, 0.308), (0.345, 0.285)]), cloth.accent)
    pen.fill(side(box(0.345, 0.225, 0.455, 0.243)), tint(cloth.accent, 0.78))


@both_sides
def _zip_pocket(pen: Pen, cloth: Cloth, side: Side) -> None:
    pen.stroke(side([(0.355, 0.245), (0.455, 0.245)]), cloth.ink, width=2.2 * LINE)
    pen.fill(side(box(0.43, 0.25, 0.455, 0.295)), cloth.accent)


def _buttons(pen: Pen, cloth: Cloth) -> None:
    for x in (0.455, 0.545):
        for y in (0.235, 0.267, 0.299):
            pen.fill(ellipse((x, y), 0.017, points=10), cloth.ink)


def _inside() -> Path:
    return symmetric([(x + 0.6 * LINE, y) for x, y in HIP])


def _striped(pen: Pen, cloth: Cloth) -> None:
    with pen.inside(_inside()):
        stripes(pen, cloth.ink, THIGHS, count=3, share=0.5)


def _dotted(pen: Pen, cloth: Cloth) -> None:
    with pen.inside(_inside()):
        dots(pen, cloth.ink, THIGHS, rows=2, radius=0.019)


def _checked(pen: Pen, cloth: Cloth) -> None:
    with pen.inside(_inside()):
        pen.fill(box(*THIGHS), cloth.accent)
        checks(pen, cloth.ink, THIGHS, rows=2)


@both_sides
def _ripped(pen: Pen, cloth: Cloth, side: Side) -> None:
    pen.fill(side([(0.325, 0.345), (0.46, 0.338), (0.45, 0.42), (0.335, 0.425)]), tint(cloth.base, 0.4))
    for y in (0.36, 0.383, 0.406):
        pen.stroke(side([(0.322, y), (0.462, y - 0.005)]), CREAM, width=0.9 * LINE)


def _legs(pen: Pen, cloth: Cloth, left_leg: Path, cuff: Path) -> None:
    middle = len(left_leg) // 2  # the points before it run down the outer side, the others up the inner side
    inner, outer = left_leg[middle:], mirror(left_leg[:middle])
    for leg, end in ((left_leg, cuff), (mirror(left_leg), mirror(cuff))):
        pen.fill(leg, cloth.base, outline=cloth.line)
        pen.fill(end, cloth.ink, outline=cloth.line)
    for edge in (inner, outer):
        pen.shade([*edge, *((x - 0.05, y) for x, y in reversed(edge))], 0.87)
    pen.fill(box(0.3, 0.45, 0.7, 0.472), cloth.base)


def _shorts(pen: Pen, cloth: Cloth) -> None:
    _legs(
        pen,
        cloth,
        [(0.292, 0.465), (0.275, 0.62), (0.472, 0.63), (0.498, 0.465)],
        [(0.278, 0.595), (0.273, 0.63), (0.472, 0.64), (0.477, 0.605)],
    )


def _slim(pen: Pen, cloth: Cloth) -> None:
    _legs(
        pen,
        cloth,
        [(0.292, 0.465), (0.298, 0.66), (0.325, 0.93), (0.432, 0.93), (0.46, 0.68), (0.498, 0.465)],
        [(0.322, 0.9), (0.325, 0.945), (0.431, 0.945), (0.435, 0.9)],
    )


def _flared(pen: Pen, cloth: Cloth) -> None:
    _legs(
        pen,
        cloth,
        [
            (0.292, 0.465),
            (0.295, 0.62),
            (0.275, 0.78),
            (0.2, 0.935),
            (0.475, 0.935),
            (0.468, 0.8),
            (0.462, 0.7),
            (0.498, 0.465),
        ],
        [(0.207, 0.915), (0.195, 0.945), (0.476, 0.945), (0.475, 0.915)],
    )


def _skirt(pen: Pen, cloth: Cloth, left: Path, trim: float, folds: tuple[float, ...]) -> None:
    bottom = left[-1][1]
    pen.fill(symmetric(left), cloth.base, outline=cloth.line)
    pen.fill(box(0.3, 0.45, 0.7, 0.472), cloth.base)
    spread = 0.5 - left[-1][0]
    for fold in folds:
        x = 0.5 + spread * fold
        pen.shade([(0.5 + 0.19 * fold, 0.475), (x, bottom - trim), (x + 0.22 * spread, bottom - trim)], 0.87)
    pen.fill(symmetric([(left[-1][0], bottom - trim), left[-1]]), cloth.ink, outline=cloth.line)


def _mini_skirt(pen: Pen, cloth: Cloth) -> None:
    _skirt(pen, cloth, smooth([(0.292, 0.465), (0.262, 0.56), (0.225, 0.65)]), 0.035, (-0.75, -0.3, 0.2, 0.65))


def _long_skirt(pen: Pen, cloth: Cloth) -> None:
    _skirt(pen, cloth, smooth([(0.292, 0.465), (0.265, 0.65), (0.2, 0.945)]), 0.04, (-0.75, -0.3, 0.2, 0.65))


FACTORS = (
    Factor(
        "cut",
        {"shorts": _shorts, "slim": _slim, "flared": _flared, "mini": _mini_skirt, "long": _long_skirt},
        (box(0.175, 0.444, 0.825, 0.96),),
        {"shorts": "shorts", "slim": "trousers", "flared": "flares", "mini": "mini skirt", "long": "long skirt"},
        shapes=True,
    ),
    Factor(
        "waist",
        {"band": _band, "elastic": _elastic, "paperbag": _paperbag, "drawstring": _drawstring},
        (box(0.285, 0.015, 0.715, 0.145),),
        shapes=True,
    ),
    Factor(
        "belt",
        {"none": nothing, "thin": _thin_belt, "wide": _wide_belt, "chain": _chain, "sash": _sash},
        (box(0.32, 0.134, 0.68, 0.22),),
        shapes=True,
    ),
    Factor(
        "pocket",
        {"none": nothing, "slant": _slant_pocket, "patch": _patch_pocket, "zip": _zip_pocket, "buttons": _buttons},
        (box(0.33, 0.211, 0.67, 0.322),),
    ),
    Factor(
        "texture",
        {"plain": nothing, "stripes": _striped, "dots": _dotted, "checks": _checked, "rips": _ripped},
        (box(0.28, 0.318, 0.72, 0.445),),
        {"stripes": "striped", "dots": "dotted", "checks": "checked", "rips": "ripped"},
    ),
)
