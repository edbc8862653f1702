"""CODES: outfits -> scores through each user's own codes of the items, at the size of a test split or a catalogue.

What `Pan.forward` does for a batch, done in bounded memory for any number of outfits: the trunk runs once on each
item, the attention once on each distinct (user, item) pair, and Eq. 4 stays where it is, in `Pan.predictor`. Never
imports train.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from panfit.features.inputs import ItemInputs
from panfit.model.hashing import pack_codes, unpack_codes
from panfit.model.pan import Pan
from panfit.outfits import ABSENT, IntArray, Outfits

FloatArray = NDArray[np.float64]

BATCH_ITEMS = 64
"""Items whose map the trunk computes at a time."""
BATCH_PAIRS = 512
"""(user, item) pairs encoded at a time: each needs its map gathered."""
BATCH_OUTFITS = 8192
"""Outfits that Eq. 4 scores at a time."""
CHUNK_PAIRS = 1 << 17
"""(user, item) pairs whose codes are held at a time; a user's are never parted."""
FLOAT32_MAP_BYTES = 2 << 30
"""Kept maps beyond this size are kept as float16."""


class OutfitScorer:
    """Scores outfits with a model that stays as it is. A `panfit.evaluate.Scorer`.

    The maps of the items seen are kept, so a scorer belongs to one state of the model's weights: after a training
    step, make a new one. The model is put into evaluation mode for each call, and back.

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
        map_dtype: Literal["auto", "float32", "float16"] = "auto",
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.beta = beta
        self._batch_pairs = batch_pairs
        self._chunk_pairs = chunk_pairs
        self._maps = _ItemMaps(model, inputs, batch_items=batch_items, dtype=map_dtype)

    def scores(self, outfits: Outfits, *, binary: bool) -> FloatArray:
        """(B,) scores y of Eq. 4, of binary or of relaxed codes."""
        (scores,) = self._score(outfits, kinds=(binary,))
        return scores

    def both(self, outfits: Outfits) -> tuple[FloatArray, FloatArray]:
        """(relaxed (B,), binary (B,)) scores, the items encoded once for both."""
        relaxed, binary = self._score(outfits, kinds=(False, True))
        return relaxed, binary

    def item_codes(self, users: IntArray, items: IntArray, *, binary: bool) -> Tensor:
        """Codes (P, V, D) of the items (P,), each as the user (P,) beside it sees it."""
        with evaluating(self.model):
            self._maps.keep(np.unique(items))
            order = np.lexsort((users, items))  # (P,) by item: a block of pairs then needs few maps
            codes = self._encode(users[order], items[order], kinds=(binary,))[0]  # (P, V, D)
            return codes[torch.from_numpy(np.argsort(order)).to(codes.device)]

    def user_codes(self, users: IntArray, *, binary: bool) -> Tensor:
        """Codes (B, D) of the users (B,)."""
        with evaluating(self.model):
            return self.model.user_codes(_tensor(users, self.model), beta=self.beta, binary=binary)

    def predict(self, user_codes: Tensor, item_codes: Tensor, slots: IntArray) -> FloatArray:
        """Eq. 4, block by block.

        Args:
            user_codes: (U, D).
            item_codes: (P, V, D).
            slots: (B, 1 + S): row of ``user_codes``, then for each slot row of ``item_codes``, -1 where it is empty.

        Returns:
            (B,) scores.
        """
        scores = [np.zeros(0)]
        with evaluating(self.model):
            for block in torch.split(_tensor(slots, self.model), BATCH_OUTFITS):
                of_user, of_items = block[:, 0], block[:, 1:]  # (b,), (b, S)
                codes = item_codes[of_items.clamp(min=0)]  # (b, S, V, D), anything where a slot is empty
                found = self.model.predictor(user_codes[of_user], codes, of_items != ABSENT)
                scores.append(found.score.double().cpu().numpy())
        return np.concatenate(scores)

    def _score(self, outfits: Outfits, *, kinds: tuple[bool, ...]) -> list[FloatArray]:
        """(B,) scores for each kind of codes, binary where True; chunk by chunk of whole users."""
        scores = [np.empty(len(outfits)) for _ in kinds]
        with evaluating(self.model):
            self._maps.keep(_worn(outfits.items))
            for rows in self._chunks(outfits):
                users, of_user = np.unique(outfits.users[rows], return_inverse=True)  # (u,), (b,)
                pair_users, pair_items, slot_pairs = _distinct_pairs(outfits.take(rows))  # (P,), (P,), (b, S)
                slots = np.column_stack([of_user, slot_pairs])  # (b, 1 + S)
                pair_codes = self._encode(pair_users, pair_items, kinds=kinds)  # (P, V, D) each
                for kind, binary in enumerate(kinds):
                    user_codes = self.user_codes(users, binary=binary)  # (u, D)
                    scores[kind][rows] = self.predict(user_codes, pair_codes[kind], slots)
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

    def _encode(self, users: IntArray, items: IntArray, *, kinds: tuple[bool, ...]) -> list[Tensor]:
        """For each kind, the codes (P, V, D) of distinct pairs that come sorted by item."""
        model = self.model
        blocks: list[list[Tensor]] = [[] for _ in kinds]
        for first in range(0, len(items), self._batch_pairs):
            block = slice(first, first + self._batch_pairs)
            distinct, of_pair = np.unique(items[block], return_inverse=True)  # (n,), (p,)
            rows = torch.from_numpy(distinct)  # (n,)
            encoding = model.encode_pairs(
                self._maps.take(distinct),  # (n, C, H, W)
                self.inputs.categories[rows].to(_device(model)),
                None if self.inputs.text is None else self.inputs.text[rows].to(_device(model)),
                pair_items=_tensor(of_pair, model),
                user_embedding=model.user_embeddings(_tensor(users[block], model)),
                beta=self.beta,
            )
            for codes, binary in zip(blocks, kinds, strict=True):
                codes.append(model.item_codes(encoding, beta=self.beta, binary=binary))  # (p, V, D)
        return [torch.cat(codes) for codes in blocks]


class CodeCache:
    """The codes of the items as the users asked about last see them; the longest unasked leave first.

    Binary codes are held packed, a bit a bit.

    Args:
        scorer: makes the codes.
        max_bytes: bound on what is held; the last user's codes are held even beyond it.
    """

    def __init__(self, scorer: OutfitScorer, *, max_bytes: int) -> None:
        self._scorer, self._max_bytes, self._num_bytes = scorer, max_bytes, 0
        self._held: OrderedDict[tuple[int, bool], tuple[IntArray, Tensor]] = OrderedDict()

    def codes(self, user_row: int, items: IntArray, *, binary: bool) -> Tensor:
        """Codes (n, V, D) of items (n,), distinct and rising; only those not held are computed."""
        key = user_row, binary
        rows, held = self._held.pop(key, (np.zeros(0, dtype=np.int64), None))
        self._num_bytes -= 0 if held is None else held.nbytes
        new = np.setdiff1d(items, rows)
        if len(new):
            users = np.full(len(new), user_row, dtype=np.int64)
            codes = self._scorer.item_codes(users, new, binary=binary)  # (m, V, D)
            codes = pack_codes(codes) if binary else codes
            rows, held = np.concatenate([rows, new]), codes if held is None else torch.cat([held, codes])
            order = np.argsort(rows)
            rows, held = rows[order], held[torch.from_numpy(order).to(held.device)]
        assert held is not None, "codes of no items were asked for"
        self._held[key] = rows, held
        self._num_bytes += held.nbytes
        while self._num_bytes > self._max_bytes and len(self._held) > 1:
            _, (_, dropped) = self._held.popitem(last=False)
            self._num_bytes -= dropped.nbytes
        found = held[torch.from_numpy(np.searchsorted(rows, items)).to(held.device)]
        return unpack_codes(found) if binary else found


class CachedScores:
    """One user's scores of outfits, through codes that are kept for the users asked about last.

    Args:
        scorer: makes the codes.
        max_bytes: bound on the kept codes.
    """

    def __init__(self, scorer: OutfitScorer, *, max_bytes: int) -> None:
        self._scorer = scorer
        self.cache = CodeCache(scorer, max_bytes=max_bytes)

    def __call__(self, user_row: int, outfits: IntArray, binary: bool) -> FloatArray:
        """Outfits (B, S) of item rows -> (B,) scores y of Eq. 4."""
        items = _worn(outfits)  # (n,)
        slots = np.where(outfits == ABSENT, ABSENT, np.searchsorted(items, outfits))  # (B, S)
        item_codes = self.cache.codes(user_row, items, binary=binary)  # (n, V, D)
        user_codes = self._scorer.user_codes(np.array([user_row]), binary=binary)  # (1, D)
        only_user = np.zeros((len(outfits), 1), dtype=np.int64)  # (B, 1)
        return self._scorer.predict(user_codes, item_codes, np.concatenate([only_user, slots], axis=1))


class _ItemMaps:
    """Maps of the items seen so far, each computed once. Stored maps are not kept a second time."""

    def __init__(self, model: Pan, inputs: ItemInputs, *, batch_items: int, dtype: str) -> None:
        self._model, self._inputs, self._batch_items = model, inputs, batch_items
        map_shape = model.backbone.map_shape
        # A frozen trunk's maps can take the photos' place; the model itself still says that it takes photos.
        self._are_maps = inputs.input_shape == map_shape
        if not self._are_maps and inputs.input_shape != model.shape.input_shape:
            raise ValueError(f"inputs of shape {inputs.input_shape} for a model of {model.shape.input_shape}")
        if dtype == "auto":
            num_bytes = 4 * len(inputs) * int(np.prod(map_shape))
            dtype = "float32" if num_bytes <= FLOAT32_MAP_BYTES else "float16"
        self._maps = torch.empty(0, *map_shape, dtype={"float32": torch.float32, "float16": torch.float16}[dtype])
        self._place = np.full(len(inputs), ABSENT, dtype=np.int64)  # (N,) row of ``_maps``, -1 where there is none yet

    def keep(self, items: IntArray) -> None:
        """Run the trunk on those of the items (n,), distinct, that it has not seen."""
        if self._are_maps:
            return
        new = items[self._place[items] == ABSENT]
        if not len(new):
            return
        old = len(self._maps)
        maps = self._maps.new_empty(old + len(new), *self._maps.shape[1:])  # (n, C, H, W)
        maps[:old] = self._maps
        for first in range(0, len(new), self._batch_items):
            rows = new[first : first + self._batch_items]
            inputs = self._inputs.batch(rows).to(_device(self._model))
            maps[old + first : old + first + len(rows)] = self._model.feature_maps(inputs)
        self._maps = maps
        self._place[new] = old + np.arange(len(new))

    def take(self, items: IntArray) -> Tensor:
        """Maps (n, C, H, W) float32 of items (n,) that were kept, on the model's device."""
        if self._are_maps:
            return self._inputs.batch(items).to(_device(self._model))
        return self._maps[torch.from_numpy(self._place[items])].to(_device(self._model), torch.float32)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode and records no gradients; after, each of its modules is as before."""
    was_training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        with torch.inference_mode():
            yield
    finally:
        for module in was_training:
            module.training = True


def _distinct_pairs(outfits: Outfits) -> tuple[IntArray, IntArray, IntArray]:
    """pair_users (P,) and pair_items (P,), sorted by item, then user; slot_pairs (B, S), -1 where a slot is empty."""
    num_users = outfits.users.max() + 1
    keys = (outfits.items * num_users + outfits.users[:, None])[outfits.mask]  # (filled slots,)
    pairs, inverse = np.unique(keys, return_inverse=True)  # (P,), (filled slots,)
    slot_pairs = np.full(outfits.items.shape, ABSENT, dtype=np.int64)  # (B, S)
    slot_pairs[outfits.mask] = inverse
    return pairs % num_users, pairs // num_users, slot_pairs


def _worn(items: IntArray) -> IntArray:
    """(B, S) item rows -> the distinct ones, without ABSENT."""
    return np.unique(items[items != ABSENT])


def _tensor(rows: IntArray, model: Pan) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows)).to(_device(model))


def _device(model: Pan) -> torch.device:
    return next(model.parameters()).device
