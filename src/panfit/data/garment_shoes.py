"""Shoes, drawn from the side, toe to the right: toe, heel, platform, strap, side, sole, color."""

from panfit.data.garment_parts import (
    CREAM,
    GOLD,
    LEATHER,
    NAVY,
    Cloth,
    Factor,
    bow,
    buckle,
    dots,
    nothing,
    stripes,
)
from panfit.data.pen import LINE, Path, Pen, box, ellipse, smooth, star, tint

INSTEP = smooth([(0.41, 0.33), (0.47, 0.4), (0.57, 0.475), (0.66, 0.51), (0.72, 0.53)])
BOTTOM = smooth([(0.72, 0.715), (0.6, 0.71), (0.5, 0.675), (0.38, 0.63), (0.12, 0.615)])
QUARTER = [*smooth([(0.12, 0.615), (0.105, 0.5), (0.135, 0.4), (0.125, 0.31)]), *INSTEP, *BOTTOM]
RUBBER = (206, 158, 102)


def quarter(pen: Pen, cloth: Cloth) -> None:
    """The body: the upper from the heel to where the toe starts."""
    pen.fill(QUARTER, cloth.base, outline=cloth.line)
    pen.fill(smooth(ellipse((0.268, 0.318), 0.145, ratio=0.24), closed=True, steps=2), cloth.dark, outline=cloth.line)
    pen.shade(
        [
            (0.11, 0.56),
            (0.38, 0.57),
            (0.55, 0.64),
            (0.72, 0.655),
            (0.72, 0.715),
            (0.6, 0.71),
            (0.38, 0.63),
            (0.12, 0.615),
        ],
        0.9,
    )


def _vamp(pen: Pen, cloth: Cloth, outline: Path) -> None:
    pen.fill(outline, cloth.base)
    pen.stroke(outline, cloth.line)


ROUND = [(0.715, 0.527), *smooth([(0.76, 0.535), (0.85, 0.56), (0.905, 0.62), (0.91, 0.715)]), (0.715, 0.715)]
POINTED = [(0.715, 0.527), *smooth([(0.78, 0.55), (0.88, 0.62), (0.975, 0.705)]), (0.97, 0.715), (0.715, 0.715)]


def _round(pen: Pen, cloth: Cloth) -> None:
    _vamp(pen, cloth, ROUND)


def _pointed(pen: Pen, cloth: Cloth) -> None:
    _vamp(pen, cloth, POINTED)


def _cap(pen: Pen, cloth: Cloth) -> None:
    _vamp(pen, cloth, ROUND)
    pen.fill(
        [(0.775, 0.54), *smooth([(0.85, 0.56), (0.905, 0.62), (0.91, 0.715)]), (0.755, 0.715)],
        cloth.ink,
        outline=cloth.line,
    )


def _open(pen: Pen, cloth: Cloth) -> None:
    _vamp(
        pen, cloth, [(0.715, 0.527), *smooth([(0.76, 0.535), (0.81, 0.57), (0.83, 0.63), (0.82, 0.68)]), (0.715, 0.69)]
    )
    pen.fill([(0.715, 0.685), (0.9, 0.69), (0.915, 0.715), (0.715, 0.715)], cloth.dark, outline=cloth.line)


def _brogue(pen: Pen, cloth: Cloth) -> None:
    _vamp(pen, cloth, ROUND)
    for x, y in ((0.77, 0.57), (0.775, 0.61), (0.765, 0.65), (0.76, 0.69), (0.83, 0.6), (0.86, 0.65), (0.82, 0.66)):
        pen.fill(ellipse((x, y), 0.014, points=8), cloth.ink)


def _stiletto(pen: Pen, cloth: Cloth) -> None:
    pen.fill(
        [(0.115, 0.665), (0.3, 0.68), (0.19, 0.73), (0.165, 0.885), (0.135, 0.885)], cloth.dark, outline=cloth.line
    )


def _block(pen: Pen, cloth: Cloth) -> None:
    pen.fill([(0.115, 0.665), (0.335, 0.68), (0.32, 0.885), (0.125, 0.885)], LEATHER, outline=tint(LEATHER, 0.66))
    for y in (0.735, 0.785, 0.835):
        pen.stroke([(0.125, y), (0.32, y)], tint(LEATHER, 0.72), width=0.8 * LINE)


def _wedge(pen: Pen, cloth: Cloth) -> None:
    shape = [(0.115, 0.665), (0.36, 0.685), (0.49, 0.73), (0.49, 0.885), (0.125, 0.885)]
    pen.fill(shape, RUBBER, outline=tint(RUBBER, 0.66))
    pen.stroke([(0.12, 0.8), (0.49, 0.8)], tint(RUBBER, 0.75), width=LINE)


def _cone(pen: Pen, cloth: Cloth) -> None:
    pen.fill([(0.115, 0.665), (0.33, 0.68), (0.255, 0.885), (0.185, 0.885)], GOLD, outline=tint(GOLD, 0.66))


def _spool(pen: Pen, cloth: Cloth) -> None:
    left = smooth([(0.12, 0.665), (0.175, 0.745), (0.18, 0.8), (0.12, 0.885)])
    right = smooth([(0.335, 0.885), (0.27, 0.8), (0.27, 0.745), (0.325, 0.68)])
    pen.fill([*left, *right], cloth.accent, outline=tint(cloth.accent, 0.66))


def _thin(pen: Pen, cloth: Cloth) -> None:
    pen.fill([(0.53, 0.738), (0.6, 0.76), (0.94, 0.76), (0.915, 0.8), (0.62, 0.8)], NAVY)


def _slab(pen: Pen, cloth: Cloth) -> None:
    pen.fill(
        [(0.515, 0.738), (0.6, 0.76), (0.938, 0.762), (0.92, 0.885), (0.535, 0.885)], CREAM, outline=tint(CREAM, 0.6)
    )


def _lugs(pen: Pen, cloth: Cloth) -> None:
    pen.fill([(0.515, 0.735), (0.6, 0.757), (0.94, 0.757), (0.93, 0.83), (0.525, 0.83)], NAVY)
    for index in range(5):
        x = 0.525 + 0.0865 * index
        pen.fill(box(x, 0.82, x + 0.056, 0.885), NAVY)


def _layered(pen: Pen, cloth: Cloth) -> None:
    shape = [(0.515, 0.738), (0.6, 0.76), (0.935, 0.762), (0.935, 0.885), (0.525, 0.885)]
    pen.fill(shape, CREAM, outline=tint(CREAM, 0.6))
    with pen.inside(shape):
        stripes(pen, cloth.accent, (0.5, 0.745, 0.95, 0.885), count=3, share=0.5)


def _laces(pen: Pen, cloth: Cloth) -> None:
    for x, y in ((0.45, 0.355), (0.515, 0.415), (0.585, 0.465)):
        pen.stroke([(x, y), (x - 0.075, y + 0.075)], cloth.ink, width=2 * LINE)
    bow(pen, (0.47, 0.35), 0.1, cloth.ink)


def _buckle_strap(pen: Pen, cloth: Cloth) -> None:
    pen.fill([(0.5, 0.39), (0.56, 0.44), (0.475, 0.59), (0.4, 0.55)], LEATHER, outline=tint(LEATHER, 0.66))
    buckle(pen, (0.435, 0.475, 0.515, 0.545))


def _bow(pen: Pen, cloth: Cloth) -> None:
    bow(pen, (0.53, 0.43), 0.2, cloth.accent)


def _tassels(pen: Pen, cloth: Cloth) -> None:
    for x, y in ((0.445, 0.4), (0.5, 0.44), (0.555, 0.48)):
        pen.stroke([(x, y), (x - 0.02, y + 0.1)], cloth.ink, width=2.6 * LINE)
        pen.fill(ellipse((x, y), 0.022, points=10), cloth.accent)


def _three_stripes(pen: Pen, cloth: Cloth) -> None:
    for x in (0.19, 0.25, 0.31):
        pen.fill([(x, 0.41), (x + 0.03, 0.41), (x + 0.005, 0.555), (x - 0.025, 0.555)], cloth.ink)


def _side_star(pen: Pen, cloth: Cloth) -> None:
    pen.fill(star((0.25, 0.48), 0.085), cloth.ink)


def _wave(pen: Pen, cloth: Cloth) -> None:
    shape = smooth([(0.16, 0.47), (0.2, 0.535), (0.27, 0.52), (0.36, 0.42)]) + smooth(
        [(0.36, 0.42), (0.27, 0.565), (0.19, 0.575), (0.16, 0.47)]
    )
    pen.fill(shape, cloth.accent)


def _side_dots(pen: Pen, cloth: Cloth) -> None:
    dots(pen, cloth.ink, (0.16, 0.4, 0.35, 0.57), rows=3, radius=0.022)


WELT = [
    *smooth([(0.105, 0.618), (0.38, 0.633), (0.5, 0.677), (0.6, 0.712), (0.7, 0.717), (0.925, 0.717)]),
    *smooth([(0.94, 0.762), (0.7, 0.762), (0.59, 0.757), (0.48, 0.722), (0.36, 0.677), (0.11, 0.658)]),
]


def _dark_sole(pen: Pen, cloth: Cloth) -> None:
    pen.fill(WELT, NAVY, outline=tint(NAVY, 0.6))


def _cream_sole(pen: Pen, cloth: Cloth) -> None:
    pen.fill(WELT, CREAM, outline=tint(CREAM, 0.6))


def _gum_sole(pen: Pen, cloth: Cloth) -> None:
    pen.fill(WELT, RUBBER, outline=tint(RUBBER, 0.6))


def _bright_sole(pen: Pen, cloth: Cloth) -> None:
    pen.fill(WELT, cloth.accent, outline=tint(cloth.accent, 0.6))


FACTORS = (
    Factor(
        "toe",
        {"round": _round, "pointed": _pointed, "cap": _cap, "open": _open, "brogue": _brogue},
        (box(0.7, 0.51, 0.99, 0.722),),
        {"pointed": "pointed", "cap": "cap-toe", "open": "open-toe", "brogue": "brogue"},
        shapes=True,
    ),
    Factor(
        "heel",
        {"stiletto": _stiletto, "block": _block, "wedge": _wedge, "cone": _cone, "spool": _spool},
        ([(0.1, 0.655), (0.37, 0.67), (0.505, 0.72), (0.505, 0.9), (0.1, 0.9)],),
        {
            "stiletto": "stilettos",
            "block": "block heels",
            "wedge": "wedges",
            "cone": "cone heels",
            "spool": "spool heels",
        },
        shapes=True,
    ),
    Factor(
        "platform",
        {"thin": _thin, "slab": _slab, "lugs": _lugs, "layers": _layered},
        ([(0.507, 0.725), (0.6, 0.75), (0.952, 0.75), (0.952, 0.897), (0.507, 0.897)],),
        shapes=True,
    ),
    Factor(
        "strap",
        {"none": nothing, "laces": _laces, "buckle": _buckle_strap, "bow": _bow, "tassels": _tassels},
        ([(0.365, 0.285), (0.56, 0.285), (0.675, 0.4), (0.66, 0.55), (0.5, 0.605), (0.375, 0.58), (0.365, 0.43)],),
        shapes=True,
    ),
    Factor(
        "side",
        {"plain": nothing, "stripes": _three_stripes, "star": _side_star, "wave": _wave, "dots": _side_dots},
        (box(0.145, 0.385, 0.37, 0.59),),
    ),
    Factor(
        "sole",
        {"dark": _dark_sole, "cream": _cream_sole, "gum": _gum_sole, "bright": _bright_sole},
        (
            [
                (0.09, 0.6),
                (0.39, 0.618),
                (0.51, 0.66),
                (0.61, 0.7),
                (0.955, 0.705),
                (0.955, 0.775),
                (0.58, 0.772),
                (0.47, 0.738),
                (0.35, 0.693),
                (0.09, 0.67),
            ],
        ),
    ),
)
