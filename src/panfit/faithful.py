"""FAITHFUL: hide what a map marks; the personal score should change more than when as much is hidden elsewhere.

On a drawn wardrobe, where it is known which pixels are the garment's: a mark never reaches the ground. The photo with
the hidden place goes through trunk, attention, encoders and Eq. 4 again, so nothing is taken from the map but the mark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.bootstrap import interval95, p_value, resampled_means, weighted_mean
from panfit.data.wardrobe_truth import Truth
from panfit.encode import FloatArray, ItemCoder, evaluating, to_device
from panfit.explain import looks, relative_maps
from panfit.features.inputs import ItemInputs
from panfit.heat import upsample
from panfit.model.attention import IdentityAttention
from panfit.model.pan import Pan
from panfit.outfits import BoolArray, IntArray
from panfit.pointing import EVERYWHERE, places_of

Marks = Literal["relative", "absolute", "truth"]
"""By what a place is marked: the user's map over everybody's; his map as it is; what he truly cares about."""
Fill = Literal["mean", "ground"]
"""What is painted over a place: the garment's mean color (its outline stays), or the ground's (a hole)."""
Codes = Literal["binary", "relaxed"]
Photos = NDArray[np.uint8]

MARKS: tuple[Marks, ...] = ("relative", "absolute", "truth")
FILLS: tuple[Fill, ...] = ("mean", "ground")
CODES: tuple[Codes, ...] = ("binary", "relaxed")

PER_CATEGORY = 6
"""Test garments of each category on which places are hidden."""
SHARE = 0.2
"""Of the garment's pixels, how many a map marks."""
DRAWS = 4
"""Places elsewhere that are hidden in turn, for each user and garment."""
RESAMPLES = 2000
"""Of the bootstrap over users."""


@dataclass(frozen=True)
class Mean:
    """A mean over users and garments, its 95 % interval over users, and the p value of its being 0."""

    value: float
    ci95: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class Hidden:
    """|Change| of the personal score (PAN Eq. 4) of a garment worn alone, when part of its photo is hidden.

    Attributes:
        marks, fill, codes: what was hidden under what, and which codes score.
        own: the place that the user's own mark names is hidden.
        elsewhere: as many pixels of the rest of the garment, marked by the user's own map turned and moved.
        another: the places that users of other groups have marked; those of "truth" are not of one size.
        above_elsewhere, above_another: own less the other, paired by user.
        ratio: own / elsewhere.
        hidden_share: of the garment's pixels, how many are hidden; what is true has its own size.
        own_edge, elsewhere_edge: the share of the hidden pixels that lie on the hidden place's edge.
    """

    marks: Marks
    fill: Fill
    codes: Codes
    own: Mean
    elsewhere: Mean
    another: Mean
    above_elsewhere: Mean
    above_another: Mean
    ratio: float
    hidden_share: float
    own_edge: float
    elsewhere_edge: float


def measure_faithfulness(
    model: Pan,
    inputs: ItemInputs,
    truth: Truth,
    pools: Sequence[IntArray],
    rng: np.random.Generator,
    *,
    beta: float = 1.0,
    per_category: int | None = PER_CATEGORY,
    share: float = SHARE,
    draws: int = DRAWS,
    fills: Sequence[Fill] = FILLS,
) -> list[Hidden]:
    """Hide places of garments, for every user.

    Args:
        model: trained on the world's users, from photos, with attention.
        inputs: the world's garments, as photos.
        truth: of the world.
        pools: the garments of each category that may be looked at (`Dataset.split_items`).
        rng: chooses among them, and turns maps.
        beta: of the relaxed codes (decision D7).
        per_category: how many of each category; None: all.
        share: of a garment's pixels that a map marks; below one half.
        draws: places elsewhere, for each user and garment.
        fills: what is painted over them.

    Returns:
        One `Hidden` for each mark, fill and kind of codes.

    Raises:
        ValueError: inputs that are not photos, no attention, a share out of range, or a world of one group.
    """
    if inputs.kind != "images":
        raise ValueError(f"only photos have places to hide, not {inputs.kind}")
    if isinstance(model.attention, IdentityAttention):
        raise ValueError("a model without attention marks nothing")
    if not 0 < share < 0.5:
        raise ValueError(f"share must be between 0 and 0.5, so that as much is left elsewhere; not {share}")
    if len(np.unique(truth.groups)) < 2:
        raise ValueError("a world of one group of users has no other marks to compare with")
    items = np.concatenate([rng.permutation(pool)[:per_category] for pool in pools])  # (N,)
    with evaluating(model):
        eyes = model.user_embeddings(torch.arange(len(truth.groups), device=model.beta.device))  # (M, D)
    spatial = looks(ItemCoder(model, inputs, beta=beta), eyes, items).spatial  # (M, N, H, W)
    experiment = _Experiment(model, inputs, truth, eyes, beta=beta, draws=draws, rng=rng)
    found = []
    for fill in fills:
        for marks in MARKS:
            changes = np.full((3, len(CODES), len(eyes), len(items)), np.nan)  # own, elsewhere, another; ...; M, N
            shapes = np.full((3, len(eyes), len(items)), np.nan)  # hidden share, edges; M, N
            for column, item in enumerate(items.tolist()):
                place = mark(marks, spatial[:, column], truth, item, size=inputs.input_shape[1], share=share)
                if len(place.users):
                    found_here = experiment.hide(item, place, fill)
                    changes[..., place.users, column], shapes[..., place.users, column] = found_here
            found += [_hidden(marks, fill, codes, changes[:, row], shapes) for row, codes in enumerate(CODES)]
    return found


@dataclass(frozen=True, eq=False)
class Place:
    """What is marked on one garment.

    Attributes:
        garment: (h, w) True where the garment is.
        users: (m,) rows of the users who have marked something, at most half of the garment.
        marks: (m, h, w) True where each has; always on the garment.
        grids: (m, H, W) the maps that were marked by, which are turned to mark elsewhere.
    """

    garment: BoolArray
    users: IntArray
    marks: BoolArray
    grids: FloatArray


def mark(marks: Marks, maps: FloatArray, truth: Truth, item: int, *, size: int, share: float) -> Place:
    """The places that all users' maps (M, H, W) mark on a garment, in a photo of ``size`` pixels a side."""
    garment = truth.factor_region(item, EVERYWHERE, size=size)  # (h, w)
    everybody = np.arange(len(maps))
    if marks == "truth":
        places = places_of(truth, everybody, item, size=size) & garment  # (M, h, w)
        height, width = maps.shape[1:]
        grids = places.reshape(len(maps), height, size // height, width, size // width).mean(axis=(2, 4))  # (M, H, W)
        counts = places.sum(axis=(1, 2))  # (M,)
        users = everybody[(counts > 0) & (2 * counts <= garment.sum())]  # (m,)
        return Place(garment, users, places[users], grids[users])
    grids = relative_maps(maps) if marks == "relative" else np.log2(maps)  # (M, H, W)
    count = max(1, round(share * int(garment.sum())))
    return Place(
        garment, everybody, np.stack([strongest(upsample(grid, size), garment, count) for grid in grids]), grids
    )


def strongest(values: FloatArray, allowed: BoolArray, count: int) -> BoolArray:
    """(h, w) values -> (h, w) True at the ``count`` highest of the allowed places; the first of those that tie."""
    order = np.argsort(np.where(allowed, -values, np.inf), axis=None, kind="stable")  # (h * w,)
    found = np.zeros(values.size, dtype=np.bool_)
    found[order[:count]] = True
    return found.reshape(values.shape)


def turned(grid: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A map (H, W), H = W, turned, perhaps mirrored, and moved round its edges: the same shapes somewhere else."""
    grid = np.rot90(grid, int(rng.integers(4)))
    if rng.integers(2):
        grid = grid[:, ::-1]
    return np.roll(grid, rng.integers(grid.shape), axis=(0, 1))


def painted(photo: Photos, places: BoolArray, garment: BoolArray, fill: Fill) -> Photos:
    """A photo (3, h, w) with each of the places (n, h, w) painted over in turn, (n, 3, h, w)."""
    averages = {"mean": photo[:, garment].mean(axis=1), "ground": np.median(photo[:, ~garment], axis=1)}
    flat = averages[fill].round().astype(np.uint8)[:, None, None]  # (3, 1, 1)
    return np.where(places[:, None], flat, photo)


def edge_share(places: BoolArray) -> FloatArray:
    """(n, h, w), none empty -> (n,) the share of a place's pixels that have a neighbor outside it: how ragged it is."""
    padded = np.pad(places, ((0, 0), (1, 1), (1, 1)))  # (n, h + 2, w + 2)
    core = places & padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    return np.asarray(1 - core.sum(axis=(1, 2)) / places.sum(axis=(1, 2)))


class _Experiment:
    """Hides and scores again."""

    def __init__(
        self,
        model: Pan,
        inputs: ItemInputs,
        truth: Truth,
        eyes: Tensor,
        *,
        beta: float,
        draws: int,
        rng: np.random.Generator,
    ) -> None:
        self._model, self._inputs, self._beta, self._draws, self._rng = model, inputs, beta, draws, rng
        self._eyes = eyes
        self._is_other = truth.groups[:, None] != truth.groups  # (M, M)

    def hide(self, item: int, place: Place, fill: Fill) -> tuple[FloatArray, FloatArray]:
        """|changes| of the scores of the place's users, (3, 2, m), and the places' shares and edges, (3, m)."""
        num_users, side = len(place.users), place.garment.shape[0]
        elsewhere = np.zeros((num_users, self._draws, *place.garment.shape), dtype=np.bool_)  # (m, draws, h, w)
        for row, (marked, grid) in enumerate(zip(place.marks, place.grids, strict=True)):
            for draw in range(self._draws):
                values = upsample(turned(grid, self._rng), side)  # (h, w)
                elsewhere[row, draw] = strongest(values, place.garment & ~marked, int(marked.sum()))
        photo = np.asarray(self._inputs.source[item])  # type: ignore[index]  # (3, h, w)
        hidden = painted(photo, np.concatenate([place.marks, elsewhere.reshape(-1, side, side)]), place.garment, fill)
        rows = np.arange(num_users)
        # Whole by everybody; each user's place by everybody; what is elsewhere by its user alone.
        pair_photos = [
            np.zeros(num_users, dtype=np.int64),
            1 + rows.repeat(num_users),
            1 + num_users + np.arange(num_users * self._draws),
        ]
        pair_users = [rows, np.tile(rows, num_users), rows.repeat(self._draws)]
        scores = self._scores(
            np.concatenate([photo[None], hidden]),
            item,
            np.concatenate(pair_photos),
            place.users[np.concatenate(pair_users)],
        )  # (2, P)
        whole, by_mark, moved = np.split(scores, [num_users, num_users + num_users**2], axis=1)
        changed = np.abs(by_mark.reshape(-1, num_users, num_users) - whole[:, None])  # (2, m marks, m users)
        others = self._is_other[np.ix_(place.users, place.users)]  # (m, m)
        changes = np.stack(
            [
                changed[:, rows, rows],
                np.abs(moved.reshape(-1, num_users, self._draws) - whole[..., None]).mean(axis=2),
                np.where(
                    others.any(axis=0), (changed * others).sum(axis=1) / np.maximum(others.sum(axis=0), 1), np.nan
                ),
            ]
        )  # (3, 2, m)
        ragged = edge_share(elsewhere.reshape(-1, side, side)).reshape(num_users, self._draws).mean(axis=1)  # (m,)
        share = place.marks.sum(axis=(1, 2)) / place.garment.sum()  # (m,)
        return changes, np.stack([share, edge_share(place.marks), ragged])

    def _scores(self, photos: Photos, item: int, pair_photos: IntArray, pair_users: IntArray) -> FloatArray:
        """(n, 3, h, w) photos of one item, pairs (P,) sorted by photo -> (2, P) personal scores, binary and relaxed."""
        of_item = torch.full((len(photos),), item)  # (n,)
        text = self._inputs.text
        inputs = ItemInputs(
            photos, self._inputs.categories[of_item], None if text is None else text[of_item], self._inputs.images
        )
        coder = ItemCoder(self._model, inputs, beta=self._beta)
        categories = [category for _, category in self._model.shape.slots]
        slot = categories.index(self._model.shape.categories[int(inputs.categories[0])])
        mask = torch.zeros(len(pair_users), len(categories), dtype=torch.bool, device=self._eyes.device)  # (P, S)
        mask[:, slot] = True
        kinds = [codes == "binary" for codes in CODES]
        found = []
        for binary, codes in zip(
            kinds, coder.sorted_codes(self._eyes, pair_users, pair_photos, kinds=kinds), strict=True
        ):
            worn = codes[:, None].expand(-1, len(categories), -1, -1)  # (P, S, V, D), ignored where nothing is worn
            viewers = coder.viewer_codes(self._eyes, binary=binary)  # (M, D)
            with evaluating(self._model):
                scores = self._model.predictor(viewers[to_device(pair_users, self._model)], worn, mask)
            found.append(scores.personal.double().cpu().numpy())  # (P,)
        return np.stack(found)


def _hidden(marks: Marks, fill: Fill, codes: Codes, changes: FloatArray, shapes: FloatArray) -> Hidden:
    """(3, M, N) |changes| for own, elsewhere and another's places and (3, M, N) shapes, NaN where not counted."""
    is_counted = np.isfinite(changes).all(axis=0)  # (M, N)
    weights = is_counted.sum(axis=1).astype(np.float64)  # (M,)
    own, elsewhere, another = np.where(is_counted, changes, 0).sum(axis=2) / np.maximum(weights, 1)  # (M,) each
    columns = {"own": own, "elsewhere": elsewhere, "another": another}
    columns |= {"above_elsewhere": own - elsewhere, "above_another": own - another}
    drawn = resampled_means({name: (values, weights) for name, values in columns.items()}, 0, resamples=RESAMPLES)
    means = {
        name: Mean(weighted_mean(values, weights), interval95(drawn[name]), p_value(drawn[name]))
        for name, values in columns.items()
    }
    ratio = means["own"].value / means["elsewhere"].value if means["elsewhere"].value > 0 else math.nan
    shape = [float(each[is_counted].mean()) if is_counted.any() else math.nan for each in shapes]
    return Hidden(
        marks, fill, codes, **means, ratio=ratio, hidden_share=shape[0], own_edge=shape[1], elsewhere_edge=shape[2]
    )
