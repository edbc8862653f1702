"""One step: a batch of likes becomes Eq. 5's triplets, one forward pass, and Eq. 9's named terms.

The forward pass sees every outfit of the step at once, so that the trunk runs once on each distinct photo and the
attention once on each distinct (user, item) pair, however many triplets share them.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.config import Config
from panfit.features.inputs import ItemInputs
from panfit.methods import LearnedModel
from panfit.model.pan import OutfitBatch, Pan, PanOutput
from panfit.outfits import ABSENT, IntArray, Outfits
from panfit.train.losses import bpr_loss, quantization_loss, total_loss, user_specific_loss, visual_semantic_loss
from panfit.train.mining import Mined, mine, near_users, user_distances
from panfit.train.triplets import RandomNegatives


@dataclass(frozen=True, eq=False)
class Triplets:
    """S1 and S2 of one batch (PAN Eq. 5), as rows.

    Attributes:
        likes: (B) the liked outfits O_j with their users u_i.
        negatives: (B, K, S) items of the outfits O_k of S1.
        negative_valid: (B, K) bool.
        mined: (B, K) bool; which of them are mined, i.e. somebody else's likes.
        other_users: (B,) the users u_n of S2, for the liked outfit of the same row.
        other_valid: (B,) bool.
    """

    likes: Outfits
    negatives: IntArray
    negative_valid: NDArray[np.bool_]
    mined: NDArray[np.bool_]
    other_users: IntArray
    other_valid: NDArray[np.bool_]


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
        inputs = self._inputs.batch(new, generator=self._generator).to(self._device)  # (n, ...)
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
        maps = self._maps[0] if len(self._maps) == 1 else torch.cat(self._maps)  # (all so far, C, H, W)
        order = self._place[distinct]  # (N,)
        if not np.array_equal(order, np.arange(len(maps))):
            maps = maps.index_select(0, torch.from_numpy(order).to(self._device))  # (N, C, H, W)
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


@dataclass(frozen=True, eq=False)
class Neighborhood:
    """How the rows of a batch stand to one another; S1's and S2's miners read the same.

    Attributes:
        distances: (B, B) between the users of the rows.
        near: (B, B) bool, of `near_users`.
        not_known: (B, B) bool; [i, j] True where u_i is another user than u_j and not known to like O_j.
    """

    distances: Tensor
    near: Tensor
    not_known: Tensor


class TripletSource:
    """Makes the triplets of a step from a batch of likes (decisions D9-D11)."""

    def __init__(
        self,
        train_likes: Outfits,
        split_pools: tuple[IntArray, ...],
        slot_categories: tuple[str, ...],
        *,
        config: Config,
    ) -> None:
        self._random = RandomNegatives(train_likes, split_pools, slot_categories, config=config.negatives)
        self._config = config

    def draw(
        self,
        likes: Outfits,
        items: StepInputs[Pan],
        *,
        epoch: int,
        beta: float,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> Triplets:
        """The triplets of one batch of likes. Scores are computed (without gradient) only where mining needs them."""
        config = self._config.negatives
        negatives, valid = self._random.draw(likes, rng)  # (B, K, S), (B, K)
        is_mined = np.zeros(valid.shape, dtype=np.bool_)  # (B, K)
        mining = epoch >= config.warmup_epochs
        mines_outfits = mining and config.hard_ratio > 0
        needs_users = self._config.loss.lambda_user > 0

        other_users = np.zeros(0, dtype=np.int64)
        other_valid = np.zeros(0, dtype=np.bool_)
        if mines_outfits or needs_users:
            neighborhood = self._neighborhood(likes, items.model, beta)
        if mines_outfits:
            mined = self._mine_outfits(likes, neighborhood, items, beta, generator)
            hard = rng.random(valid.shape) < config.hard_ratio  # (B, K)
            hard &= mined.valid.numpy()
            rows = mined.rows.numpy()  # (B, K)
            negatives = np.where(hard[..., None], likes.items[rows], negatives)  # (B, K, S)
            valid |= hard
            is_mined = hard
        if needs_users:
            others = self._mine_users(likes, neighborhood, items, beta, generator, mining=mining)
            other_users = likes.users[others.rows[:, 0].numpy()]  # (B,)
            other_valid = others.valid[:, 0].numpy()
        return Triplets(likes, negatives, valid, is_mined, other_users, other_valid)

    def _mine_outfits(
        self,
        likes: Outfits,
        neighborhood: Neighborhood,
        items: StepInputs[Pan],
        beta: float,
        generator: torch.Generator,
    ) -> Mined:
        """S1's hard negatives: for u_i, likes O_j of near users that u_i is not known to like."""
        config = self._config.negatives

        def difficulty(pool: Tensor) -> Tensor:
            return _pool_scores(items, likes, pool, beta=beta, personal=config.compare == "personal")

        allowed = neighborhood.not_known  # (B, B): [i, j] u_i is not known to like O_j
        return mine(
            allowed, neighborhood.near, neighborhood.distances, choose=config.choose, count=config.per_like,
            difficulty=difficulty, generator=generator,
        )  # fmt: skip

    def _mine_users(
        self,
        likes: Outfits,
        neighborhood: Neighborhood,
        items: StepInputs[Pan],
        beta: float,
        generator: torch.Generator,
        *,
        mining: bool,
    ) -> Mined:
        """S2's users u_n: for the like O_i of u_i, near users of the batch who are not known to like O_i."""
        config = self._config.negatives
        choose = "any" if config.other_user == "any" or not mining else config.choose

        def difficulty(pool: Tensor) -> Tensor:
            return _pool_scores(items, likes, pool.T, beta=beta, personal=False).T

        allowed = neighborhood.not_known.T  # (B, B): [i, j] u_j is not known to like O_i
        return mine(
            allowed, neighborhood.near, neighborhood.distances, choose=choose, count=1,
            difficulty=difficulty, generator=generator,
        )  # fmt: skip

    @torch.no_grad()
    def _neighborhood(self, likes: Outfits, model: Pan, beta: float) -> Neighborhood:
        users = torch.from_numpy(likes.users)  # (B,)
        distances = user_distances(model.user_codes(users.to(_device(model)), beta=beta)).cpu()  # (B, B)
        near = near_users(distances, users, k_ratio=self._config.negatives.k_ratio)  # (B, B)
        num_likes = len(likes)
        viewers = np.repeat(likes.users[:, None], num_likes, axis=1)  # (B, B): [i, j] u_i
        outfits = np.repeat(likes.items[None], num_likes, axis=0)  # (B, B, S): [i, j] O_j
        not_known = ~self._random.known.contains(viewers, outfits) & (viewers != viewers.T)  # (B, B)
        return Neighborhood(distances, near, torch.from_numpy(not_known))


def _pool_scores(items: StepInputs[Pan], likes: Outfits, pool: Tensor, *, beta: float, personal: bool) -> Tensor:
    """(B, B) scores [i, j] of O_j for u_i where ``pool`` says so, 0 elsewhere; without dropout and without gradient."""
    scores = torch.zeros(pool.shape)  # (B, B)
    rows, columns = (place.numpy() for place in pool.nonzero(as_tuple=True))  # (P,), (P,)
    if not len(rows):
        return scores
    items.add(likes.items)  # while the trunk is in training mode
    model = items.model
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            output = model(items.batch(likes.users[rows], likes.items[columns]), beta=beta)
    finally:
        model.train(was_training)
    scores[rows, columns] = (output.personal if personal else output.score).cpu().float()
    return scores


def _device(model: Pan) -> torch.device:
    return next(model.parameters()).device


def outfits_of(triplets: Triplets) -> tuple[IntArray, IntArray]:
    """All (user, outfit) pairs a step scores: (R,) users and (R, S) items; B likes, B * K negatives, B' others."""
    likes, (_, per_like, num_slots) = triplets.likes, triplets.negatives.shape
    users = np.concatenate([likes.users, np.repeat(likes.users, per_like), triplets.other_users[triplets.other_valid]])
    items = np.concatenate(
        [
            likes.items,
            triplets.negatives.reshape(-1, num_slots),
            likes.items[triplets.other_valid] if len(triplets.other_valid) else likes.items[:0],
        ]
    )
    return users, items


def step_terms(output: PanOutput, batch: OutfitBatch, triplets: Triplets, *, config: Config) -> dict[str, Tensor]:
    """Eq. 9's terms by name and their weighted sum as "total", from one forward pass over `outfits_of` the triplets."""
    num_likes, per_like = triplets.negative_valid.shape
    device = output.score.device
    split = [num_likes, num_likes * per_like, len(output.score) - num_likes * (1 + per_like)]
    score, negative_score, other_score = output.score.split(split)
    personal, negative_personal, _ = output.personal.split(split)
    positives = score[:, None].expand(num_likes, per_like)  # (B, K)
    negatives = negative_score.view(num_likes, per_like)  # (B, K)
    if config.negatives.compare == "personal":
        mined = torch.from_numpy(triplets.mined).to(device)  # (B, K)
        positives = torch.where(mined, personal[:, None], positives)
        negatives = torch.where(mined, negative_personal.view(num_likes, per_like), negatives)
    own_score = score[torch.from_numpy(np.flatnonzero(triplets.other_valid)).to(device)]  # (B',)
    worn = batch.items[:num_likes] >= 0  # (B, S)
    codes = output.item_codes[:num_likes][worn]  # (R, V, D)
    terms = {
        "bpr": bpr_loss(positives, negatives, torch.from_numpy(triplets.negative_valid).to(device)),
        "user": user_specific_loss(own_score, other_score, torch.ones_like(own_score, dtype=torch.bool)),
        "vse": visual_semantic_loss(
            codes[:, 0], codes[:, -1], batch.items[:num_likes][worn], margin=config.loss.vse_margin
        )
        if codes.shape[1] == 2 and config.loss.lambda_vse > 0
        else score.new_zeros(()),
        "quantization": quantization_loss(codes),
    }
    return {**terms, "total": total_loss(terms, config.loss)}
