"""Outfits of every make, end to end: two tops, two to five slots, slots that are often empty, one user, no text.

Each is imported as a user would, trained for an epoch, read back, evaluated and recommended from, with every method.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from panfit.config import Config
from panfit.data.folder import read_dataset, write_dataset
from panfit.data.polyvore_u import Subset, import_polyvore_u
from panfit.data.table import import_table
from panfit.errors import ConfigError, DataError
from panfit.evaluate import evaluate
from panfit.loading import load
from panfit.outfits import ABSENT, KINDS, Dataset, Kind, Outfits
from panfit.recommend import Recommender
from panfit.scoring import OutfitScorer
from panfit.train.loop import fit
from tests import oracles
from tests.photos import tiny_config
from tests.polyvore_layout import write_layout
from tests.shop import write_csv

METHODS = ["pan", "siamese", "bilstm", "csn", "popularity", "linear"]
SLOTS = {2: ("dress", "shoe"), 5: ("coat", "top", "bottom", "shoe", "bag")}


def config_of(method: str, text: str = "auto") -> Config:
    """An epoch of a tiny model."""
    tiny = tiny_config(text={"source": text, "dim": 12}, train={"epochs": 1, "batch_size": 8})
    return Config.parse(tiny.model_dump() | {"method": method})


def live(
    imported: Dataset, folder: Path, method: str, *, text: str = "auto", kinds: Sequence[Kind] = KINDS
) -> Recommender:
    """Write, read, train, load, evaluate, recommend; what can be said of any data set is said here."""
    write_dataset(imported, folder / "data", source="a test")
    dataset = read_dataset(folder / "data")
    fit(config_of(method, text), dataset, folder / "run", progress=False)
    recommender = load(folder / "run")
    for kind in kinds:
        result = evaluate(recommender.scorer, dataset, split="test", negatives=kind, resamples=20)
        assert 0 <= result.auc <= 1
        assert 0 <= result.fitb <= 1
        assert result.users == len(np.unique(dataset.likes["test"].users))
        assert result.questions == len(dataset.fitb["test"])
    user = dataset.user_ids[int(dataset.likes["train"].users[0])]
    outfits, scores = recommender.recommend(user, top=5)
    assert len(outfits) == 5
    assert np.isfinite(scores).all()
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(recommender.score(user, outfits), scores, rtol=1e-5, atol=1e-5)
    return recommender


def by_hand(recommender: Recommender, user: int, outfit: Sequence[int], *, binary: bool) -> float:
    """Eq. 4 in plain loops over the items that are worn, as if there were no other slots."""
    scorer, dataset = recommender.scorer, recommender.dataset
    assert isinstance(scorer, OutfitScorer)
    worn = np.array([item for item in outfit if item != ABSENT])  # (n,)
    categories = [dataset.catalogue.item_categories[item] for item in worn.tolist()]
    eyes = recommender.pan.user_embeddings(torch.tensor([user])).detach()  # (1, D)
    codes = scorer.coder.codes(eyes, np.zeros(len(worn), dtype=np.int64), worn, binary=binary).double()  # (n, V, D)
    user_code = scorer.coder.viewer_codes(eyes, binary=binary)[0].double()  # (D,)
    predictor, config = recommender.pan.predictor, recommender.pan.config.model
    with torch.no_grad():
        score, _, _ = oracles.preference(
            user_code,
            codes,
            [True] * len(worn),
            categories,
            predictor.user_item_weight.double(),
            predictor.item_item_weight.double(),
            alpha=config.alpha,
            scale=config.score_scale,
        )
    return float(score)


def assert_scores_by_hand(recommender: Recommender, outfits: Outfits) -> None:
    scorer = recommender.scorer
    for binary in (True, False):
        found = scorer.scores(outfits, binary=binary)
        rows = zip(outfits.users.tolist(), outfits.items.tolist(), strict=True)
        wanted = [by_hand(recommender, user, outfit, binary=binary) for user, outfit in rows]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


# ---- Polyvore-519 and -32: two tops, the second often absent


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("subset", ["519", "32"])
def test_two_tops_of_polyvore(tmp_path: Path, rng: np.random.Generator, subset: Subset, method: str) -> None:
    layout = write_layout(tmp_path / "polyvore", rng, subset=subset)
    imported = import_polyvore_u(layout.root, subset=subset).dataset
    assert [slot.name for slot in imported.slots] == ["top", "top2", "bottom", "shoe"]
    recommender = live(imported, tmp_path, method)
    likes = recommender.dataset.likes["test"]
    has_second = likes.mask[:, 1]  # (B,)
    assert has_second.any()
    assert not has_second.all()
    if method == "pan":
        assert_scores_by_hand(recommender, likes)


def test_an_absent_second_top_is_as_if_there_were_three_slots(tmp_path: Path, rng: np.random.Generator) -> None:
    """And two tops score alike in both orders: the pair top-top is left out, the rest is a mean (decision D14)."""
    layout = write_layout(tmp_path / "polyvore", rng, subset="519")
    recommender = live(import_polyvore_u(layout.root, subset="519").dataset, tmp_path, "pan")
    likes = recommender.dataset.likes["test"]
    for second in (0, 1):
        alone = likes.take(likes.mask[:, 1] == bool(second))
        first_only = np.where(np.arange(4) == 1, ABSENT, alone.items)  # (B, S)
        second_only = first_only[:, [1, 0, 2, 3]]  # the same top, worn in the other slot
        scores = [
            recommender.scorer.scores(Outfits(alone.users, items), binary=True)
            for items in (first_only, second_only, alone.items, alone.items[:, [1, 0, 2, 3]])
        ]
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
        np.testing.assert_allclose(scores[2], scores[3], atol=1e-5)


# ---- a shop's own tables


def make_shop(folder: Path, categories: Sequence[str], likes: Sequence[Sequence[str]], *, title: str = "plain") -> Path:
    """Nine items of each category with photos of different colors, and likes: user, then an item a slot."""
    folder.mkdir()
    items = [["item_id", "category", "image", "title"]]
    for place, category in enumerate(dict.fromkeys(categories)):
        for number in range(9):
            name = f"{category}-{number}"
            Image.new("RGB", (20, 20), (28 * number, 40 * place, 90)).save(folder / f"{name}.png")
            items.append([name, category, f"{name}.png", title and f"{title} {name}"])
    write_csv(folder / "items.csv", items)
    write_csv(folder / "likes.csv", [["user_id", *categories], *map(list, likes)])
    return folder


def draw_likes(
    rng: np.random.Generator, slots: Sequence[str], *, num_users: int = 4, per_user: int = 15, shortest: int = 2
) -> list[list[str]]:
    """Different likes of each user, of ``shortest`` to all slots, every length equally often."""
    rows: dict[tuple[str, ...], None] = {}
    for user in range(num_users):
        for number in range(per_user):
            length = shortest + number % (len(slots) - shortest + 1)
            worn = set(rng.choice(len(slots), size=length, replace=False).tolist())
            cells = [f"{slot}-{rng.integers(9)}" if place in worn else "" for place, slot in enumerate(slots)]
            rows[f"u{user}", *cells] = None
    return [list(row) for row in rows]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_slots", [2, 5])
def test_a_shop_of_two_slots_and_one_of_five(
    tmp_path: Path, rng: np.random.Generator, num_slots: int, method: str
) -> None:
    """Of five, any three may be empty: outfits of every length from 2 to 5 in one data set."""
    slots = SLOTS[num_slots]
    shop = make_shop(tmp_path / "shop", slots, draw_likes(rng, slots))
    recommender = live(import_table(shop).dataset, tmp_path, method)
    dataset = recommender.dataset
    for split in ("train", "test"):
        lengths = set(dataset.likes[split].mask.sum(axis=1).tolist())
        assert lengths == set(range(2, num_slots + 1))
    negatives = dataset.negatives["test", "random"]
    per_like = len(negatives) // len(dataset.likes["test"])
    np.testing.assert_array_equal(negatives.mask, np.repeat(dataset.likes["test"].mask, per_like, axis=0))
    if method == "pan":
        assert_scores_by_hand(recommender, dataset.likes["test"])


@pytest.mark.parametrize("method", METHODS)
def test_single_items_are_outfits_too(tmp_path: Path, rng: np.random.Generator, method: str) -> None:
    slots = SLOTS[2]
    shop = make_shop(tmp_path / "shop", slots, draw_likes(rng, slots, shortest=1))
    recommender = live(import_table(shop).dataset, tmp_path, method)
    likes = recommender.dataset.likes["train"]
    assert (likes.mask.sum(axis=1) == 1).any()
    if method == "pan":
        assert_scores_by_hand(recommender, likes)


# ---- odd data sets: they work, or say what is wanted


@pytest.mark.parametrize("method", METHODS)
def test_one_category_only(tmp_path: Path, rng: np.random.Generator, method: str) -> None:
    """No pair counts (decision D14), so a score is the user's taste alone."""
    slots = ("top", "top")
    likes = [row for row in draw_likes(rng, slots, per_user=20) if row[1] != row[2]]
    report = import_table(make_shop(tmp_path / "shop", slots, likes))
    assert "slots of one category only (top)" in [note.found for note in report.notes]
    recommender = live(report.dataset, tmp_path, method)
    if method == "pan":
        assert_scores_by_hand(recommender, recommender.dataset.likes["test"])


@pytest.mark.parametrize("method", METHODS)
def test_a_slot_that_nobody_fills(tmp_path: Path, rng: np.random.Generator, method: str) -> None:
    slots = ("top", "hat", "shoe")
    likes = [[user, top, "", shoe] for user, top, shoe in draw_likes(rng, ("top", "shoe"))]
    report = import_table(make_shop(tmp_path / "shop", slots, likes))
    assert "the column 'hat', empty in every row" in [note.found for note in report.notes]
    recommender = live(report.dataset, tmp_path, method)
    user = recommender.dataset.user_ids[0]
    assert np.isfinite(recommender.score(user, [("top-1", "hat-2", "shoe-3"), (None, "hat-2", None)])).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_single_user(tmp_path: Path, rng: np.random.Generator, method: str, caplog: pytest.LogCaptureFixture) -> None:
    """S2 and the miner find nobody else: their terms are 0, training goes on, and it is said once."""
    slots = SLOTS[5]
    likes = [row[1:] for row in draw_likes(rng, slots, num_users=1, per_user=100)]
    shop = make_shop(tmp_path / "shop", slots, [["", *row] for row in likes])
    write_csv(shop / "likes.csv", [list(slots), *likes])  # nobody's name
    caplog.set_level(logging.WARNING, logger="panfit")
    recommender = live(import_table(shop).dataset, tmp_path, method, kinds=["random"])
    assert recommender.dataset.user_ids == ("everybody",)
    said = [record.getMessage() for record in caplog.records if "one user only" in record.getMessage()]
    if method == "pan":
        assert len(said) == 1
        assert "loss.lambda_user and negatives.hard_ratio" in said[0]
        log = (tmp_path / "run" / "log.jsonl").read_text("utf-8")
        assert '"user": 0.0' in log
    else:
        assert not said
    with pytest.raises(DataError, match="hard"):
        evaluate(recommender.scorer, recommender.dataset, split="test", negatives="hard")


@pytest.mark.parametrize("method", METHODS)
def test_without_text(tmp_path: Path, rng: np.random.Generator, method: str) -> None:
    """Bi-LSTM and CSN ask for text and say which settings do; with these at 0 they work, as the others do.

    The start that failed does not stand in the way of the next one in the same folder.
    """
    slots = SLOTS[2]
    dataset = import_table(make_shop(tmp_path / "shop", slots, draw_likes(rng, slots), title="")).dataset
    assert dataset.catalogue.titles == (None,) * len(dataset.catalogue)
    if method not in ("bilstm", "csn"):
        live(dataset, tmp_path, method)
        return
    with pytest.raises(ConfigError, match=rf"(?s){method}\.lambda_vse.*text"):
        fit(config_of(method), dataset, tmp_path / "run", progress=False)
    silent = {name: 0.0 for name in ("lambda_vse", "lambda_text") if hasattr(getattr(config_of(method), method), name)}
    config = Config.parse(config_of(method).model_dump() | {method: silent})
    fit(config, dataset, tmp_path / "run", progress=False)


@pytest.mark.parametrize("method", METHODS)
def test_text_that_is_asked_for_and_not_there(tmp_path: Path, rng: np.random.Generator, method: str) -> None:
    slots = SLOTS[2]
    dataset = import_table(make_shop(tmp_path / "shop", slots, draw_likes(rng, slots), title="")).dataset
    with pytest.raises(DataError, match=r"have no title(?s:.*)text\.source"):
        fit(config_of(method, "titles"), dataset, tmp_path / "run", progress=False)
    with pytest.raises(DataError, match=r"no text vectors(?s:.*)text\.source"):
        fit(config_of(method, "stored"), dataset, tmp_path / "stored", progress=False)


def test_known_likes_are_left_out_in_any_order_of_their_tops(tmp_path: Path, rng: np.random.Generator) -> None:
    layout = write_layout(tmp_path / "polyvore", rng, subset="519")
    dataset = import_polyvore_u(layout.root, subset="519").dataset
    train = dataset.likes["train"]
    pair = train.take(np.flatnonzero(train.mask[:, 1])[:1])  # one like of two tops
    other_user = (pair.users + 1) % len(dataset.user_ids)
    turned = pair.items[:, [1, 0, 2, 3]]
    likes = {**dataset.likes, "test": Outfits(np.append(other_user, other_user), np.vstack([turned, turned]))}
    recommender = live(dataset, tmp_path, "pan")
    recommender = Recommender(
        recommender.model, dataclasses.replace(dataset, likes=likes, negatives={}, fitb={}), recommender.inputs
    )
    outfits, _ = recommender.recommend(dataset.user_ids[int(pair.users[0])], top=10_000)
    ids = dataset.catalogue.ids(pair.items[0].tolist())
    assert frozenset(ids) not in map(frozenset, outfits)
    assert len(set(map(frozenset, outfits))) == len(outfits)
