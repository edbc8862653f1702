"""Popularity and LinearTaste: equal to plain loops; they learn a planted taste, nothing else, and keep it."""

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from panfit.baselines import plain
from panfit.baselines.linear import LinearTaste, color_histograms
from panfit.baselines.plain import PlainModel
from panfit.baselines.popularity import Popularity
from panfit.config import Config, ImageConfig
from panfit.data.splits import complete
from panfit.errors import ConfigError, MissingExtraError
from panfit.evaluate import evaluate
from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.model.batch import PanShape
from panfit.outfits import ABSENT, Catalogue, Dataset, IntArray, Outfits, Slot
from panfit.rival_config import LinearConfig
from panfit.train.plain import fit_plain_model

NUM_TOPS, NUM_SHOES = 36, 24
SLOTS = (Slot("top", "top"), Slot("layer", "top"), Slot("shoe", "shoe"))
RED, BLUE, NOBODY = 0, 1, 2
"""The users: one likes red outfits, one blue ones, one nothing."""
CONFIG = Config.parse({"linear": {"bins": 2, "negatives": 4}})


def is_red(items: IntArray) -> NDArray[np.bool_]:
    """(...) item rows -> (...); the colors alternate two by two, so that even and odd rows have both."""
    return np.equal(items // 2 % 2, 0)


def outfits_liked(user: int, parity: int, rng: np.random.Generator, *, signal: bool) -> IntArray:
    """(12, S) outfits of the user's color (of any color without signal) from the rows of one parity; half no layer."""
    rows = np.arange(NUM_TOPS + NUM_SHOES)
    wanted = (rows % 2 == parity) & ((is_red(rows) == (user == RED)) | (not signal))
    tops, shoes = rows[wanted & (rows < NUM_TOPS)], rows[wanted & (rows >= NUM_TOPS)]
    outfits = np.stack([rng.choice(tops, 12), rng.choice(tops, 12), rng.choice(shoes, 12)], axis=1)  # (12, S)
    outfits[::2, 1] = ABSENT
    return outfits


def closet(*, signal: bool = True) -> Dataset:
    """Train likes of the even rows' items, test likes of the odd rows': no item is in both."""
    rng = np.random.default_rng(8)
    users = np.repeat([RED, BLUE], 12)
    train, test = (
        Outfits(users, np.concatenate([outfits_liked(user, parity, rng, signal=signal) for user in (RED, BLUE)]))
        for parity in (0, 1)
    )
    categories = ("top",) * NUM_TOPS + ("shoe",) * NUM_SHOES
    catalogue = Catalogue(
        item_ids=tuple(f"i{row}" for row in range(len(categories))),
        item_categories=categories,
        images=(None,) * len(categories),
        titles=(None,) * len(categories),
        categories=("top", "shoe"),
        image_root=Path(),
    )
    likes = Dataset("closet", SLOTS, ("red", "blue", "nobody"), catalogue, {"train": train, "test": test})
    return complete(likes, seed=4)


def photos_of(dataset: Dataset) -> ItemInputs:
    """Noisy red and noisy blue garments on white."""
    rng = np.random.default_rng(9)
    num_items = len(dataset.catalogue)
    photos = np.full((num_items, 3, 12, 12), 255, dtype=np.uint8)
    garments = rng.integers(0, 100, (num_items, 3, 6, 6), dtype=np.uint8)  # (N, 3, 6, 6)
    strong = np.where(is_red(np.arange(num_items)), 0, 2)  # (N,) the channel that is high
    garments[np.arange(num_items), strong] += 140
    photos[:, :, 3:9, 3:9] = garments
    return ItemInputs(photos, torch.from_numpy(dataset.catalogue.category_rows.copy()), None, ImageConfig())


def shape_of(dataset: Dataset) -> PanShape:
    return PanShape(
        num_users=len(dataset.user_ids),
        slots=tuple((slot.name, slot.category) for slot in dataset.slots),
        categories=dataset.catalogue.categories,
        text_dim=None,
        input_shape=(3, 12, 12),
        num_items=len(dataset.catalogue),
    )


def fitted(kind: type[PlainModel], dataset: Dataset, config: Config = CONFIG) -> PlainModel:
    model = kind(config, shape_of(dataset))
    fit_plain_model(model, dataset, photos_of(dataset))
    return model


@pytest.mark.parametrize(("bins", "middle"), [(2, 0.6), (3, 0.6), (5, 1.0), (16, 0.01)])
def test_a_histogram_is_what_counting_pixel_by_pixel_gives(
    bins: int, middle: float, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr("panfit.baselines.linear.PHOTOS_PER_BLOCK", 2)
    photos = rng.integers(0, 256, (5, 3, 7, 10), dtype=np.uint8)
    found = color_histograms(photos, LinearConfig(bins=bins, middle=middle))
    height, width = {0.6: (4, 6), 1.0: (7, 10), 0.01: (1, 1)}[middle]
    assert found.shape == (5, bins**3)
    assert found.dtype == np.float32
    for row in range(5):
        shares = [0.0] * bins**3
        for y in range((7 - height) // 2, (7 - height) // 2 + height):
            for x in range((10 - width) // 2, (10 - width) // 2 + width):
                red, green, blue = (math.floor(float(photos[row, channel, y, x]) / 256 * bins) for channel in range(3))
                shares[red * bins * bins + green * bins + blue] += 1 / (height * width)
        assert sum(shares) == pytest.approx(1)
        assert found[row] == pytest.approx([math.sqrt(share) for share in shares], abs=1e-6)


def test_popularity_is_the_mean_log_count_of_what_is_worn() -> None:
    dataset = closet()
    model = fitted(Popularity, dataset)
    train = dataset.likes["train"]
    count: Counter[int] = Counter()
    for outfit in train.items.tolist():
        count.update(item for item in outfit if item != ABSENT)
    scores = model.scores(train, binary=True)
    for outfit, score in zip(train.items.tolist(), scores, strict=True):
        worn = [item for item in outfit if item != ABSENT]
        assert score == pytest.approx(sum(math.log(1 + count[item]) for item in worn) / len(worn))
    assert len(set(scores.tolist())) > 5


def test_popularity_ties_where_no_test_item_was_seen() -> None:
    dataset = closet()
    result = evaluate(fitted(Popularity, dataset), dataset, resamples=0)
    assert (result.auc, result.fitb) == (0.5, 1 / dataset.fitb["test"].candidates.shape[1])


def test_a_linear_score_is_w_x_plus_c_slot_by_slot(rng: np.random.Generator) -> None:
    dataset = closet()
    model = LinearTaste(CONFIG, shape_of(dataset))
    num_colors = 2**3
    for buffer in model.buffers():
        buffer.copy_(torch.from_numpy(rng.normal(size=buffer.shape)))
    outfits = Outfits(np.array([1, 2, 0, 1]), np.array([[3, 4, 40], [3, ABSENT, 41], [ABSENT, 5, ABSENT], [4, 3, 40]]))
    scores = model.scores(outfits, binary=False)
    for user, outfit, score in zip(outfits.users.tolist(), outfits.items.tolist(), scores, strict=True):
        wanted = float(model.bias[user])
        for slot, item in enumerate(outfit):
            for color in range(num_colors):
                share = 0.0 if item == ABSENT else float(model.histograms[item, color])
                wanted += float(model.weights[user, slot * num_colors + color]) * share
        assert score == pytest.approx(wanted, abs=1e-5)
    assert scores[0] != pytest.approx(scores[3]), "two slots of one category have weights of their own"


def test_a_users_weights_are_where_the_regularized_log_loss_is_flat(rng: np.random.Generator) -> None:
    dataset = closet(signal=False)  # a loss that stays away from 0
    likes = dataset.likes["train"]
    negatives = Outfits(likes.users, likes.items[rng.permutation(len(likes))])
    strength = 3.0
    model = LinearTaste(Config.parse({"linear": {"bins": 2, "strength": strength}}), shape_of(dataset))
    model.fit_likes(likes, negatives, photos_of(dataset))
    for user in (RED, BLUE):
        weight, bias = model.weights[user].double().tolist(), float(model.bias[user])
        gradient, bias_gradient = list(weight), 0.0  # of |w|^2 / 2 + C sum log(1 + exp(-+(w x + c)))
        for outfits, sign in ((likes, 1), (negatives, -1)):
            for outfit in outfits.items[outfits.users == user].tolist():
                x = [0.0] * 8 * 3
                for slot, item in enumerate(outfit):
                    if item != ABSENT:
                        x[slot * 8 : slot * 8 + 8] = model.histograms[item].tolist()
                y = sum(w * each for w, each in zip(weight, x, strict=True)) + bias
                pull = -sign * strength / (1 + math.exp(sign * y))
                gradient = [total + pull * each for total, each in zip(gradient, x, strict=True)]
                bias_gradient += pull
        assert max(map(abs, weight)) > 0.2
        assert max(map(abs, [*gradient, bias_gradient])) < 0.02


@pytest.mark.parametrize(("signal", "low", "high"), [(True, 0.9, 1.0), (False, 0.3, 0.7)])
def test_linear_learns_a_planted_taste_and_only_that(signal: bool, low: float, high: float) -> None:
    dataset = closet(signal=signal)
    result = evaluate(fitted(LinearTaste, dataset), dataset, resamples=0)
    assert low < result.auc <= high
    assert result.relaxed["auc"] == result.auc


def test_a_user_without_train_likes_has_no_taste() -> None:
    dataset = closet()
    model = fitted(LinearTaste, dataset)
    assert isinstance(model, LinearTaste)
    test = dataset.likes["test"]
    assert not model.scores(Outfits(np.full(len(test), NOBODY), test.items), binary=True).any()
    assert not model.weights[NOBODY].any()
    assert model.weights[[RED, BLUE]].any(dim=1).all()


def test_a_user_who_likes_all_there_is_has_no_taste_either() -> None:
    everything = np.array([[top, ABSENT, shoe] for top in (0, 2) for shoe in (36, 38)])
    dataset = replace(closet(), likes={"train": Outfits(np.full(4, BLUE), everything)}, negatives={}, fitb={})
    model = fitted(LinearTaste, dataset)
    assert isinstance(model, LinearTaste)
    assert model.histograms.any()
    assert not model.weights.any()


@pytest.mark.parametrize("kind", [Popularity, LinearTaste])
def test_a_state_dict_keeps_all_that_was_learned(kind: type[PlainModel]) -> None:
    dataset = closet()
    model, other = fitted(kind, dataset), kind(CONFIG, shape_of(dataset), generator=torch.Generator(), pretrained=False)
    assert not list(model.parameters())
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}
    wanted = model.scores(dataset.likes["train"], binary=True)
    assert not other.scores(dataset.likes["train"], binary=True).any()
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.scores(dataset.likes["train"], binary=True), wanted)


def test_the_seed_decides_the_negatives_and_nothing_else_does() -> None:
    dataset = closet()
    before = torch.get_rng_state()
    first, again = (fitted(LinearTaste, dataset).state_dict() for _ in range(2))
    other = fitted(LinearTaste, dataset, CONFIG.model_copy(update={"seed": 1})).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(first["histograms"], other["histograms"])
    assert not torch.equal(first["weights"], other["weights"])
    assert torch.equal(torch.get_rng_state(), before)


def test_fitting_again_forgets_the_first_time() -> None:
    dataset = closet()
    model = fitted(LinearTaste, dataset)
    wanted = {name: buffer.clone() for name, buffer in model.state_dict().items()}
    only_red = replace(dataset, likes={"train": dataset.likes["train"].take(np.arange(12))}, negatives={}, fitb={})
    fit_plain_model(model, only_red, photos_of(dataset))
    assert not model.state_dict()["weights"][BLUE].any()
    fit_plain_model(model, dataset, photos_of(dataset))
    assert all(torch.equal(buffer, wanted[name]) for name, buffer in model.state_dict().items())


@pytest.mark.parametrize("kind", [Popularity, LinearTaste])
def test_scores_come_in_blocks_of_any_size(kind: type[PlainModel], monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = closet()
    model, train = fitted(kind, dataset), dataset.likes["train"]
    wanted = model.scores(train, binary=True)
    monkeypatch.setattr(plain, "BATCH_OUTFITS", 5)
    for scores in (model.scores(train, binary=False), *model.both(train)):
        assert scores.dtype == np.float64
        np.testing.assert_array_equal(scores, wanted)
    assert model.scores(train.take(np.arange(0)), binary=True).shape == (0,)


def test_colors_of_feature_maps_cannot_be_counted() -> None:
    dataset = closet()
    maps = KeptMaps(np.zeros((len(dataset.catalogue), 5, 2, 3), dtype=np.float32), None)
    model = LinearTaste(CONFIG, shape_of(dataset))
    with pytest.raises(ConfigError, match=r'are kept. Set backbone.source = "images"'):
        fit_plain_model(model, dataset, replace(photos_of(dataset), source=maps))


def test_without_scikit_learn_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn .*panfit\[text\]"):
        fitted(LinearTaste, closet())


def test_a_shape_must_say_how_many_items_there_are() -> None:
    with pytest.raises(ValueError, match="num_items"):
        Popularity(CONFIG, shape_of(closet()).model_copy(update={"num_items": None}))
