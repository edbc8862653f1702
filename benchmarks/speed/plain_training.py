"""Training PAN the plain way: a per-sample Dataset, negatives and mining in loops, every outfit encoded in full.

The same objective as `panfit.train` (Eq. 5-9), the same number of triplets; chance is its own.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks.speed.plain_pan import PlainPan
from panfit.config import Config
from panfit.model.pan import Pan
from panfit.outfits import Dataset, Outfits
from panfit.train.losses import bpr_loss, quantization_loss, total_loss, user_specific_loss, visual_semantic_loss

Load = Callable[[int], Tensor]
"""Item row -> its photo (3, h, w), normalized, or map (C, H, W); float32."""


@dataclass
class PlainBatch:
    """B likes and K negatives each, loaded whole: users (B,), items (B, S), inputs (B, S, ...), text (B, S, T)."""

    users: Tensor
    items: Tensor
    inputs: Tensor
    text: Tensor | None
    negatives: Tensor  # (B, K, S)
    negative_inputs: Tensor  # (B, K, S, ...)
    negative_text: Tensor | None  # (B, K, S, T)


class Likes(TorchDataset[tuple[int, list[int], Tensor, Tensor | None]]):
    """A like a sample: user, items, their inputs and text, loaded when it is asked for."""

    def __init__(self, likes: Outfits, load: Load, text: Tensor | None) -> None:
        self.users, self.items = likes.users.tolist(), likes.items.tolist()
        self.load, self.text = load, text

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: int) -> tuple[int, list[int], Tensor, Tensor | None]:
        items = self.items[index]
        inputs = torch.stack([self.load(item) for item in items])  # (S, ...)
        text = None if self.text is None else torch.stack([self.text[item] for item in items])  # (S, T)
        return self.users[index], items, inputs, text


class Collate:
    """Samples -> a batch; draws each like's negatives, from the batch or the split, and loads them like any outfit."""

    def __init__(self, dataset: Dataset, load: Load, text: Tensor | None, config: Config) -> None:
        self.load, self.text, self.config = load, text, config.negatives
        self.pools = [pool.tolist() for pool in dataset.split_items("train")]
        self.known = dataset.known_likes()

    def __call__(self, samples: list[tuple[int, list[int], Tensor, Tensor | None]]) -> PlainBatch:
        users = [user for user, _, _, _ in samples]
        items = [outfit for _, outfit, _, _ in samples]
        pools = self.pools
        if self.config.source == "batch":
            pools = [sorted({outfit[slot] for outfit in items}) for slot in range(len(pools))]
        negatives = [[self.draw(user, pools) for _ in range(self.config.per_like)] for user in users]
        texts = [text for _, _, _, text in samples if text is not None]
        return PlainBatch(
            torch.tensor(users),
            torch.tensor(items),
            torch.stack([inputs for _, _, inputs, _ in samples]),
            torch.stack(texts) if texts else None,
            torch.tensor(negatives),
            torch.stack([torch.stack([self.stacked(outfit, self.load) for outfit in each]) for each in negatives]),
            None
            if self.text is None
            else torch.stack([torch.stack([self.text[outfit] for outfit in each]) for each in negatives]),
        )

    def draw(self, user: int, pools: list[list[int]]) -> list[int]:
        """An outfit that the user is not known to like."""
        while True:
            outfit = [random.choice(pool) for pool in pools]
            if (user, *outfit) not in self.known:
                return outfit

    def stacked(self, outfit: list[int], load: Load) -> Tensor:
        return torch.stack([load(item) for item in outfit])  # (S, ...)


class PlainTraining:
    """Steps of training, taken from a DataLoader.

    Attributes:
        at_a_time: outfits that pass the model together; the loss is the batch's either way.
    """

    def __init__(
        self,
        model: Pan,
        dataset: Dataset,
        config: Config,
        optimizer: torch.optim.Optimizer,
        *,
        load: Load,
        text: Tensor | None,
        from_photos: bool,
        at_a_time: int,
    ) -> None:
        self.at_a_time = at_a_time
        categories = [dataset.catalogue.categories.index(slot.category) for slot in dataset.slots]
        self.plain = PlainPan(model, categories, from_photos=from_photos)
        self.model, self.config, self.optimizer = model, config, optimizer
        self.known = dataset.known_likes()
        self.loader = DataLoader(
            Likes(dataset.likes["train"], load, text),
            batch_size=config.train.batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(config.seed),
            collate_fn=Collate(dataset, load, text, config),
        )

    def batches(self) -> Iterator[PlainBatch]:
        """For ever."""
        while True:
            yield from self.loader

    def scores(self, users: Tensor, inputs: Tensor, text: Tensor | None, **options: Any) -> tuple[Tensor, Tensor]:
        """`PlainPan.scores` of (B) outfits, so many at a time."""
        pieces = [
            self.plain.scores(
                users[first : first + self.at_a_time],
                inputs[first : first + self.at_a_time],
                None if text is None else text[first : first + self.at_a_time],
                **options,
            )
            for first in range(0, len(users), self.at_a_time)
        ]
        return torch.cat([score for score, _ in pieces]), torch.cat([codes for _, codes in pieces])

    def step(self, batch: PlainBatch, *, beta: float, hard: bool) -> float:
        """Forward, backward and the optimizer; the loss."""
        config = self.config
        per_like = batch.negatives.shape[1]
        score, codes = self.scores(batch.users, batch.inputs, batch.text, beta=beta, hard=hard)
        mined, others = self.mine(batch, beta=beta)
        negative_scores = []
        for k in range(per_like):
            inputs = batch.negative_inputs[:, k].clone()  # (B, S, ...)
            text = None if batch.negative_text is None else batch.negative_text[:, k].clone()  # (B, S, T)
            for row, best in enumerate(mined):
                if k < len(best) and random.random() < config.negatives.hard_ratio:
                    inputs[row] = batch.inputs[best[k]]
                    if text is not None and batch.text is not None:
                        text[row] = batch.text[best[k]]
            negative_scores.append(self.scores(batch.users, inputs, text, beta=beta, hard=hard)[0])
        negatives = torch.stack(negative_scores, dim=1)  # (B, K)
        terms = {
            "bpr": bpr_loss(score[:, None].expand_as(negatives), negatives, torch.ones_like(negatives).bool()),
            "user": score.new_zeros(()),
            "vse": score.new_zeros(()),
            "quantization": quantization_loss(codes),
        }
        rows = [row for row, other in enumerate(others) if other is not None]
        if rows:
            users = batch.users[[other for other in others if other is not None]]  # (R,)
            text = None if batch.text is None else batch.text[rows]
            other_scores, _ = self.scores(users, batch.inputs[rows], text, beta=beta, hard=hard)
            terms["user"] = user_specific_loss(score[rows], other_scores, torch.ones_like(other_scores).bool())
        if codes.shape[2] == 2 and config.loss.lambda_vse > 0:
            flat = codes.flatten(0, 1)  # (B * S, V, D)
            terms["vse"] = visual_semantic_loss(
                flat[:, 0], flat[:, 1], batch.items.flatten(), margin=config.loss.vse_margin
            )
        total = total_loss(terms, config.loss)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return float(total.detach())

    @torch.no_grad()
    def mine(self, batch: PlainBatch, *, beta: float) -> tuple[list[list[int]], list[int | None]]:
        """For each like the rows of its K hardest outfits, and the row of the user of S2, or None (D10, D11)."""
        settings, num_likes = self.config.negatives, len(batch.users)
        users, items = batch.users.tolist(), batch.items.tolist()
        code = torch.tanh(beta * self.model.user_embeddings(batch.users))  # (B, D)
        mined: list[list[int]] = []
        others: list[int | None] = []
        for i in range(num_likes):
            apart: dict[int, float] = {}
            for j in range(num_likes):
                if users[j] != users[i]:
                    apart[users[j]] = float((code[i] - code[j]).square().sum())
            nearest = sorted(apart, key=lambda user: apart[user])
            near = set(nearest[: max(1, round(settings.k_ratio * len(nearest)))])
            chosen = {"any": set(nearest), "far": set(nearest) - near}.get(settings.choose, near)
            pool = [j for j in range(num_likes) if users[j] in chosen and (users[i], *items[j]) not in self.known]
            askers = [j for j in range(num_likes) if users[j] in chosen and (users[j], *items[i]) not in self.known]
            if settings.choose == "loss":
                pool = self.hardest(batch, [users[i]] * len(pool), pool, pool, beta=beta)
                askers = self.hardest(batch, [users[j] for j in askers], [i] * len(askers), askers, beta=beta)
            else:
                random.shuffle(pool)
                random.shuffle(askers)
            mined.append(pool[: settings.per_like] if settings.hard_ratio > 0 else [])
            others.append(askers[0] if askers and self.config.loss.lambda_user > 0 else None)
        return mined, others

    def hardest(
        self, batch: PlainBatch, users: list[int], outfits: list[int], rows: list[int], *, beta: float
    ) -> list[int]:
        """``rows`` by falling score of ``outfits`` for ``users``."""
        if not rows:
            return []
        self.model.eval()
        text = None if batch.text is None else batch.text[outfits]
        score, _ = self.scores(torch.tensor(users), batch.inputs[outfits], text, beta=beta)
        self.model.train()
        return [rows[place] for place in score.argsort(descending=True).tolist()]
