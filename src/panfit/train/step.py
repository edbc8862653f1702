"""One step: a batch of likes becomes Eq. 5's triplets, one forward pass, and Eq. 9's named terms.

The forward pass sees every outfit of the step at once, so that the trunk runs once on each distinct photo and the
attention once on each distinct (user, item) pair, however many triplets share them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.config import Config
from panfit.model.pan import OutfitBatch, Pan, PanOutput
from panfit.outfits import IntArray, Outfits
from panfit.train.distributed import ALONE, Ranks
from panfit.train.losses import bpr_loss, quantization_loss, total_loss, user_specific_loss, visual_semantic_loss
from panfit.train.mining import Mined, mine, near_users, user_distances
from panfit.train.step_inputs import StepInputs
from panfit.train.triplets import RandomNegatives


@dataclass(frozen=True, eq=False)
class Triplets:
    """S1 and S2 of one batch (PAN Eq. 5), as rows; of several processes, those of this one's share of the batch.

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


@dataclass(frozen=True, eq=False)
class Pool:
    """The likes that S1 and S2 are mined among.

    Attributes:
        likes: (B) of all processes, or of this one alone.
        own: the rows that this process mines for.
        items: holds the maps of their items, or can compute them.
        neighborhood: of the B rows.
        beta: of the relaxed codes.
    """

    likes: Outfits
    own: slice
    items: StepInputs[Pan]
    neighborhood: Neighborhood
    beta: float

    def own_rows(self, asked: Tensor) -> Tensor:
        """(B, B) bool -> the same, False outside the own rows."""
        kept = torch.zeros_like(asked)  # (B, B)
        kept[self.own] = asked[self.own]
        return kept

    def scores(self, asked: Tensor, *, personal: bool) -> Tensor:
        """(B, B) scores [i, j] of O_j for u_i where ``asked`` says so, else 0; without dropout, without gradient."""
        scores = torch.zeros(asked.shape)  # (B, B)
        rows, columns = (place.numpy() for place in asked.nonzero(as_tuple=True))  # (P,), (P,)
        if not len(rows):
            return scores
        self.items.add(self.likes.items)  # while the trunk is in training mode
        model = self.items.model
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                output = model(self.items.batch(self.likes.users[rows], self.likes.items[columns]), beta=self.beta)
        finally:
            model.train(was_training)
        scores[rows, columns] = (output.personal if personal else output.score).cpu().float()
        return scores


class TripletSource:
    """Makes the triplets of a step from a batch of likes (decisions D9-D11)."""

    def __init__(
        self,
        train_likes: Outfits,
        split_pools: tuple[IntArray, ...],
        slot_categories: tuple[str, ...],
        *,
        config: Config,
        ranks: Ranks = ALONE,
    ) -> None:
        self._random = RandomNegatives(train_likes, split_pools, slot_categories, config=config.negatives)
        self._config, self._ranks = config, ranks

    def draw(
        self,
        likes: Outfits,
        items: StepInputs[Pan],
        *,
        epoch: int,
        beta: float,
        rng: np.random.Generator,
        generator: torch.Generator,
        own: slice | None = None,
    ) -> Triplets:
        """The triplets of one batch of likes. Scores are computed (without gradient) only where mining needs them.

        Of several processes each passes all B likes and the same chance, and is given the triplets of its ``own`` b
        rows, whose negatives and other users are mined among all B (`negatives.gather`).
        """
        config = self._config.negatives
        own = slice(0, len(likes)) if own is None else own
        negatives, valid = self._random.draw(likes, rng)  # (B, K, S), (B, K)
        mining = epoch >= config.warmup_epochs
        mines_outfits = mining and config.hard_ratio > 0
        needs_users = self._config.loss.lambda_user > 0
        hard = rng.random(valid.shape) < config.hard_ratio if mines_outfits else np.zeros_like(valid)  # (B, K)
        negatives, valid, hard = negatives[own], valid[own], hard[own]  # (b, K, S), (b, K), (b, K)
        chosen = likes.take(np.arange(len(likes))[own])  # (b)

        ranks = self._ranks if config.gather else ALONE
        if not config.gather:
            likes, own = chosen, slice(0, len(chosen))
        asks_scores = mining and config.choose == "loss" and (mines_outfits or needs_users)
        if asks_scores and ranks.size > 1:
            items.add(chosen.items)  # while the trunk is in training mode
            items = items.among(ranks)
        other_users = np.zeros(0, dtype=np.int64)
        other_valid = np.zeros(0, dtype=np.bool_)
        if mines_outfits or needs_users:
            pool = Pool(likes, own, items, self._neighborhood(likes, items.model, beta), beta)
        if mines_outfits:
            mined = self._mine_outfits(pool, generator)
            hard &= mined.valid[own].numpy()
            negatives = np.where(hard[..., None], likes.items[mined.rows[own].numpy()], negatives)  # (b, K, S)
            valid |= hard
        if needs_users:
            others = self._mine_users(pool, generator, mining=mining)
            other_users = likes.users[others.rows[own, 0].numpy()]  # (b,)
            other_valid = others.valid[own, 0].numpy()
        return Triplets(chosen, negatives, valid, hard, other_users, other_valid)

    def _mine_outfits(self, pool: Pool, generator: torch.Generator) -> Mined:
        """S1's hard negatives: for u_i, likes O_j of near users that u_i is not known to like."""
        config, among = self._config.negatives, pool.neighborhood

        def difficulty(asked: Tensor) -> Tensor:
            return pool.scores(pool.own_rows(asked), personal=config.compare == "personal")

        allowed = among.not_known  # (B, B): [i, j] u_i is not known to like O_j
        return mine(
            allowed, among.near, among.distances, choose=config.choose, count=config.per_like,
            difficulty=difficulty, generator=generator,
        )  # fmt: skip

    def _mine_users(self, pool: Pool, generator: torch.Generator, *, mining: bool) -> Mined:
        """S2's users u_n: for the like O_i of u_i, near users of the batch who are not known to like O_i."""
        config, among = self._config.negatives, pool.neighborhood
        choose = "any" if config.other_user == "any" or not mining else config.choose

        def difficulty(asked: Tensor) -> Tensor:
            return pool.scores(pool.own_rows(asked).T, personal=False).T

        allowed = among.not_known.T  # (B, B): [i, j] u_j is not known to like O_i
        return mine(
            allowed, among.near, among.distances, choose=choose, count=1, difficulty=difficulty, generator=generator
        )

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


def step_terms(
    output: PanOutput,
    batch: OutfitBatch,
    triplets: Triplets,
    *,
    config: Config,
    ranks: Ranks = ALONE,
    counted: int | None = None,
) -> dict[str, Tensor]:
    """Eq. 9's terms by name and their weighted sum as "total", from one forward pass over `outfits_of` the triplets.

    Of several processes, each has the terms of all their triplets; the gradient is that of its own.

    Args:
        counted: so many of the triplets' likes count, the first ones; all, if not said.
    """
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
    valid = torch.from_numpy(triplets.negative_valid).to(device)  # (B, K)
    items = torch.from_numpy(triplets.likes.items).to(device)[worn]  # (R,) rows of the catalogue
    parts = (positives, negatives, valid, own_score, other_score, codes, items)
    if counted is not None:
        others = int(triplets.other_valid[:counted].sum())
        ends = (counted, counted, counted, others, others, int(worn[:counted].sum()))
        parts = tuple(part[:end] for part, end in zip(parts, (*ends, ends[-1]), strict=True))
    positives, negatives, valid, own_score, other_score, codes, items = ranks.gather(*parts)
    terms = {
        "bpr": bpr_loss(positives, negatives, valid),
        "user": user_specific_loss(own_score, other_score, torch.ones_like(own_score, dtype=torch.bool)),
        "vse": visual_semantic_loss(codes[:, 0], codes[:, -1], items, margin=config.loss.vse_margin)
        if codes.shape[1] == 2 and config.loss.lambda_vse > 0
        else score.new_zeros(()),
        "quantization": quantization_loss(codes),
    }
    return {**terms, "total": total_loss(terms, config.loss)}
