"""FHN's numbers agree with an independent check: the same start, the same batches, the same weights step after step.

FHN (Lu et al., CVPR 2019) is PAN with its additions set to nothing. `ByHand` trains it from the equations alone: Eq. 4,
6 and 8 in plain loops (`tests/oracles.py`), codes, encoders, momentum and the halving rates written out here. Of panfit
it sees only the initial weights and which outfits each step drew.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from panfit.config import Config, ImageConfig
from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.model.pan import Pan, PanShape
from panfit.outfits import ABSENT, IntArray, Outfits
from panfit.train.optimizer import beta_at, build_optimizer, rate_factor, set_rates
from panfit.train.step import Triplets, TripletSource, outfits_of, step_terms
from panfit.train.step_inputs import StepInputs
from tests.oracles import bpr, preference, user_embedding, visual_semantic

NUM_USERS, CODE_BITS, MAP_SHAPE, TEXT_DIM = 7, 8, (5, 2, 3), 9
SLOT_CATEGORIES = ("top", "top", "bottom", "shoe")
CATEGORIES = ("top", "bottom", "shoe")
ITEM_CATEGORIES = (0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2)
TOPS, BOTTOMS, SHOES = (np.flatnonzero(np.equal(ITEM_CATEGORIES, category)) for category in range(3))
LIKES = Outfits(
    users=np.array([0, 3, 3, 1, 6]),
    items=np.array([[0, 1, 5, 9], [2, ABSENT, 6, 10], [3, 0, 8, 11], [4, ABSENT, 7, 9], [1, 2, 5, 11]]),
)
BATCH_SIZE, STEPS_PER_EPOCH = 3, 2
NUM_STEPS = 24
"""Twelve epochs: the last runs at half the rates."""
AGREE, DIFFER = 1e-10, 1e-6
"""Largest relative difference of weights that agree (both sides are float64), least of weights that do not."""

Weights = dict[str, Tensor]
Code = list[Tensor]
"""D numbers, each a tensor () with a gradient."""


@dataclass(frozen=True)
class Taken:
    """One step as panfit took it: which outfits, at what loss, and the weights after it."""

    epoch: int
    triplets: Triplets
    loss: float
    weights: Weights


@dataclass(frozen=True, eq=False)
class DoubleInputs(ItemInputs):
    """Maps in float64, so that agreement can be asked to many digits."""

    def batch(
        self, rows: IntArray, *, generator: torch.Generator | None = None, device: str | torch.device = "cpu"
    ) -> Tensor:
        return super().batch(rows, generator=generator, device=device).double()  # (n, C, H, W)


@functools.cache
def inputs() -> DoubleInputs:
    rng = np.random.default_rng(12)
    return DoubleInputs(
        KeptMaps(rng.normal(size=(len(ITEM_CATEGORIES), *MAP_SHAPE)).astype(np.float32), None),
        torch.tensor(ITEM_CATEGORIES),
        torch.from_numpy(rng.normal(size=(len(ITEM_CATEGORIES), TEXT_DIM))),
        ImageConfig(),
    )


def fhn_config(lambda_vse: float) -> Config:
    """FHN's settings (its released config of 630 users), with small encoders and without drop-out.

    The initial weights are wider than FHN's .01, so that a few steps go somewhere.
    """
    return Config.parse(
        {
            "backbone": {"source": "stored", "store": "maps", "head": "pool"},
            "attention": {"kind": "none"},
            "model": {
                "code_bits": CODE_BITS, "image_hidden": 6, "text_hidden": 4, "dropout": 0.0, "input_dropout": 0.0,
                "user_init_std": 0.2, "encoder_init_std": 0.8,
            },
            "negatives": {"per_like": 2, "hard_ratio": 0.0},
            "loss": {"lambda_user": 0.0, "lambda_vse": lambda_vse},
            "optimizer": {
                "name": "sgd", "user": 10.0, "trunk": 0.001, "image_encoder": 0.01, "text_encoder": 0.01,
                "predictor": 0.1, "momentum": 0.9, "schedule": "fhn",
            },
            "train": {"epochs": 100, "batch_size": BATCH_SIZE, "beta": "sqrt"},
        }
    )  # fmt: skip


@functools.cache
def trained_by_panfit(lambda_vse: float) -> tuple[Weights, list[Taken]]:
    """The initial weights, and every step of panfit's own triplets, model, terms, optimizer and schedules."""
    config = fhn_config(lambda_vse)
    shape = PanShape(
        num_users=NUM_USERS,
        slots=tuple((f"{place}", category) for place, category in enumerate(SLOT_CATEGORIES)),
        categories=CATEGORIES,
        text_dim=TEXT_DIM,
        input_shape=MAP_SHAPE,
    )
    model = Pan(config, shape, generator=torch.Generator().manual_seed(5)).double().train()
    optimizer = build_optimizer(model.parameter_groups(), config.optimizer)
    source = TripletSource(LIKES, (TOPS, TOPS, BOTTOMS, SHOES), SLOT_CATEGORIES, config=config)
    start = copy_of(dict(model.named_parameters()))
    steps = []
    for done in range(NUM_STEPS):
        epoch, step = divmod(done, STEPS_PER_EPOCH)
        rng, generator = np.random.default_rng(done), torch.Generator().manual_seed(done)
        factor = rate_factor(
            config.optimizer, step=done, steps_per_epoch=STEPS_PER_EPOCH, num_epochs=config.train.epochs
        )
        set_rates(optimizer, config.optimizer, factor)
        beta = beta_at(config.train, epoch)
        likes = LIKES.take(np.arange(len(LIKES))[step * BATCH_SIZE :][:BATCH_SIZE])
        items = StepInputs(model, inputs(), generator=generator, device=torch.device("cpu"))
        triplets = source.draw(likes, items, epoch=epoch, beta=beta, rng=rng, generator=generator)
        batch = items.batch(*outfits_of(triplets))
        loss = step_terms(model(batch, beta=beta), batch, triplets, config=config)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps.append(Taken(epoch, triplets, loss.item(), copy_of(dict(model.named_parameters()))))
    return start, steps


class OutfitCodes:
    """(S, V, D) codes as the oracle indexes them, but without a tensor around them: gradients would be slow."""

    def __init__(self, of_items: Sequence[tuple[Code, Code]]) -> None:
        self.of_items = of_items
        self.shape = (len(of_items), 2, CODE_BITS)

    def __getitem__(self, place: tuple[int, int]) -> Code:
        slot, modality = place
        return self.of_items[slot][modality]


@dataclass(frozen=True)
class ByHand:
    """FHN from its equations. The fields have its values; another value is a slip made on purpose."""

    lambda_vse: float
    margin: float = 0.1
    scale: float = 10.0
    categories: Sequence[str] = SLOT_CATEGORIES
    preferred: int = 1
    """Of Eq. 6: 1 where the liked outfit is to score higher."""
    steepness: float = 0.5
    """beta = (epoch + 1)^steepness, epochs counted from 0."""
    momentum: float = 0.9
    decay: float = 1e-6
    rates: dict[str, float] = field(
        default_factory=lambda: {"user_encoder": 10, "image_encoder": 0.01, "text_encoder": 0.01, "predictor": 0.1}
    )
    halvings: Sequence[int] = (11, 32, 53, 74, 95)
    """Epochs after which every rate is halved."""

    def train(self, start: Weights, steps: Sequence[Taken]) -> list[tuple[float, Weights]]:
        """The loss of each step, and the weights after it."""
        weights, velocity = copy_of(start), {name: torch.zeros_like(weight) for name, weight in start.items()}
        trained = []
        for step in steps:
            leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
            loss = self.loss(leaves, step.triplets, beta=(step.epoch + 1) ** self.steepness)
            gradients = torch.autograd.grad(loss, list(leaves.values()))
            share = 0.5 ** sum(epoch <= step.epoch for epoch in self.halvings)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                velocity[name] = self.momentum * velocity[name] + gradient + self.decay * weight
                weights[name] = weight - self.rates[name.split(".")[0]] * share * velocity[name]
            trained.append((loss.item(), copy_of(weights)))
        return trained

    def loss(self, weights: Weights, triplets: Triplets, *, beta: float) -> Tensor:
        """Eq. 6 over the likes and their negatives, plus Eq. 8 over what the likes wear."""
        users, liked = triplets.likes.users.tolist(), triplets.likes.items.tolist()
        negatives = triplets.negatives.tolist()
        worn = {item for outfit in [*liked, *(each for row in negatives for each in row)] for item in outfit}
        codes = {item: item_codes(weights, item, beta) for item in worn - {ABSENT}}
        tastes = {user: user_code(weights, user, beta) for user in set(users)}
        positive, negative = [], []
        for user, outfit, others in zip(users, liked, negatives, strict=True):
            positive.append([self.score(weights, tastes[user], outfit, codes)] * len(others))
            negative.append([self.score(weights, tastes[user], other, codes) for other in others])
        if self.preferred < 0:
            positive, negative = negative, positive
        rows = [item for outfit in liked for item in outfit if item != ABSENT]
        images, texts = [codes[item][0] for item in rows], [codes[item][1] for item in rows]
        loss: Tensor = bpr(positive, negative, triplets.negative_valid.tolist())
        if self.lambda_vse:
            loss = loss + self.lambda_vse * visual_semantic(images, texts, rows, self.margin)
        return loss

    def score(self, weights: Weights, taste: Code, outfit: list[int], codes: dict[int, tuple[Code, Code]]) -> Tensor:
        """Eq. 4 for one user's code and one outfit."""
        nothing = [torch.zeros((), dtype=torch.float64)] * CODE_BITS
        score: Tensor
        score, _, _ = preference(
            taste,
            OutfitCodes([(nothing, nothing) if item == ABSENT else codes[item] for item in outfit]),
            [item != ABSENT for item in outfit],
            self.categories,
            weights["predictor.user_item_weight"],
            weights["predictor.item_item_weight"],
            alpha=1.0,
            scale=self.scale,
        )
        return score


def user_code(weights: Weights, user: int, beta: float) -> Code:
    """tanh(beta f_u), f_u of Eq. 1."""
    return [torch.tanh(beta * each) for each in user_embedding(weights["user_encoder.embedding.weight"], user)]


def item_codes(weights: Weights, item: int, beta: float) -> tuple[Code, Code]:
    """The code of an item's photo and that of its text, by its category's two layers each."""
    kept, text = inputs().source, inputs().text
    assert isinstance(kept, KeptMaps)
    assert text is not None
    channels, height, width = MAP_SHAPE
    pooled = [
        sum(float(kept.maps[item, c, y, x]) for y in range(height) for x in range(width)) / (height * width)
        for c in range(channels)
    ]
    category = ITEM_CATEGORIES[item]
    image = two_layers(weights, f"image_encoder.networks.{category}", (2, 5), pooled)
    words = two_layers(weights, f"text_encoder.networks.{category}", (0, 3), text[item].tolist())
    return [torch.tanh(beta * each) for each in image], [torch.tanh(beta * each) for each in words]


def two_layers(weights: Weights, name: str, places: tuple[int, int], vector: list[float]) -> Code:
    """W_2 max(0, W_1 x + b_1); ``places``: where the layers stand in panfit's encoder."""
    w_1, b_1 = weights[f"{name}.{places[0]}.weight"], weights[f"{name}.{places[0]}.bias"]
    hidden = []
    for row, bias in zip(w_1.unbind(), b_1.unbind(), strict=True):
        total = bias
        for weight, each in zip(row.unbind(), vector, strict=True):
            total = total + weight * each
        hidden.append(total if total > 0 else 0 * total)
    logits = []
    for row in weights[f"{name}.{places[1]}.weight"].unbind():
        total = 0 * hidden[0]
        for weight, unit in zip(row.unbind(), hidden, strict=True):
            total = total + weight * unit
        logits.append(total)
    return logits


def copy_of(weights: Weights) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def difference(found: Weights, wanted: Weights) -> float:
    """The largest difference of any weight, each tensor's measured by its own largest weight."""
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).abs().max() / wanted[name].abs().max()) for name in wanted)


@pytest.mark.parametrize("lambda_vse", [0.0, 0.1])
def test_fhns_numbers_agree_with_an_independent_check(lambda_vse: float) -> None:
    start, steps = trained_by_panfit(lambda_vse)
    for taken, (loss, weights) in zip(steps, ByHand(lambda_vse).train(start, steps), strict=True):
        assert taken.loss == pytest.approx(loss, rel=AGREE)
        assert difference(taken.weights, weights) < AGREE


def test_the_checked_run_goes_somewhere() -> None:
    """Otherwise agreement says little: it learns, every weight moves, and the last epoch runs at half the rates."""
    start, steps = trained_by_panfit(0.1)
    assert steps[-1].epoch == 11
    assert np.mean([step.loss for step in steps[-4:]]) < 0.7 * np.mean([step.loss for step in steps[:4]])
    for name, weight in steps[-1].weights.items():
        assert float((weight - start[name]).abs().max()) > 1e-3, name


@pytest.mark.parametrize(
    "slip",
    [
        {"scale": 9.99},
        {"preferred": -1},
        {"categories": ("top", "layer", "bottom", "shoe")},
        {"margin": 0.11},
        {"lambda_vse": 0.099},
        {"steepness": 0.49},
        {"momentum": 0.89},
        {"decay": 0.0},
        {"rates": {"user_encoder": 9.9, "image_encoder": 0.01, "text_encoder": 0.01, "predictor": 0.1}},
        {"rates": {"user_encoder": 10, "image_encoder": 0.011, "text_encoder": 0.01, "predictor": 0.1}},
        {"rates": {"user_encoder": 10, "image_encoder": 0.01, "text_encoder": 0.011, "predictor": 0.1}},
        {"halvings": (1,)},
    ],
    ids=lambda slip: "-".join(slip),
)
def test_a_slip_of_one_setting_would_show(slip: dict[str, Any]) -> None:
    start, steps = trained_by_panfit(0.1)
    few = steps[:3]
    loss, weights = replace(ByHand(0.1), **slip).train(start, few)[-1]
    assert math.isfinite(loss)
    assert difference(few[-1].weights, weights) > DIFFER
