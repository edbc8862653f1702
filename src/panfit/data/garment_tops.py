"""Tops, drawn from the front: collar, shoulders, sleeves, chest logo, patterned band, hem, color."""

from panfit.data.garment_parts import (
    Cloth,
    Factor,
    Side,
    both_sides,
    bow,
    checks,
    dots,
    flower,
    heart,
    nothing,
    seam,
    stripes,
    zigzag,
)
from panfit.data.pen import LINE, Path, Pen, box, ellipse, mirror, smooth, star, symmetric, tint

SIDE = [
    (0.41, 0.125), (0.33, 0.15), (0.265, 0.19), (0.272, 0.29), (0.292, 0.4),
    (0.308, 0.55), (0.305, 0.68), (0.295, 0.79),
]  # fmt: skip
TORSO = symmetric(SIDE)
BAND = (0.26, 0.515, 0.74, 0.725)
"""The patterned band's bounds: left, top, right, bottom."""
CHEST = (0.5, 0.385)


def torso(pen: Pen, cloth: Cloth) -> None:
    """The body, onto which everything but the sleeves is painted."""
    pen.fill(TORSO, cloth.base, outline=cloth.line)
    pen.shade([(0.262, 0.19), (0.305, 0.4), (0.33, 0.6), (0.32, 0.79), (0.28, 0.79), (0.29, 0.4)])
    pen.shade([(0.738, 0.19), (0.695, 0.4), (0.655, 0.6), (0.665, 0.79), (0.72, 0.79), (0.71, 0.4)], 0.84)


def _neckline(pen: Pen, cloth: Cloth, opening: Path) -> None:
    pen.fill(opening, cloth.dark)
    pen.stroke([*opening, opening[0], opening[1]], cloth.line, width=0.5 * LINE)


def _crew(pen: Pen, cloth: Cloth) -> None:
    rim = smooth([(0.395, 0.115), (0.42, 0.185), (0.5, 0.22), (0.58, 0.185), (0.605, 0.115)])
    pen.fill(rim, cloth.ink)
    _neckline(pen, cloth, smooth([(0.415, 0.115), (0.438, 0.165), (0.5, 0.19), (0.562, 0.165), (0.585, 0.115)]))


def _v_neck(pen: Pen, cloth: Cloth) -> None:
    pen.fill([(0.39, 0.11), (0.5, 0.265), (0.61, 0.11)], cloth.accent)
    _neckline(pen, cloth, [(0.418, 0.11), (0.5, 0.225), (0.582, 0.11)])


def _shirt_collar(pen: Pen, cloth: Cloth) -> None:
    _neckline(pen, cloth, [(0.425, 0.09), (0.5, 0.175), (0.575, 0.09)])
    flap = [(0.425, 0.07), (0.5, 0.165), (0.445, 0.255), (0.375, 0.13)]
    for side in (flap, mirror(flap)):
        pen.fill(side, tint(cloth.base, 1.3), outline=cloth.line)
    pen.fill(ellipse((0.5, 0.235), 0.015, points=10), cloth.ink)


def _turtleneck(pen: Pen, cloth: Cloth) -> None:
    tube = smooth([(0.405, 0.2), (0.42, 0.13), (0.425, 0.04)]) + smooth([(0.575, 0.04), (0.58, 0.13), (0.595, 0.2)])
    pen.fill(tube, tint(cloth.base, 0.9), outline=cloth.line)
    for x in (0.455, 0.485, 0.515, 0.545):
        seam(pen, [(x, 0.055), (x, 0.19)], cloth)
    pen.stroke([(0.425, 0.1), (0.575, 0.1)], cloth.line)


def _pussy_bow(pen: Pen, cloth: Cloth) -> None:
    _neckline(pen, cloth, smooth([(0.43, 0.115), (0.455, 0.15), (0.5, 0.165), (0.545, 0.15), (0.57, 0.115)]))
    for tail in ([(0.5, 0.18), (0.45, 0.265), (0.485, 0.27)], [(0.5, 0.18), (0.55, 0.265), (0.515, 0.27)]):
        pen.fill(tail, tint(cloth.accent, 0.85))
    bow(pen, (0.5, 0.175), 0.17, cloth.accent)


def _arm(pen: Pen, cloth: Cloth, outline: Path, cuff: Path, fold: Path) -> None:
    pen.fill(outline, cloth.base, outline=cloth.line)
    pen.fill(cuff, cloth.ink, outline=cloth.line)
    pen.shade(fold, 0.9)


@both_sides
def _short(pen: Pen, cloth: Cloth, side: Side) -> None:
    outline = [*smooth([(0.275, 0.185), (0.2, 0.24), (0.13, 0.37)]), (0.225, 0.425), (0.3, 0.36)]
    cuff = [(0.142, 0.35), (0.13, 0.375), (0.223, 0.428), (0.236, 0.402)]
    _arm(pen, cloth, side(outline), side(cuff), side([(0.22, 0.4), (0.25, 0.3), (0.29, 0.3), (0.28, 0.38)]))


@both_sides
def _long(pen: Pen, cloth: Cloth, side: Side) -> None:
    outline = [
        *smooth([(0.275, 0.185), (0.19, 0.27), (0.145, 0.45), (0.105, 0.71)]),
        (0.19, 0.73),
        (0.25, 0.52),
        (0.3, 0.38),
    ]
    cuff = [(0.113, 0.66), (0.103, 0.715), (0.19, 0.735), (0.205, 0.682)]
    _arm(
        pen,
        cloth,
        side(outline),
        side(cuff),
        side([(0.19, 0.68), (0.215, 0.5), (0.28, 0.3), (0.28, 0.42), (0.235, 0.54)]),
    )


@both_sides
def _puff(pen: Pen, cloth: Cloth, side: Side) -> None:
    outline = [
        *smooth([(0.28, 0.18), (0.195, 0.18), (0.115, 0.26), (0.105, 0.36), (0.17, 0.42)]),
        (0.235, 0.43),
        (0.3, 0.36),
    ]
    cuff = [(0.14, 0.395), (0.15, 0.44), (0.235, 0.46), (0.25, 0.415)]
    _arm(pen, cloth, side(outline), side(cuff), side([(0.2, 0.41), (0.2, 0.3), (0.28, 0.22), (0.28, 0.38)]))
    for fold in ([(0.165, 0.39), (0.15, 0.3)], [(0.2, 0.4), (0.21, 0.31)]):
        seam(pen, side(fold), cloth)


@both_sides
def _bell(pen: Pen, cloth: Cloth, side: Side) -> None:
    outline = [
        *smooth([(0.275, 0.185), (0.2, 0.27), (0.165, 0.42), (0.125, 0.56), (0.055, 0.69)]),
        *smooth([(0.11, 0.735), (0.17, 0.725), (0.225, 0.745)]),
        *smooth([(0.245, 0.6), (0.262, 0.48), (0.3, 0.37)]),
    ]
    cuff = [(0.12, 0.57), (0.112, 0.6), (0.238, 0.615), (0.242, 0.585)]
    _arm(
        pen,
        cloth,
        side(outline),
        side(cuff),
        side([(0.2, 0.73), (0.22, 0.5), (0.28, 0.3), (0.28, 0.42), (0.235, 0.74)]),
    )


@both_sides
def _strapless_rim(pen: Pen, cloth: Cloth, side: Side) -> None:
    pen.stroke(side([(0.262, 0.2), (0.268, 0.3), (0.286, 0.39)]), cloth.ink, width=2 * LINE)


@both_sides
def _shoulder_patch(pen: Pen, cloth: Cloth, side: Side) -> None:
    pen.fill(side([(0.35, 0.15), (0.283, 0.19), (0.285, 0.27), (0.318, 0.285), (0.348, 0.262)]), cloth.accent)


@both_sides
def _epaulette(pen: Pen, cloth: Cloth, side: Side) -> None:
    pen.fill(side([(0.284, 0.205), (0.348, 0.175), (0.352, 0.215), (0.29, 0.245)]), cloth.ink)
    pen.fill(side(ellipse((0.334, 0.203), 0.011, points=8)), cloth.accent)


@both_sides
def _studs(pen: Pen, cloth: Cloth, side: Side) -> None:
    for x, y in ((0.297, 0.2), (0.34, 0.18), (0.297, 0.25), (0.34, 0.23), (0.318, 0.275)):
        pen.fill(side(ellipse((x, y), 0.013, points=8)), cloth.ink)


def _star(pen: Pen, cloth: Cloth) -> None:
    pen.fill(star(CHEST, 0.095), cloth.ink)


def _heart(pen: Pen, cloth: Cloth) -> None:
    pen.fill(heart(CHEST, 0.085), cloth.accent)


def _bolt(pen: Pen, cloth: Cloth) -> None:
    x, y = CHEST
    path = [
        (0.025, -0.09),
        (-0.06, 0.015),
        (-0.008, 0.015),
        (-0.03, 0.09),
        (0.06, -0.025),
        (0.008, -0.025),
        (0.055, -0.09),
    ]
    pen.fill([(x + dx, y + dy) for dx, dy in path], cloth.ink)


def _flower(pen: Pen, cloth: Cloth) -> None:
    flower(pen, CHEST, 0.09, cloth.ink, cloth.accent)


def _striped(pen: Pen, cloth: Cloth) -> None:
    with pen.inside(_inner_torso()):
        stripes(pen, cloth.ink, BAND, count=3, share=0.5)


def _dotted(pen: Pen, cloth: Cloth) -> None:
    with pen.inside(_inner_torso()):
        dots(pen, cloth.ink, (0.3, BAND[1], 0.7, BAND[3]), rows=3, radius=0.024)


def _checked(pen: Pen, cloth: Cloth) -> None:
    with pen.inside(_inner_torso()):
        pen.fill(box(*BAND), cloth.ink)
        checks(pen, cloth.accent, BAND, rows=3)


def _zigzagged(pen: Pen, cloth: Cloth) -> None:
    with pen.inside(_inner_torso()):
        zigzag(pen, cloth.accent, (0.26, 0.515, 0.74, 0.725), rows=2, teeth=12)


def _inner_torso() -> Path:
    return symmetric([(x + 0.5 * LINE, y) for x, y in SIDE])


def _straight(pen: Pen, cloth: Cloth) -> None:
    edge = symmetric([(0.295, 0.785), (0.297, 0.86)])
    pen.fill(edge, cloth.base)
    pen.stroke([(0.295, 0.785), (0.297, 0.86), (0.703, 0.86), (0.705, 0.785)], cloth.line)
    seam(pen, [(0.302, 0.83), (0.698, 0.83)], cloth)


def _ribbed(pen: Pen, cloth: Cloth) -> None:
    pen.fill(symmetric([(0.302, 0.79), (0.315, 0.88)]), cloth.ink, outline=cloth.line)
    for index in range(1, 11):
        x = 0.31 + 0.38 * index / 11
        pen.stroke([(x, 0.8), (x, 0.87)], cloth.line, width=0.7 * LINE)


def _peplum(pen: Pen, cloth: Cloth) -> None:
    left = smooth([(0.297, 0.79), (0.265, 0.83), (0.235, 0.885)])
    wave = smooth(
        [
            (0.235, 0.885),
            (0.3, 0.91),
            (0.36, 0.89),
            (0.43, 0.915),
            (0.5, 0.895),
            (0.57, 0.915),
            (0.64, 0.89),
            (0.7, 0.91),
            (0.765, 0.885),
        ]
    )
    pen.fill([*left, *wave, *reversed(mirror(left))], cloth.accent, outline=tint(cloth.accent, 0.66))
    for x, end in ((0.36, 0.34), (0.43, 0.42), (0.57, 0.58), (0.64, 0.66)):
        pen.stroke([(x, 0.81), (end, 0.875)], tint(cloth.accent, 0.75), width=0.7 * LINE)


def _fringed(pen: Pen, cloth: Cloth) -> None:
    _straight(pen, cloth)
    for index in range(11):
        x = 0.315 + 0.37 * index / 10
        pen.stroke([(x, 0.82), (x, 0.915)], cloth.accent, width=1.5 * LINE)
    pen.stroke([(0.3, 0.82), (0.7, 0.82)], tint(cloth.accent, 0.8), width=1.5 * LINE)


_SLEEVE = [
    (0.29, 0.16), (0.2, 0.16), (0.1, 0.23), (0.085, 0.4), (0.08, 0.6), (0.035, 0.69), (0.06, 0.76), (0.24, 0.765),
    (0.27, 0.56), (0.3, 0.4), (0.29, 0.3),
]  # fmt: skip
_SHOULDER = [(0.356, 0.135), (0.28, 0.175), (0.282, 0.3), (0.356, 0.3)]

FACTORS = (
    Factor(
        "sleeve",
        {"none": _strapless_rim, "short": _short, "long": _long, "puff": _puff, "bell": _bell},
        (_SLEEVE, mirror(_SLEEVE)),
        {"none": "vest", "short": "t-shirt", "long": "longsleeve", "puff": "blouse", "bell": "tunic"},
        shapes=True,
    ),
    Factor(
        "collar",
        {"crew": _crew, "v": _v_neck, "shirt": _shirt_collar, "turtle": _turtleneck, "bow": _pussy_bow},
        (box(0.36, 0.025, 0.64, 0.28),),
        shapes=True,
    ),
    Factor(
        "shoulder",
        {"plain": nothing, "patch": _shoulder_patch, "epaulette": _epaulette, "studs": _studs},
        (_SHOULDER, mirror(_SHOULDER)),
    ),
    Factor(
        "logo",
        {"none": nothing, "star": _star, "heart": _heart, "bolt": _bolt, "flower": _flower},
        (box(0.385, 0.285, 0.615, 0.49),),
    ),
    Factor(
        "pattern",
        {"plain": nothing, "stripes": _striped, "dots": _dotted, "checks": _checked, "zigzag": _zigzagged},
        (box(0.285, 0.505, 0.715, 0.735),),
        {"stripes": "striped", "dots": "dotted", "checks": "checked", "zigzag": "zigzag"},
    ),
    Factor(
        "hem",
        {"straight": _straight, "ribbed": _ribbed, "peplum": _peplum, "fringe": _fringed},
        (box(0.225, 0.77, 0.775, 0.93),),
        shapes=True,
    ),
)
