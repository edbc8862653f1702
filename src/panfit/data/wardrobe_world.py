"""Who lives in a wardrobe world: its settings, its items, its users and their tastes, and what they like.

Items are drawn before anybody likes anything, from other streams of chance than the tastes, and lie in random order: a
picture, an id or a row tells nothing about users or splits. Likes follow `Truth.utility` and nothing else.
"""

import colorsys
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from panfit.config import Positive, Settings, Share, Weight
from panfit.data.wardrobe_truth import (
    CATEGORIES,
    NUM_FACTORS,
    NUM_VALUES,
    Truth,
    general_parts,
    num_values,
    random_values,
)
from panfit.errors import ConfigError
from panfit.outfits import SPLITS, IntArray, Outfits, Split

MAX_SHARE_LIKED = 0.5
"""Of the outfits that a split's items can make, how many a user may like: beyond it negatives run out."""
_ROUNDS = 200
"""How often a user's repeated likes are drawn anew before the world is declared too small."""


class WardrobeConfig(Settings):
    """Sizes, tastes and chance of a wardrobe world."""

    name: str = "wardrobe"
    seed: Annotated[int, Field(ge=0)] = 0
    num_users: Positive = 60
    num_groups: Positive = 12
    """Groups of users of one taste."""
    swapped: Share = 0.2
    """Share of the factors a user cares about that are his own instead of his group's."""
    items_per_category: tuple[Positive, Positive, Positive] = (163, 25, 62)
    """Items of each category in train, val and test; no item is in two splits. 65/10/25 percent of 250."""
    likes_per_user: tuple[Weight, Weight, Weight] = (80.0, 10.0, 20.0)
    """Mean likes of a user in train, val and test."""
    image_size: Annotated[int, Field(ge=16, le=512)] = 64
    """Side of a photo, pixels."""
    signal: Share = 1.0
    """How much there is to learn: 0 nothing, 1 all."""
    personal_weight: Weight = 1.0
    """Spread of the personal part of the utility over random outfits."""
    general_weight: Weight = 0.45
    """Spread of the general part."""
    temperature: Annotated[float, Field(gt=0)] = 0.25
    """Of the softmax by which a user picks a like; the chance in every choice."""
    noise: Share = 0.02
    """Share of likes picked blindly."""
    pool: Annotated[int, Field(ge=2)] = 100
    """Random outfits among which a user picks each like."""
    titles: bool = True
    """Give items titles made from some of their factors."""
    drawings_per_category: Positive | None = None
    """Distinct photos of a category, shared by its items (never across splits); None: each item has its own."""

    @model_validator(mode="after")
    def _room_for_likes(self) -> "WardrobeConfig":
        for split, items, likes in zip(SPLITS, self.items_per_category, self.likes_per_user, strict=True):
            if likes > MAX_SHARE_LIKED * items ** len(CATEGORIES):
                raise ValueError(f"{items} items a category are too few for {likes:g} {split} likes a user")
        return self

    @classmethod
    def tiny(cls, **changes: object) -> "WardrobeConfig":
        """For tests: 6 users, 93 items, 32 pixels; drawn in a fraction of a second."""
        return cls.model_validate(
            {
                "name": "wardrobe-tiny",
                "num_users": 6,
                "num_groups": 2,
                "items_per_category": (16, 7, 8),
                "likes_per_user": (12, 3, 4),
                "image_size": 32,
            }
            | changes
        )

    @classmethod
    def demo(cls, **changes: object) -> "WardrobeConfig":
        """For `panfit demo`: 60 users, 750 items, 64 pixels."""
        return cls.model_validate({"name": "wardrobe-demo"} | changes)

    @classmethod
    def benchmark(cls, **changes: object) -> "WardrobeConfig":
        """What docs/results.md is measured on, the demo too: 60 users in 6 groups, 1,200 items, 100 likes a user."""
        settings = {
            "num_groups": 6,
            "swapped": 0.1,
            "items_per_category": (260, 40, 100),
            "likes_per_user": (100, 10, 20),
        }
        return cls.demo(**(settings | changes))

    @classmethod
    def study(cls, **changes: object) -> "WardrobeConfig":
        """For measuring recipes: 100 users, 2,400 items, 64 pixels, 200 train likes a user."""
        return cls.model_validate(
            {
                "name": "wardrobe-study",
                "num_users": 100,
                "items_per_category": (520, 80, 200),
                "likes_per_user": (200, 20, 40),
            }
            | changes
        )

    @classmethod
    def polyvore_630(cls, **changes: object) -> "WardrobeConfig":
        """Polyvore-630's sizes: 630 users, 127,326 / 12,565 / 23,054 likes, 159,729 train items; shared photos."""
        return cls.model_validate(
            {
                "name": "wardrobe-630",
                "num_users": 630,
                "num_groups": 60,
                "items_per_category": (159_729 // 3, 7_500, 15_168),
                "likes_per_user": (127_326 / 630, 12_565 / 630, 23_054 / 630),
                "drawings_per_category": 4_000,
            }
            | changes
        )


# ---- who is there


def make_items(config: WardrobeConfig) -> tuple[Truth, IntArray, IntArray]:
    """The truth, (N,) the drawing of each item, and (N,) its index into SPLITS; rows are in random order."""
    item_rng, taste_rng, pose_rng, moment_rng = (np.random.default_rng([config.seed, part]) for part in range(4))
    cells = [(category, split) for category in range(len(CATEGORIES)) for split in range(len(SPLITS))]
    columns, first_drawing = [], 0
    for category, split in cells:
        count = config.items_per_category[split]
        distinct = _num_drawings(config, split)
        numbers = first_drawing + np.arange(count) % distinct
        columns.append(np.stack([np.full(count, category), np.full(count, split), numbers]))
        first_drawing += distinct
    table = np.concatenate(columns, axis=1)  # (3, N)
    categories, splits, drawings = table[:, item_rng.permutation(table.shape[1])]  # (N,) each
    drawings = item_rng.permutation(first_drawing)[drawings]  # a photo's number tells nothing about its split
    example = np.zeros(first_drawing, dtype=np.int64)
    example[drawings] = categories  # (drawings,) the category each drawing shows
    tastes, groups = _random_tastes(config, taste_rng)
    truth = Truth(
        categories=categories,
        values=random_values(example, item_rng)[drawings],
        poses=_random_poses(first_drawing, pose_rng)[drawings],
        tastes=tastes,
        groups=groups,
        image_size=config.image_size,
        signal=config.signal,
        personal_weight=config.personal_weight,
        general_weight=config.general_weight,
        general_moments=_general_moments(moment_rng),
    )
    return truth, drawings, splits


def _num_drawings(config: WardrobeConfig, split: int) -> int:
    count = config.items_per_category[split]
    if config.drawings_per_category is None:
        return count
    return min(count, max(1, round(config.drawings_per_category * count / sum(config.items_per_category))))


def _random_poses(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(count, 8): small shifts, turns and sizes, a pale ground of any hue, a little more or less light."""
    low = np.array([-0.025, -0.025, 0.93, -5.0, 0.0, 0.02, 0.92, 0.94])
    high = np.array([0.025, 0.025, 1.0, 5.0, 1.0, 0.10, 0.98, 1.0])
    poses = rng.uniform(low, high, size=(count, len(low)))  # (count, 8), the ground as hue, saturation, value
    poses[:, 4:7] = [[round(255 * channel) for channel in colorsys.hsv_to_rgb(*ground)] for ground in poses[:, 4:7]]
    return poses.astype(np.float32)


def _random_tastes(config: WardrobeConfig, rng: np.random.Generator) -> tuple[NDArray[np.float32], IntArray]:
    """(M, 3, F, V) sparse tastes, and (M,) the users' groups."""
    group_tastes = [_random_taste(rng) for _ in range(config.num_groups)]
    groups = rng.permutation(np.arange(config.num_users) % config.num_groups)
    tastes = np.zeros((config.num_users, len(CATEGORIES), NUM_FACTORS, NUM_VALUES))
    for user, group in enumerate(groups):
        tastes[user] = _own_taste(group_tastes[group], config.swapped, rng)
    spread = np.sqrt(_variance(tastes).sum(axis=(1, 2)))  # (M,) over random outfits
    return (tastes / spread[:, None, None, None]).astype(np.float32), groups.astype(np.int64)


def _random_taste(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, F, V): one or two factors of each category, and for each a weight of every value."""
    counts = num_values()
    taste = np.zeros((len(CATEGORIES), NUM_FACTORS, NUM_VALUES))
    for category in range(len(CATEGORIES)):
        available = np.flatnonzero(counts[category])
        for factor in rng.choice(available, size=rng.integers(1, 3), replace=False):
            taste[category, factor] = _random_weights(int(counts[category, factor]), rng)
    return taste


def _random_weights(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(V,) weights of ``count`` values, of mean 0 and spread 1, and zeros behind them."""
    weights = rng.normal(size=count)
    weights = (weights - weights.mean()) / weights.std()
    return np.pad(weights, (0, NUM_VALUES - count))


def _own_taste(taste: NDArray[np.float64], swapped: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, F, V) a member's taste: the group's, with a share of its factors swapped for others."""
    counts = num_values()
    own = taste.copy()
    for category, factor in np.argwhere(taste.any(axis=2)):
        if rng.random() < swapped:
            others = np.flatnonzero(counts[category].astype(bool) & ~own[category].any(axis=1))
            other = rng.choice(others)
            own[category, factor] = 0.0
            own[category, other] = _random_weights(int(counts[category, other]), rng)
    return own


def _variance(tastes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 3, F) variance of a factor's weight over values that are equally likely (the weights' mean is 0)."""
    return np.asarray((tastes**2).sum(axis=3) / np.maximum(num_values(), 1))


def _general_moments(rng: np.random.Generator, samples: int = 20_000) -> tuple[float, float, float, float]:
    """Mean and spread of color harmony and of style match over random outfits."""
    categories = np.tile(np.arange(len(CATEGORIES)), (samples, 1))  # (samples, S)
    values = random_values(categories.ravel(), rng).reshape(samples, len(CATEGORIES), NUM_FACTORS)
    colors, styles = general_parts(categories, values)
    return float(colors.mean()), float(colors.std()), float(styles.mean()), float(styles.std())


# ---- who likes what


def draw_likes(config: WardrobeConfig, truth: Truth, item_splits: IntArray) -> dict[Split, Outfits]:
    """Every user's likes: each the pick of a softmax over a pool of random outfits of the split's items."""
    likes: dict[Split, Outfits] = {}
    for index, split in enumerate(SPLITS):
        rng = np.random.default_rng([config.seed, 10 + index])
        pools = [np.flatnonzero((item_splits == index) & (truth.categories == row)) for row in range(len(CATEGORIES))]
        total = round(config.likes_per_user[index] * config.num_users)
        counts = np.full(config.num_users, total // config.num_users)
        counts[rng.permutation(config.num_users)[: total % config.num_users]] += 1
        picks = [_pick(config, truth, user, int(count), pools, rng) for user, count in enumerate(counts)]
        users = np.repeat(np.arange(config.num_users), counts)
        items = np.concatenate(picks)  # (B, 3)
        order = rng.permutation(len(users))
        likes[split] = Outfits(users[order].astype(np.int64), items[order].astype(np.int64))
    return likes


def _pick(
    config: WardrobeConfig, truth: Truth, user: int, count: int, pools: list[IntArray], rng: np.random.Generator
) -> IntArray:
    """(count, 3) distinct outfits that the user likes."""
    picked: dict[tuple[int, ...], None] = {}
    for _ in range(_ROUNDS):
        missing = count - len(picked)
        if not missing:
            break
        size = missing * config.pool
        items = np.stack([rng.choice(pool, size=size) for pool in pools], axis=1)  # (missing * pool, 3)
        outfits = Outfits(np.full(size, user, dtype=np.int64), items)
        appeal = truth.utility(outfits) / config.temperature + rng.gumbel(size=size)  # argmax: a softmax's pick
        best = appeal.reshape(missing, config.pool).argmax(axis=1)
        blind = rng.random(missing) < config.noise
        best = np.where(blind, rng.integers(config.pool, size=missing), best)
        for outfit in items.reshape(missing, config.pool, -1)[np.arange(missing), best].tolist():
            picked[tuple(outfit)] = None
    else:
        raise ConfigError(
            f"user {user} found only {len(picked)} of {count} outfits to like: more items, or fewer likes"
        )
    return np.array(list(picked), dtype=np.int64).reshape(count, len(pools))
