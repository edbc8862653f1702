"""The demo's report, made: what was measured, a user's outfits, two users' eyes on one outfit, and what is true.

Users and outfits are chosen by the truth of the world and by chance, never by how well the model does on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from panfit.config import Config
from panfit.data.wardrobe import Truth, Wardrobe
from panfit.data.wardrobe_truth import CATEGORIES
from panfit.evaluate import Result
from panfit.explain import relative_maps, score_parts, spatial_maps
from panfit.heat import color_bar, heat_map, upsample
from panfit.outfits import IntArray, Kind, Outfits
from panfit.pedigree import pedigree
from panfit.pointing import EVERYWHERE, Pointing, measure_pointing, places_of
from panfit.recommend import Recommender
from panfit.report import Card, Look, Report, Row

NUM_LIKED, NUM_RECOMMENDED = 3, 6
CARD_PIXELS, HEAT_PIXELS = 150, 280
HEAT_REACH = 1.3
"""log2 of how much more than others a user looks at a place that gets the strongest color."""
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


def make_report(story: Story, *, seed: int) -> Report:
    """Everything that the page says."""
    rng = np.random.default_rng(seed)
    dataset, truth = story.wardrobe.dataset, story.wardrobe.truth
    users = different_eyes(truth, rng)
    first = users[0]
    best, top = story.measured[-1].results["random"], story.ceiling["random"]
    pointing = measure_pointing(story.pan.pan, story.pan.inputs, truth, dataset.split_items("test"), rng)
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
    """The best outfits of test garments, no garment twice, each with its true rank among random ones."""
    dataset, truth = story.wardrobe.dataset, story.wardrobe.truth
    pools = dataset.split_items("test")
    random = np.stack([rng.choice(pool, RANDOM_OUTFITS) for pool in pools], axis=1)  # (R, S)
    utility = truth.utility(Outfits(np.full(len(random), user), random))  # (R,)
    candidates = [dataset.catalogue.ids(outfit) for outfit in np.unique(random, axis=0).tolist()]
    ranked, _ = story.pan.recommend(dataset.user_ids[user], top=len(candidates), among=candidates)
    chosen: list[tuple[str | None, ...]] = []
    for outfit in ranked:
        if not any(set(outfit) & set(other) for other in chosen):
            chosen.append(outfit)
        if len(chosen) == NUM_RECOMMENDED:
            break
    items = np.stack([dataset.catalogue.rows(outfit) for outfit in chosen])  # (n, S)
    outfits = Outfits(np.full(len(items), user), items)
    beaten = [int((utility < true).sum()) for true in truth.utility(outfits)]
    return _cards(story, outfits, [f"truly better than {n:,} of {RANDOM_OUTFITS:,} random outfits" for n in beaten])


def _cards(story: Story, outfits: Outfits, notes: Sequence[str]) -> list[Card]:
    titles, truth = story.wardrobe.dataset.catalogue.titles, story.wardrobe.truth
    general, personal = score_parts(story.pan.pan, story.pan.inputs, outfits)
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
    maps = spatial_maps(story.pan.pan, story.pan.inputs, everybody, outfit)  # (M, S, H, W)
    pictures, captions = [], []
    for slot, item in enumerate(outfit.tolist()):
        relative = relative_maps(maps[:, slot])[user]  # (H, W)
        region = places_of(truth, np.array([user]), item, size=HEAT_PIXELS)[0]  # (h, w)
        garment = truth.factor_region(item, EVERYWHERE, size=HEAT_PIXELS)  # (h, w)
        photo = truth.picture(item, size=HEAT_PIXELS)
        pictures.append(heat_map(photo, relative, reach=HEAT_REACH, region=region, within=garment, size=HEAT_PIXELS))
        seen = region & garment
        places = _and([factor for factor in truth.cares(user, item) if factor != EVERYWHERE])
        times = f": {2 ** upsample(relative, HEAT_PIXELS)[seen].mean():.1f} x the usual look" if seen.any() else ""
        captions.append(f"{places}{times}" if places else "only the color matters")
    return Look(dataset.user_ids[user], f"cares about {_cares(truth, user)}", tuple(pictures), tuple(captions))


def _attention_sentences(pointing: Pointing) -> list[str]:
    def percent(value: float, ci95: tuple[float, float] | None = None) -> str:
        interval = "" if ci95 is None else f" (95% interval {ci95[0]:.0%} to {ci95[1]:.0%})"
        return f"{value:.0%}{interval}"

    game, pairs = pointing.game, pointing.pairs
    by_category = _and([f"{percent(own)} on {category}s" for category, own in pairs.own_by_category.items()])
    return [
        "Both see the same three garments. Red: this user looks there more than the average user; blue: less. The "
        "green line is the place that the user truly cares about. Users and outfit were chosen by the truth and by "
        "chance, not by how well the model does on them.",
        f"Over all {pointing.users} users and {pointing.garments} test garments: take a pixel of a garment inside what "
        f"a user cares about, and one outside. The user's own map looks more at the inside one in "
        f"{percent(pairs.own, pairs.own_ci95)} of such pairs, the maps of users of other groups in "
        f"{percent(pairs.another, pairs.another_ci95)}; chance is 50%. The user's own: {by_category}. The pixel that "
        f"is looked at most lies inside on {percent(game.own, game.own_ci95)} of the garments; chance is "
        f"{percent(pointing.chance)}. The paper's attention has one map of places a user for all categories: collar, "
        "waist and heel have to share it.",
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
