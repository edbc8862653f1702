"""SiameseNet (Veit et al., ICCV 2015): one embedding for all categories, in which items worn together lie close.

Trained by Veit's contrastive loss, or by the cosine loss of Han et al. (2017), who compared with it; decision D27.
Imports torch, panfit.config and panfit.model only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panfit.baselines.rival import (
    Rival,
    RivalBatch,
    both_ways,
    distance,
    draw_triplets,
    masked_mean,
    mean_or_zero,
    slot_pairs,
)
from panfit.config import Config
from panfit.model.batch import ABSENT, PanShape
from panfit.model.initialize import drawn_from


@dataclass(frozen=True)
class Objective:
    """How close two embeddings are, and what a pair costs that lies so close.

    Attributes:
        closeness: (..., E), (..., E) -> (...), higher is closer.
        together: closeness (...) of two items of a like -> cost (...).
        apart: closeness (...) of a like's item and a negative's, margin -> cost (...).
    """

    closeness: Callable[[Tensor, Tensor], Tensor]
    together: Callable[[Tensor], Tensor]
    apart: Callable[[Tensor, float], Tensor]


def _minus_distance(first: Tensor, second: Tensor) -> Tensor:
    return -distance(first, second)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(-1)  # of unit vectors


def _squared_hinge(closeness: Tensor, margin: float) -> Tensor:
    return F.relu(margin + closeness).square()  # max(0, margin - d)^2


def _hinge(closeness: Tensor, margin: float) -> Tensor:
    return F.relu(closeness - margin)


OBJECTIVES = {
    "contrastive": Objective(_minus_distance, torch.square, _squared_hinge),
    "cosine": Objective(_cosine, torch.neg, _hinge),
}


class SiameseNet(Rival):
    """Head - Linear(F -> E) - L2. Score: the mean closeness over the outfit's pairs of different categories.

    Contrastive: d^2 together, max(0, margin - d)^2 apart, closeness -d. Cosine: -cos together, max(0, cos - margin)
    apart, closeness cos.

    Args, Raises: see `Rival`.
    """

    pairs: Tensor

    def __init__(
        self,
        config: Config,
        shape: PanShape,
        *,
        generator: torch.Generator,
        trunk_config: dict[str, Any] | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__(config, shape, generator=generator, trunk_config=trunk_config, pretrained=pretrained)
        self.margin = config.siamese.margin
        self.objective = OBJECTIVES[config.siamese.loss]
        self.embedding_dim = config.siamese.embedding_dim
        with drawn_from(generator):
            self.embedding = nn.Linear(self.backbone.head_dim, self.embedding_dim, bias=False)
        self.register_buffer("pairs", slot_pairs(shape.slots, same_category=False), persistent=False)  # (2, P)

    def embed(self, maps: Tensor, categories: Tensor, text: Tensor | None) -> Tensor:
        embeddings: Tensor = self.embedding(self.features(maps))  # (N, E)
        return F.normalize(embeddings.to(self.embedding.weight.dtype), dim=1)  # (N, E); autocast ends here

    def score(self, embeddings: Tensor, mask: Tensor, pool: Tensor) -> Tensor:
        """Mean closeness over pairs of different categories: (B, S, E), (B, S) -> (B,); 0 where there is no pair."""
        worn = embeddings.masked_fill(~mask[:, :, None], 0)  # (B, S, E)
        first, second = self.pairs  # (P,), (P,)
        closeness = self.objective.closeness(worn[:, first], worn[:, second])  # (B, P)
        return masked_mean(closeness, mask[:, first] & mask[:, second])  # (B,)

    def question_scores(
        self, embeddings: Tensor, mask: Tensor, blank: Tensor, candidates: Tensor, pool: Tensor
    ) -> Tensor:
        """Contrastive: as any rival. Cosine (Han): the cosine of a candidate and the mean of the given items.

        Han's rule orders candidates as the score does, but for two slots of one category, whose pair it counts too.
        """
        if self.config.siamese.loss == "contrastive":
            return super().question_scores(embeddings, mask, blank, candidates, pool)
        given = mask.scatter(1, blank[:, None], False)[:, :, None].expand_as(embeddings)  # (Q, S, E)
        mean = F.normalize(masked_mean(embeddings, given, dim=1), dim=1)  # (Q, E)
        return self.objective.closeness(mean[:, None], candidates)  # (Q, K)

    def terms(self, batch: RivalBatch) -> dict[str, Tensor]:
        """The mean cost of a like's pairs, "together"; of pairs with one side from a negative, "apart"; their sum."""
        embeddings = self.embed(batch.maps, batch.categories, batch.text)  # (N, E)
        first, second = batch.likes[:, self.pairs[0]], batch.likes[:, self.pairs[1]]  # (B, P), (B, P)
        worn = (first != ABSENT) & (second != ABSENT)  # (B, P)
        closeness = self.objective.closeness(embeddings[first[worn]], embeddings[second[worn]])  # (pairs,)
        chosen = draw_triplets(batch, both_ways(self.pairs))
        nearness = self.objective.closeness(embeddings[chosen.anchor], embeddings[chosen.negative])  # (T,)
        together = mean_or_zero(self.objective.together(closeness))  # ()
        apart = mean_or_zero(self.objective.apart(nearness, self.margin))  # ()
        return {"together": together, "apart": apart, "total": together + apart}

    def own_groups(self) -> Mapping[str, nn.Module | None]:
        return {"image_encoder": self.embedding, "text_encoder": None, "predictor": None}
