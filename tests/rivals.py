"""Small rivals and batches for the tests: the trunk is the identity, every size differs, some slots are empty.

Three wardrobes of slots: two; four, of which two are tops; five.
"""

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from panfit.baselines.rival import Rival, RivalBatch
from panfit.config import Config
from panfit.model.batch import ABSENT, PanShape

Slots = tuple[tuple[str, str], ...]
AnyRival = TypeVar("AnyRival", bound=Rival)

TWO: Slots = (("top", "top"), ("shoe", "shoe"))
FOUR: Slots = (("top", "top"), ("top2", "top"), ("bottom", "bottom"), ("shoe", "shoe"))
FIVE: Slots = (("top", "top"), ("coat", "coat"), ("bottom", "bottom"), ("shoe", "shoe"), ("bag", "bag"))
WARDROBES = (TWO, FOUR, FIVE)

MAP_SHAPE = (3, 1, 2)  # (C, H, W): 6 features
TEXT_DIM = 4
PER_CATEGORY = 3
NUM_LIKES, NUM_NEGATIVES = 8, 2


def build(
    kind: type[AnyRival],
    section: str,
    slots: Slots = FOUR,
    *,
    text_dim: int | None = TEXT_DIM,
    seed: int = 5,
    **settings: Any,
) -> AnyRival:
    """A rival in float64, its own section laid out in ``settings``."""
    backbone = {"source": "stored", "store": "x", "head": "flatten"}
    config = Config.parse({"method": section, "backbone": backbone, section: settings})
    shape = PanShape(
        num_users=2, slots=slots, categories=categories_of(slots), text_dim=text_dim, input_shape=MAP_SHAPE
    )
    return kind(config, shape, generator=torch.Generator().manual_seed(seed)).double()


def categories_of(slots: Slots) -> tuple[str, ...]:
    return tuple(dict.fromkeys(category for _, category in slots))


def draw(slots: Slots = FOUR, *, text: bool = True, seed: int = 3) -> RivalBatch:
    """Likes with empty slots, of at least one item; negatives that sometimes redraw the like's own item, some invalid.

    The first item of all has no text.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    names = categories_of(slots)
    num_items = PER_CATEGORY * len(names)
    pools = [PER_CATEGORY * names.index(category) + np.arange(PER_CATEGORY) for _, category in slots]
    likes = np.column_stack([rng.choice(pool, NUM_LIKES) for pool in pools])  # (B, S)
    negatives = np.stack([rng.choice(pool, (NUM_LIKES, NUM_NEGATIVES)) for pool in pools], axis=2)  # (B, K, S)
    empty = rng.random(likes.shape) < 0.3  # (B, S)
    empty[np.arange(NUM_LIKES), rng.integers(0, len(slots), NUM_LIKES)] = False
    empty[0] = False
    likes[empty] = ABSENT
    negatives[np.broadcast_to(empty[:, None], negatives.shape)] = ABSENT
    texts = torch.randn(num_items, TEXT_DIM, generator=generator, dtype=torch.float64)
    texts[0] = 0
    return RivalBatch(
        maps=torch.randn(num_items, *MAP_SHAPE, generator=generator, dtype=torch.float64, requires_grad=True),
        categories=torch.arange(num_items) // PER_CATEGORY,
        text=texts if text else None,
        likes=torch.from_numpy(likes),
        negatives=torch.from_numpy(negatives),
        valid=torch.from_numpy(rng.random((NUM_LIKES, NUM_NEGATIVES)) < 0.8),
    )


def lists(batch: RivalBatch) -> tuple[Any, Any, Any]:
    """likes, negatives and valid as nested lists, for the oracles."""
    return batch.likes.tolist(), batch.negatives.tolist(), batch.valid.tolist()


def names_of(slots: Slots) -> list[str]:
    return [category for _, category in slots]


def in_slots(embeddings: Tensor, likes: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings (N, E), likes (B, S) -> (B, S, E) with garbage in empty slots, and the mask (B, S)."""
    return embeddings[likes.clamp(min=0)], likes != ABSENT


def assert_same(model: Rival, batch: RivalBatch, got: Tensor, wanted: Tensor, *, seed: int = 9) -> None:
    """Equal in value, and in the gradient that reaches the maps and every weight, under a random upstream."""
    torch.testing.assert_close(got, wanted)
    upstream = torch.randn(got.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    leaves = [batch.maps, *model.parameters()]
    of_got, of_wanted = (
        torch.autograd.grad(output, leaves, upstream, allow_unused=True, materialize_grads=True, retain_graph=True)
        for output in (got, wanted)
    )
    torch.testing.assert_close(of_got, of_wanted)


def assert_all_learn(model: Rival, batch: RivalBatch) -> None:
    """Every parameter gets a finite gradient that is not zero."""
    model.terms(batch)["total"].backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name
    grouped = [weight for group in model.parameter_groups().values() for weight in group]
    assert {id(weight) for weight in grouped} == {id(weight) for weight in model.parameters()}
    assert len(grouped) == len(list(model.parameters()))


def without_pairs(batch: RivalBatch) -> RivalBatch:
    """The same likes cut down to their first worn item, and no valid negative: nothing to select."""
    first = (batch.likes != ABSENT).int().argmax(dim=1)  # (B,)
    keep = torch.arange(batch.likes.shape[1]) == first[:, None]  # (B, S)
    return RivalBatch(
        maps=batch.maps,
        categories=batch.categories,
        text=batch.text,
        likes=batch.likes.masked_fill(~keep, ABSENT),
        negatives=batch.negatives.masked_fill(~keep[:, None], ABSENT),
        valid=torch.zeros_like(batch.valid),
    )
