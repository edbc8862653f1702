"""Outfits -> scores through each user's own codes of the items, at the size of a test split.

What `Pan.forward` does for a batch, done in bounded memory for any number of outfits: the trunk runs once on each
item, the attention once on each distinct (user, item) pair, and Eq. 4 stays where it is, in `Pan.predictor`. Never
imports train.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from panfit.encode import (
    BATCH_ITEMS,
    BATCH_PAIRS,
    FloatArray,
    ItemCoder,
    MapDtype,
    evaluating,
    to_device,
)
from panfit.features.inputs import ItemInputs
from panfit.model.pan import Pan
from panfit.outfits import ABSENT, IntArray, Outfits

BLOCK_NUMBERS = 1 << 19
"""Numbers of the codes that Eq. 4 is given at a time: 2 MiB, so that what it makes of them stays in the cache."""
CHUNK_PAIRS = 1 << 17
"""(user, item) pairs whose codes are held at a time; a user's are never parted."""


class OutfitScorer:
    """Scores outfits with a model that stays as it is. A `panfit.evaluate.Scorer`.

    A scorer belongs to one state of the model's weights: after a training step, make a new one.

    Args:
        model: on any device; scores come back as numpy arrays.
        inputs: the items. Photos, or stored maps; or the maps of this model's own trunk, which is then not run again.
        beta: of the relaxed codes tanh(beta x) (decision D7): as trained.
        batch_items: items the trunk sees at a time.
        batch_pairs: (user, item) pairs encoded at a time.
        chunk_pairs: pairs whose codes are held at a time; more where one user alone has more.
        map_dtype: how kept maps are stored; "auto": float32, or float16 where that would take more than 2 GiB.

    Raises:
        ValueError: inputs of another shape than the model's.
    """

    def __init__(
        self,
        model: Pan,
        inputs: ItemInputs,
        *,
        beta: float = 1.0,
        batch_items: int = BATCH_ITEMS,
        batch_pairs: int = BATCH_PAIRS,
        chunk_pairs: int = CHUNK_PAIRS,
        map_dtype: MapDtype = "auto",
    ) -> None:
        self.model = model
        self.coder = ItemCoder(
            model, inputs, beta=beta, batch_items=batch_items, batch_pairs=batch_pairs, map_dtype=map_dtype
        )
        self._chunk_pairs = chunk_pairs

    def scores(self, outfits: Outfits, *, binary: bool) -> FloatArray:
        """(B,) scores y of Eq. 4, of binary or of relaxed codes."""
        (scores,) = self._score(outfits, kinds=(binary,))
        return scores

    def both(self, outfits: Outfits) -> tuple[FloatArray, FloatArray]:
        """(relaxed (B,), binary (B,)) scores, the items encoded once for both."""
        relaxed, binary = self._score(outfits, kinds=(False, True))
        return relaxed, binary

    def _score(self, outfits: Outfits, *, kinds: tuple[bool, ...]) -> list[FloatArray]:
        """(B,) scores for each kind of codes, binary where True; chunk by chunk of whole users."""
        scores = [np.empty(len(outfits)) for _ in kinds]
        with evaluating(self.model):
            for rows in self._chunks(outfits):
                users, of_user = np.unique(outfits.users[rows], return_inverse=True)  # (u,), (b,)
                eyes = self.model.user_embeddings(to_device(users, self.model))  # (u, D)
                pair_eyes, pair_items, slot_pairs = _distinct_pairs(Outfits(of_user, outfits.items[rows]))
                slots = np.column_stack([of_user, slot_pairs])  # (b, 1 + S)
                pair_codes = self.coder.sorted_codes(eyes, pair_eyes, pair_items, kinds=kinds)  # (P, V, D) each
                for kind, binary in enumerate(kinds):
                    user_codes = self.coder.viewer_codes(eyes, binary=binary)  # (u, D)
                    scores[kind][rows] = predict(self.model, user_codes, pair_codes[kind], slots)
        return scores

    def _chunks(self, outfits: Outfits) -> Iterator[IntArray]:
        """Rows of outfits, users together, at most ``chunk_pairs`` filled slots a chunk unless one user has more."""
        order = np.argsort(outfits.users, kind="stable").astype(np.int64)  # (B,)
        start = np.flatnonzero(np.diff(outfits.users[order], prepend=-1))  # (U,) each user's first place
        per_user = np.add.reduceat(outfits.mask.sum(axis=1)[order], start) if len(start) else start  # (U,)
        first, held = 0, 0
        for place, num_pairs in zip(start.tolist(), per_user.tolist(), strict=True):
            if held and held + num_pairs > self._chunk_pairs:
                yield order[first:place]
                first, held = place, 0
            held += num_pairs
        if held:
            yield order[first:]


def predict(model: Pan, user_codes: Tensor, item_codes: Tensor, slots: IntArray) -> FloatArray:
    """Eq. 4, block by block.

    Args:
        model: whose predictor computes.
        user_codes: (U, D).
        item_codes: (P, V, D).
        slots: (B, 1 + S): row of ``user_codes``, then for each slot row of ``item_codes``, -1 where it is empty.

    Returns:
        (B,) scores.
    """
    return predict_parts(model, user_codes, item_codes, slots).score


@dataclass(frozen=True, eq=False)
class Parts:
    """What Eq. 4 says of outfits: ``score`` is ``general + personal``, to float32's precision. (B,) each."""

    score: FloatArray
    general: FloatArray
    personal: FloatArray


def predict_parts(
    model: Pan, user_codes: Tensor, item_codes: Tensor, slots: IntArray, *, block_numbers: int = BLOCK_NUMBERS
) -> Parts:
    """`predict`, with the score's parts; so many numbers of the codes at a time."""
    found = [(np.zeros(0),) * 3]
    with evaluating(model):
        of_outfit = max(1, (slots.shape[1] - 1) * item_codes[:1].numel())  # S * V * D
        for block in torch.split(to_device(slots, model), max(1, block_numbers // of_outfit)):
            of_user, of_items = block[:, 0], block[:, 1:]  # (b,), (b, S)
            taken = item_codes.index_select(0, of_items.clamp(min=0).flatten())  # (b * S, V, D) rows whole, unlike []
            codes = taken.unflatten(0, of_items.shape)  # (b, S, V, D), anything where a slot is empty
            parts = model.predictor(user_codes[of_user], codes, of_items != ABSENT)
            kinds = parts.score, parts.general, parts.personal
            found.append(tuple(each.double().cpu().numpy() for each in kinds))
    return Parts(*(np.concatenate(blocks) for blocks in zip(*found, strict=True)))


def _distinct_pairs(outfits: Outfits) -> tuple[IntArray, IntArray, IntArray]:
    """pair_users (P,) and pair_items (P,), sorted by item, then user; slot_pairs (B, S), -1 where a slot is empty."""
    num_users = outfits.users.max() + 1
    keys = (outfits.items * num_users + outfits.users[:, None])[outfits.mask]  # (filled slots,)
    pairs, inverse = np.unique(keys, return_inverse=True)  # (P,), (filled slots,)
    slot_pairs = np.full(outfits.items.shape, ABSENT, dtype=np.int64)  # (B, S)
    slot_pairs[outfits.mask] = inverse
    return pairs % num_users, pairs // num_users, slot_pairs
