"""What the loop trains: PAN or a rival. A batch of likes in, Eq. 9's named terms (or the rival's own) out.

The loop knows no method. A learner draws its negatives, runs its model and names its terms; every one of them samples
from the same pools with the same chance, so that methods are compared on the same footing.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from panfit.baselines.rival import Rival, RivalBatch
from panfit.config import Config
from panfit.evaluate import Scorer
from panfit.features.inputs import ItemInputs
from panfit.methods import LearnedModel, make_model, make_scorer, shape_of
from panfit.model.pan import Pan
from panfit.outfits import Dataset, Outfits
from panfit.train.chance import INITIAL, chance_seed
from panfit.train.distributed import ALONE, Ranks
from panfit.train.step import TripletSource, outfits_of, step_terms
from panfit.train.step_inputs import StepInputs
from panfit.train.triplets import RandomNegatives


@dataclass(frozen=True, eq=False)
class Moment:
    """Where training stands when a step is taken, and its chance.

    Attributes:
        epoch: from 0.
        beta: of the relaxed codes (decision D7).
        hard_codes: train on straight-through codes.
        rng, generator: the step's chance, for numpy and for torch; the same in every process.
        own_generator: of what differs between processes, the photos' augmentation; `generator` itself in one that
            trains alone.
    """

    epoch: int
    beta: float
    hard_codes: bool
    rng: np.random.Generator
    generator: torch.Generator
    own_generator: torch.Generator


class Learner(Protocol):
    """A model and how it learns from a batch of likes."""

    @property
    def model(self) -> LearnedModel:
        """What is trained, evaluated and saved."""
        ...

    def terms(self, likes: Outfits, moment: Moment) -> dict[str, Tensor]:
        """The named terms of the loss on (B) likes, and their weighted sum as "total".

        Of several processes each is given the likes of all, and has the terms of all; the gradients of its own share.
        """
        ...

    def scorer(self, beta: float) -> Scorer:
        """What scores outfits with the model's weights as they are now."""
        ...

    def settle(self, beta: float) -> None:
        """Called before the model is saved: what it must remember of the moment."""
        ...


class PanLearner:
    """PAN, and FHN: triplets, mining, one forward pass, Eq. 9's terms."""

    def __init__(
        self,
        model: Pan,
        dataset: Dataset,
        inputs: ItemInputs,
        config: Config,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self._inputs, self._config, self._device, self._ranks = inputs, config, device, ranks
        self.triplets = TripletSource(
            dataset.likes["train"],
            dataset.split_items("train"),
            tuple(slot.category for slot in dataset.slots),
            config=config,
            ranks=ranks,
        )

    def terms(self, likes: Outfits, moment: Moment) -> dict[str, Tensor]:
        items = StepInputs(self.model, self._inputs, generator=moment.own_generator, device=self._device)
        own, counted = _own(likes, self._ranks)
        triplets = self.triplets.draw(
            likes, items, epoch=moment.epoch, beta=moment.beta, rng=moment.rng, generator=moment.generator, own=own
        )
        batch = items.batch(*outfits_of(triplets))
        output = self.model(batch, beta=moment.beta, straight_through=moment.hard_codes)
        return step_terms(output, batch, triplets, config=self._config, ranks=self._ranks, counted=counted)

    def scorer(self, beta: float) -> Scorer:
        return make_scorer(self.model, self._inputs, beta=beta)

    def settle(self, beta: float) -> None:
        self.model.beta.fill_(beta)  # a checkpoint's relaxed codes are those it was trained with


class RivalLearner:
    """A rival of Table 1: the same likes and the same random negatives as PAN's, users dropped.

    Of several processes each has its own rows' loss, which weighs by their number; what a loss compares within a batch
    (Bi-LSTM's softmax, the visual-semantic terms) is compared within a process's own.
    """

    def __init__(
        self,
        model: Rival,
        dataset: Dataset,
        inputs: ItemInputs,
        config: Config,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self._inputs, self._device, self._ranks = inputs, device, ranks
        self._negatives = RandomNegatives(
            dataset.likes["train"],
            dataset.split_items("train"),
            tuple(slot.category for slot in dataset.slots),
            config=config.negatives,
        )

    def terms(self, likes: Outfits, moment: Moment) -> dict[str, Tensor]:
        own, counted = _own(likes, self._ranks)
        weight = (own.stop - own.start if counted is None else counted) / len(likes)
        negatives, valid = (drawn[own] for drawn in self._negatives.draw(likes, moment.rng))  # (B, K, S), (B, K)
        likes = likes.take(np.arange(len(likes))[own])
        num_likes, num_slots = likes.items.shape
        outfits = np.concatenate([likes.items, negatives.reshape(-1, num_slots)])  # (B + B*K, S)
        items = StepInputs(self.model, self._inputs, generator=moment.own_generator, device=self._device)
        batch = items.batch(np.zeros(len(outfits), dtype=np.int64), outfits)
        terms = self.model.terms(
            RivalBatch(
                maps=batch.inputs,
                categories=batch.categories,
                text=batch.text,
                likes=batch.items[:num_likes],  # (B, S)
                negatives=batch.items[num_likes:].view(*valid.shape, num_slots),  # (B, K, S)
                valid=torch.from_numpy(valid).to(self._device),  # (B, K)
            )
        )
        return self._ranks.add_up(terms, weight=weight)

    def scorer(self, beta: float) -> Scorer:
        return make_scorer(self.model, self._inputs, beta=beta)

    def settle(self, beta: float) -> None:
        """A rival has nothing to remember."""


def _own(likes: Outfits, ranks: Ranks) -> tuple[slice, int | None]:
    """Which of a step's likes this process works on, and how many of them count: all (None), or, where the step has
    fewer likes than there are processes, none of the one that it works on to have something in hand."""
    own = ranks.share(len(likes))
    return (own, None) if own.stop > own.start else (slice(0, 1), 0)


def build_model(config: Config, dataset: Dataset, inputs: ItemInputs) -> LearnedModel:
    """A new model of ``config.method`` for a data set, its weights drawn from the config's seed."""
    generator = torch.Generator().manual_seed(chance_seed(config.seed, INITIAL))
    return make_model(config, shape_of(dataset, inputs), generator=generator)


def build_pan(config: Config, dataset: Dataset, inputs: ItemInputs) -> Pan:
    """`build_model` where ``config.method`` is "pan"."""
    model = build_model(config, dataset, inputs)
    assert isinstance(model, Pan)
    return model


def learner_of(
    model: LearnedModel,
    dataset: Dataset,
    inputs: ItemInputs,
    config: Config,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Learner:
    """The learner for a model of its kind."""
    if isinstance(model, Pan):
        return PanLearner(model, dataset, inputs, config, device, ranks)
    if isinstance(model, Rival):
        return RivalLearner(model, dataset, inputs, config, device, ranks)
    raise TypeError(f"{type(model).__name__} is not trained step by step")
