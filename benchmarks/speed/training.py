"""What the training cases share: panfit's step, its bare arithmetic, and the plain step, timed in turns."""

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.speed.measuring import Work, digits, in_turns, machine, multiply_adds, seconds, watched_memory
from benchmarks.speed.plain_training import Load, PlainTraining
from panfit.config import Config
from panfit.features.inputs import ItemInputs
from panfit.model.pan import OutfitBatch, Pan
from panfit.outfits import Dataset
from panfit.train.learner import Moment, PanLearner
from panfit.train.optimizer import build_optimizer

PLAIN_LIKES = 16
EPOCH, BETA = 3, 1.0
"""A moment after the warm-up, when everything is mined that will be."""


@dataclass
class Call:
    """A forward pass that a step made, so that it can be made again on its own."""

    batch: OutfitBatch
    options: dict[str, Any]
    is_training: bool
    has_gradient: bool


@dataclass
class Steps:
    """Training steps of panfit, and of their arithmetic alone."""

    model: Pan
    dataset: Dataset
    inputs: ItemInputs
    config: Config
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.learner = PanLearner(self.model, self.dataset, self.inputs, self.config, torch.device("cpu"))
        self.optimizer = build_optimizer(self.model.parameter_groups(), self.config.optimizer)
        self.likes = self.dataset.likes["train"]
        self.hard = self.config.train.straight_through_from * self.config.train.epochs <= EPOCH
        self.taken = 0
        self.model.train()

    def whole(self) -> float:
        """A step: likes taken, negatives drawn, mined, items gathered, forward, backward, optimizer, losses read."""
        self.taken += 1
        rng, generator = np.random.default_rng(self.taken), torch.Generator().manual_seed(self.taken)
        rows = rng.permutation(len(self.likes))[: self.config.train.batch_size]
        moment = Moment(
            epoch=EPOCH, beta=BETA, hard_codes=self.hard, rng=rng, generator=generator, own_generator=generator
        )
        terms = self.learner.terms(self.likes.take(rows), moment)
        self.optimizer.zero_grad()
        terms["total"].backward()
        self.optimizer.step()
        return {name: float(value.detach()) for name, value in terms.items()}["total"]

    def record(self) -> None:
        """Take one step and keep its forward passes."""
        self.calls.clear()

        def keep(module: torch.nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            self.calls.append(Call(arguments[0], options, module.training, torch.is_grad_enabled()))

        hook = self.model.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            self.whole()
        finally:
            hook.remove()

    def bare(self) -> None:
        """The recorded forward passes on the tensors as they were, one backward pass, the optimizer."""
        for call in self.calls:
            self.model.train(call.is_training)
            with torch.set_grad_enabled(call.has_gradient):
                output = self.model(call.batch, **call.options)
        self.optimizer.zero_grad()
        output.score.square().mean().backward()
        self.optimizer.step()
        self.model.train()


def compare(
    model: Pan,
    dataset: Dataset,
    inputs: ItemInputs,
    config: Config,
    *,
    load: Load,
    from_photos: bool,
    rounds: int,
    steps: int,
) -> dict[str, Any]:
    """Panfit's steps, the bare model's where maps are frozen, and plain steps, each from the same initial weights.

    Args:
        model: new; it is trained here.
        load: how the plain way comes by an item.
        from_photos: the trunk is trained too.
        rounds, steps: so many steps in each of so many rounds, and one plain step of each kind.

    Returns:
        plain passes one outfit at a time through the model, timed on `PLAIN_LIKES` likes and multiplied; plain_batched,
        as many as a step has likes.
    """
    random.seed(config.seed)
    plain_model = copy.deepcopy(model).train()
    ours = Steps(model, dataset, inputs, config)
    batch_size = min(config.train.batch_size, len(dataset.likes["train"]))
    few = min(PLAIN_LIKES, batch_size)

    def plain_steps(likes: int, at_a_time: int) -> Iterator[float]:
        train = config.train.model_copy(update={"batch_size": likes})
        plain = PlainTraining(
            plain_model,
            dataset,
            config.model_copy(update={"train": train}),
            build_optimizer(plain_model.parameter_groups(), config.optimizer),
            load=load,
            text=inputs.text,
            from_photos=from_photos,
            at_a_time=at_a_time,
        )
        for batch in plain.batches():
            yield plain.step(batch, beta=BETA, hard=ours.hard)

    one_by_one, batched = plain_steps(few, 1), plain_steps(batch_size, batch_size)

    def whole_steps() -> None:
        for _ in range(steps):
            ours.whole()

    def bare_steps() -> None:
        for _ in range(steps):
            ours.bare()

    rates = machine()
    ours.record()
    with watched_memory() as memory:
        whole_steps()
    operations = multiply_adds(ours.whole)
    works: dict[str, Work] = {
        "whole": whole_steps,
        "plain": lambda: next(one_by_one),
        "plain_batched": lambda: next(batched),
    }
    if not from_photos:
        works["bare"] = bare_steps
        bare_steps()
    with watched_memory() as plain_memory:
        next(batched)  # warms up
    best = in_turns(works, rounds=rounds)
    whole_s, plain_s = best["whole"] / steps, best["plain"] * batch_size / few
    found = {
        "ratio_to_plain": round(plain_s / whole_s, 2),
        "ratio_to_plain_batched": round(best["plain_batched"] / whole_s, 2),
        "step_s": round(whole_s, 4),
        "plain_step_s": round(plain_s, 4),
        "plain_batched_step_s": round(best["plain_batched"], 4),
        "likes_per_s": round(batch_size / whole_s, 1),
        "plain_likes_per_s": round(batch_size / plain_s, 1),
        "share_of_product_rate": round(operations / whole_s / 1e9 / rates["giga_multiply_adds_per_s"], 3),
        "giga_multiply_adds_per_step": round(operations / 1e9, 2),
        "anonymous_mb": memory.get("mb"),
        "with_plain_anonymous_mb": plain_memory.get("mb"),
        "machine": rates,
        "seconds": digits(best, 4),
    }
    if "bare" in best:
        found["share_in_the_model"] = round(best["bare"] / best["whole"], 3)
    return found


def epoch_seconds(model: Pan, dataset: Dataset, inputs: ItemInputs, config: Config) -> tuple[float, int]:
    """Seconds of an epoch's steps, all of them taken, and their number."""
    steps = Steps(model, dataset, inputs, config)
    count = -(-len(dataset.likes["train"]) // config.train.batch_size)
    return seconds(lambda: [steps.whole() for _ in range(count)]), count
