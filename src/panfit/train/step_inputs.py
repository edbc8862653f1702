"""The items of one step: each photo passes the trunk once, however many triplets wear it. Chooses no triplet."""

from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from panfit.features.inputs import ItemInputs
from panfit.methods import LearnedModel
from panfit.model.pan import OutfitBatch
from panfit.outfits import ABSENT, IntArray
from panfit.train.distributed import Ranks

M = TypeVar("M", bound=LearnedModel)


class StepInputs(Generic[M]):
    """The items of one step. Each photo is augmented, and passes the trunk, once: when it is first asked for.

    Mining asks for the liked outfits' items first, the forward pass then for the rest; both see the same maps.
    """

    def __init__(
        self, model: M, inputs: ItemInputs, *, generator: torch.Generator | None, device: torch.device
    ) -> None:
        self.model = model
        self._inputs, self._generator, self._device = inputs, generator, device
        self._place = np.full(len(inputs), ABSENT, dtype=np.int64)  # (all items,) where an item's map stands
        self._maps: list[Tensor] = []  # each (n, C, H, W)

    def add(self, items: IntArray) -> None:
        """Compute the maps of the items (any shape, ABSENT skipped) that are not there yet."""
        distinct = np.unique(items)
        new = distinct[(distinct != ABSENT) & (self._place[distinct] == ABSENT)]  # (n,)
        if not len(new):
            return
        inputs = self._inputs.batch(new, generator=self._generator, device=self._device)  # (n, ...)
        with torch.enable_grad():  # miners ask without gradient; the forward pass goes on from the same maps
            maps = inputs if self._inputs.kind == "kept" else self.model.feature_maps(inputs)  # (n, C, H, W)
        start = sum(len(each) for each in self._maps)
        self._place[new] = np.arange(start, start + len(new))
        self._maps.append(maps)

    def batch(self, users: IntArray, items: IntArray) -> OutfitBatch:
        """(B,) users and (B, S) item rows of the catalogue -> a batch that holds each distinct item once."""
        self.add(items)
        distinct, places = np.unique(items, return_inverse=True)  # (N + 1,) or (N,), (B * S,)
        places = places.reshape(items.shape)  # (B, S)
        if distinct[0] == ABSENT:
            distinct = distinct[1:]
            places = places - 1  # absent slots become -1 again
        maps = self._gathered(self._place[distinct])  # (N, C, H, W)
        rows = torch.from_numpy(distinct)  # (N,)
        text = self._inputs.text
        return OutfitBatch(
            inputs=maps,
            categories=self._inputs.categories[rows].to(self._device),
            text=None if text is None else text[rows].to(self._device),
            users=torch.from_numpy(users).to(self._device),
            items=torch.from_numpy(places).to(self._device),
            are_maps=True,
        )

    def among(self, ranks: Ranks) -> "StepInputs[M]":
        """These maps, and those that the other processes have computed so far, for scores without gradient.

        Where a map costs a trunk, it is sent, not computed again; where it is kept or stored, it is read.
        """
        if ranks.size == 1 or self._inputs.kind != "images":
            return self
        own = np.flatnonzero(self._place != ABSENT)  # (n,)
        own = own[np.argsort(self._place[own])]  # in the order of the maps
        rows, maps = ranks.gather(torch.from_numpy(own).to(self._device), torch.cat(self._maps).detach())
        pool = StepInputs(self.model, self._inputs, generator=self._generator, device=self._device)
        pool._place[rows.cpu().numpy()] = np.arange(len(rows))  # an item of several processes: any one's map
        pool._maps = [maps]
        return pool

    def _gathered(self, order: IntArray) -> Tensor:
        """The maps (N, C, H, W) at the places ``order`` (N,) among all so far."""
        pieces = self._maps
        if len(pieces) == 1 or any(piece.requires_grad for piece in pieces):
            maps = pieces[0] if len(pieces) == 1 else torch.cat(pieces)  # (all so far, C, H, W)
            if np.array_equal(order, np.arange(len(maps))):
                return maps
            return maps.index_select(0, torch.from_numpy(order).to(self._device))
        # A frozen trunk's maps are large and need no graph: each goes to its place at once, without being joined first.
        maps = pieces[0].new_empty(len(order), *pieces[0].shape[1:])  # (N, C, H, W)
        start = 0
        for piece in pieces:
            wanted = np.flatnonzero((order >= start) & (order < start + len(piece)))  # (n,) of the N
            chosen = order[wanted] - start  # (n,) of the piece
            is_whole = np.array_equal(chosen, np.arange(len(piece)))
            rows = piece if is_whole else piece.index_select(0, torch.from_numpy(chosen).to(self._device))
            maps.index_copy_(0, torch.from_numpy(wanted).to(self._device), rows)  # (n, C, H, W)
            start += len(piece)
        return maps
