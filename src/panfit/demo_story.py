"""The demo's report, made: what was measured, a user's outfits, two users' eyes on one outfit, and what is true.

Users and outfits are chosen by the truth of the world and by chance, never by how well the model does on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panfit.bootstrap import interval95, resampled_means
from panfit.config import Config
from panfit.data.wardrobe import Truth, Wardrobe
from panfit.data.wardrobe_truth import CATEGORIES
from panfit.evaluate import Result
from panfit.explain import color_bar, heat_map, relative_maps, score_parts, spatial_maps, upsample
from panfit.metrics import auc
from panfit.outfits import IntArray, Kind, Outfits
from panfit.pedigree import pedigree
from panfit.recommend import Recommender
from panfit.report import Card, Look, Report, Row

FloatArray = NDArray[np.float64]

EVERYWHERE = "color"
"""The factor that is seen wherever the garment is: whoever cares about it need not look anywhere in particular."""
NUM_LIKED, NUM_RECOMMENDED = 3, 6
CARD_PIXELS, HEAT_PIXELS = 150, 280
HEAT_REACH = 1.0
"""log2 of how much more than others a user looks at a place that gets the strongest color: twice as much."""
POINTING_ITEMS = 20
"""Test garments of each category on which the maps are held against the truth."""
RANDOM_OUTFITS = 2000
"""Outfits of test garments among which a recommended one's true utility is ranked."""


@dataclass(frozen=True)
class Recipe:
    """One line of the ablation."""

    name: str
    note: str
    changes: Mapping[str, Mapping[str, object]]
    """Section -> the values that this recipe lays over what all recipes share."""

    @property
    def folder(self) -> str:
        return self.name.lower().replace(" + ", "-")


@dataclass(frozen=True, eq=False)
class Measured:
    """A recipe's results on test, and its validation AUC by epoch."""

    recipe: Recipe
    results: Mapping[Kind, Result]
    curve: tuple[list[float], list[float]]


@dataclass(frozen=True, eq=False)
class Story:
    """What the report is made of. ``pan`` is the last recipe's Recommender, ``config`` its settings."""

    wardrobe: Wardrobe
    measured: Sequence[Measured]
    ceiling: Mapping[Kind, Result]
    pan: Recommender
    config: Config
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Pointing:
    """How well maps point at regions: the share of (inside, outside) pixel pairs in which inside is looked at more.

    Attributes:
        own: with each user's own maps; another: with the maps of a user of another group. Chance is 0.5.
        own_ci95, another_ci95: over users.
    """

    own: float
    own_ci95: tuple[float, float]
    another: float
    another_ci95: tuple[float, float]
    users: int
    garments: int


def make_report(story: Story, *, seed: int) -> Report:
    """Everything that the page says."""
    rng = np.random.default_rng(seed)
    dataset, truth = story.wardrobe.dataset, story.wardrobe.truth
    users = different_eyes(truth, rng)
    first = users[0]
    best, top = story.measured[-1].results["random"], story.ceiling["random"]
    pointing = measure_pointing(story.pan, truth, dataset.split_items("test"), rng)
    outfit = dataset.likes["test"].items[int(rng.integers(len(dataset.likes["test"])))]  # (S,)
    environment = pedigree()
    num_groups = len(np.unique(truth.groups))
    return Report(
        title="A wardrobe with a known answer",
        lead=(
            f"{len(dataset.catalogue):,} drawn garments, {len(dataset.user_ids)} users whose tastes are known, and "
            "PAN, which learns from photos, titles and likes. Because the world is drawn, we know the best score that "
            "anybody could reach, and where each user looks."
        ),
        facts=[
            (f"{best.auc:.3f}", f"AUC of PAN on test, binary codes; the ceiling is {top.auc:.3f}"),
            (f"{len(dataset.user_ids)}", f"users in {num_groups} groups of one taste"),
            (f"{len(dataset.catalogue):,}", "garments; test outfits wear none of those in training"),
            (f"{len(dataset.likes['train']):,}", "liked outfits to learn from"),
            (f"{sum(story.seconds.values()) / 60:.1f} min", "from nothing to this page"),
        ],
        rows=[
            Row(each.recipe.name, each.recipe.note, each.results["random"], each.results["hard"])
            for each in story.measured
        ],
        ceiling=Row("ceiling", "the true tastes as a scorer", story.ceiling["random"], story.ceiling["hard"]),
        curves={each.recipe.name: each.curve for each in story.measured},
        user=dataset.user_ids[first],
        user_note=f"In truth, {dataset.user_ids[first]} cares about {_cares(truth, first)}. The model was not told.",
        liked=liked_cards(story, first),
        recommended=recommended_cards(story, first, rng),
        looks=[look(story, user, outfit) for user in users],
        slots=[slot.name for slot in dataset.slots],
        attention=_attention_sentences(pointing),
        color_bar=color_bar(),
        config=story.config.to_toml(),
        environment={
            "panfit commit": str(environment["commit"] or "not in a checkout"),
            "memory at most": f"{environment['peak_mb']:,.0f} MB" if environment["peak_mb"] else "unknown",
            **{name: str(value) for name, value in environment["hardware"].items() if value is not None},
            "made at": environment["created_at"],
        },
        seconds=story.seconds,
    )


def different_eyes(truth: Truth, rng: np.random.Generator) -> tuple[int, int]:
    """Two users of different groups who care about different places of every category, as far as there are such."""
    places = [
        [set(cares) - {EVERYWHERE} for cares in cares_of(truth, user)] for user in range(len(truth.groups))
    ]  # (M, 3) sets
    pairs = [
        (a, b) for a in range(len(places)) for b in range(a + 1, len(places)) if truth.groups[a] != truth.groups[b]
    ]

    def apart(pair: tuple[int, int]) -> tuple[int, int]:
        both = list(zip(places[pair[0]], places[pair[1]], strict=True))
        return sum(bool(a and b and not a & b) for a, b in both), -sum(len(a) + len(b) for a, b in both)

    if not pairs:
        return 0, len(places) - 1
    best = max(map(apart, pairs))
    return [pair for pair in pairs if apart(pair) == best][
        int(rng.integers(sum(apart(pair) == best for pair in pairs)))
    ]


def cares_of(truth: Truth, user: int) -> list[tuple[str, ...]]:
    """For each category, the factors that the user cares about."""
    examples = [int(np.flatnonzero(truth.categories == category)[0]) for category in np.unique(truth.categories)]
    return [truth.cares(user, item) for item in examples]


def liked_cards(story: Story, user: int) -> list[Card]:
    """Some of a user's train likes."""
    likes = story.wardrobe.dataset.likes["train"]
    return _cards(story, likes.take(likes.users == user).take(np.arange(NUM_LIKED)), [""] * NUM_LIKED)


def recommended_cards(story: Story, user: int, rng: np.random.Generator) -> list[Card]:
    """The best outfits of test garments, no two of which share two garments, each with its true rank."""
    dataset, truth = story.wardrobe.dataset, story.wardrobe.truth
    pools = dataset.split_items("test")
    random = np.stack([rng.choice(pool, RANDOM_OUTFITS) for pool in pools], axis=1)  # (R, S)
    utility = truth.utility(Outfits(np.full(len(random), user), random))  # (R,)
    candidates = [dataset.catalogue.ids(outfit) for outfit in np.unique(random, axis=0).tolist()]
    ranked, _ = story.pan.recommend(dataset.user_ids[user], top=len(candidates), among=candidates)
    chosen: list[tuple[str | None, ...]] = []
    for outfit in ranked:
        if all(len(set(outfit) & set(other)) < 2 for other in chosen):
            chosen.append(outfit)
        if len(chosen) == NUM_RECOMMENDED:
            break
    items = np.stack([dataset.catalogue.rows(outfit) for outfit in chosen])  # (n, S)
    outfits = Outfits(np.full(len(items), user), items)
    shares = [float((utility < true).mean()) for true in truth.utility(outfits)]
    return _cards(story, outfits, [f"truly better than {share:.0%} of random outfits" for share in shares])


def _cards(story: Story, outfits: Outfits, notes: Sequence[str]) -> list[Card]:
    titles, truth = story.wardrobe.dataset.catalogue.titles, story.wardrobe.truth
    general, personal = score_parts(story.pan.model, story.pan.inputs, outfits)
    return [
        Card(
            photos=tuple(truth.picture(item, size=CARD_PIXELS) for item in items),
            titles=tuple(titles[item] or "" for item in items),
            general=float(general[place]),
            personal=float(personal[place]),
            note=note,
        )
        for place, (items, note) in enumerate(zip(outfits.items.tolist(), notes, strict=False))
    ]


def look(story: Story, user: int, outfit: IntArray) -> Look:
    """One user's eyes on an outfit (S,), relative to everybody's."""
    truth, dataset = story.wardrobe.truth, story.wardrobe.dataset
    everybody = np.arange(len(dataset.user_ids))
    maps = spatial_maps(story.pan.model, story.pan.inputs, everybody, outfit)  # (M, S, H, W)
    pictures, captions = [], []
    for slot, item in enumerate(outfit.tolist()):
        relative = relative_maps(maps[:, slot])[user]  # (H, W)
        region = truth.regions(user, item, size=HEAT_PIXELS)  # (h, w)
        photo = truth.picture(item, size=HEAT_PIXELS)
        pictures.append(heat_map(photo, relative, reach=HEAT_REACH, region=region, size=HEAT_PIXELS))
        inside = 2 ** upsample(relative, HEAT_PIXELS)[region].mean() if region.any() else 1.0
        captions.append(f"{_and(truth.cares(user, item))}: {inside:.2f} times what others look")
    return Look(dataset.user_ids[user], f"cares about {_cares(truth, user)}", tuple(pictures), tuple(captions))


def measure_pointing(pan: Recommender, truth: Truth, pools: Sequence[IntArray], rng: np.random.Generator) -> Pointing:
    """Hold every user's maps against the true regions, on some garments of each pool.

    Maps are taken relative to the mean over users, so that a garment's outline alone points nowhere. Users who care
    about nothing but color are left out where they do.
    """
    items = np.concatenate([rng.permutation(pool)[:POINTING_ITEMS] for pool in pools])  # (N,)
    users = np.arange(len(truth.groups))
    others = np.array([rng.choice(users[truth.groups != truth.groups[user]]) for user in users])  # (M,)
    maps = spatial_maps(pan.model, pan.inputs, users, items)  # (M, N, H, W)
    values = np.full((2, len(users), len(items)), np.nan)  # own and another's, NaN where nothing is to be seen
    for column, item in enumerate(items.tolist()):
        relative = relative_maps(maps[:, column])  # (M, H, W)
        large = [upsample(values_of_user, truth.image_size).ravel() for values_of_user in relative]
        for user in users.tolist():
            places = [factor for factor in truth.cares(user, item) if factor != EVERYWHERE]
            if not places:
                continue
            region = np.any([truth.factor_region(item, factor) for factor in places], axis=0).ravel()  # (h * w,)
            for row, eyes in enumerate((user, others[user])):
                values[row, user, column] = auc(large[eyes][region], large[eyes][~region])
    counted = np.isfinite(values[0])  # (M, N)
    weights = counted.sum(axis=1).astype(np.float64)  # (M,)
    means = [np.where(counted, each, 0).sum(axis=1) / np.maximum(weights, 1) for each in values]  # (M,) each
    drawn = resampled_means({"own": (means[0], weights), "another": (means[1], weights)}, 0, resamples=1000)
    return Pointing(
        own=float(np.average(means[0], weights=weights)),
        own_ci95=interval95(drawn["own"]),
        another=float(np.average(means[1], weights=weights)),
        another_ci95=interval95(drawn["another"]),
        users=int((weights > 0).sum()),
        garments=len(items),
    )


def _attention_sentences(pointing: Pointing) -> list[str]:
    def percent(value: float, ci95: tuple[float, float]) -> str:
        return f"{value:.0%} (95 % interval {ci95[0]:.0%} to {ci95[1]:.0%})"

    return [
        "Both see the same three garments. Red: this user looks there more than the average user; blue: less. The "
        "green line is the region that the user truly cares about. Users and outfit were chosen by the truth and by "
        "chance, not by how well the model does on them.",
        f"Over all {pointing.users} users and {pointing.garments} test garments: take a pixel inside what a user cares "
        f"about, and one outside. The user's own map looks more at the inside one in "
        f"{percent(pointing.own, pointing.own_ci95)} of such pairs, the map of a user of another group in "
        f"{percent(pointing.another, pointing.another_ci95)}; chance is 50 %.",
    ]


def _cares(truth: Truth, user: int) -> str:
    """In words: what the user cares about, category by category."""
    told = [
        f"the {_and(cares)} of {category}s"
        for category, cares in zip(CATEGORIES, cares_of(truth, user), strict=True)
        if cares
    ]
    return _and(told) or "nothing in particular"


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
