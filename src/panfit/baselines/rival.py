"""What every learned rival of the paper's Table 1 is: a trunk, an embedding an item, one score an outfit, no user.

The trunk, its head and the inputs are PAN's (`panfit.model.backbone`), without attention, so that a comparison is of
the methods. What several rivals share is at the end: pairs of slots, triplets, means. Imports torch, panfit.config,
panfit.errors and panfit.model only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from panfit.config import Config
from panfit.errors import ConfigError
from panfit.model.backbone import build_backbone
from panfit.model.batch import ABSENT, PanShape


@dataclass(frozen=True, eq=False)
class RivalBatch:
    """A step's outfits, users dropped.

    Attributes:
        maps: (N, C, H, W) trunk maps of the step's distinct items.
        categories: (N,) int64.
        text: (N, T), or None.
        likes: (B, S) int64 rows of ``maps``, -1 where a slot is empty.
        negatives: (B, K, S) each filled slot of a like drawn anew from its category; empty slots as in the like.
        valid: (B, K) bool; False where no negative could be drawn.

    Raises:
        ValueError: shapes that do not fit one another.
    """

    maps: Tensor
    categories: Tensor
    text: Tensor | None
    likes: Tensor
    negatives: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        num_items, (num_outfits, num_slots) = len(self.maps), self.likes.shape
        if self.categories.shape != (num_items,) or (self.text is not None and len(self.text) != num_items):
            raise ValueError(f"{num_items} maps need as many categories and texts")
        if self.valid.shape[:1] != (num_outfits,) or self.negatives.shape != (*self.valid.shape, num_slots):
            raise ValueError(
                f"likes {tuple(self.likes.shape)}, negatives {tuple(self.negatives.shape)}, valid "
                f"{tuple(self.valid.shape)}; wanted (B, S), (B, K, S), (B, K)"
            )


class Rival(nn.Module):
    """A model that scores outfits for nobody in particular. A subclass builds its parts, embeds, scores and has terms.

    Args:
        config: everything; a subclass reads its own section, ``backbone`` and ``model.dropout``.
        shape: what the data decides.
        generator: where all initial weights come from; a CPU generator.
        trunk_config: a Hugging Face trunk's own config, from a checkpoint.
        pretrained: load the trunk's pre-trained weights, where ``config.backbone`` names some.

    Attributes:
        embedding_dim: E, length of an item's embedding; a subclass says it.
        pool_items: how many items `score` wants in its pool; 0 where it reads none.

    Raises:
        ConfigError: settings that contradict one another or the inputs; a loss that needs text where there is none.
    """

    embedding_dim: int
    pool_items: int = 0

    def __init__(
        self,
        config: Config,
        shape: PanShape,
        *,
        generator: torch.Generator,
        trunk_config: dict[str, Any] | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.shape = shape
        self.backbone = build_backbone(
            config.backbone,
            shape.input_shape,
            generator=generator,
            dropout=config.model.dropout,
            trunk_config=trunk_config,
            pretrained=pretrained,
        )

    @property
    def trunk_config(self) -> dict[str, Any] | None:
        """A Hugging Face trunk's own config, which a checkpoint keeps; else None."""
        return self.backbone.trunk_config

    def feature_maps(self, inputs: Tensor) -> Tensor:
        """The trunk: (N, ...) inputs -> (N, C, H, W) maps."""
        return self.backbone.feature_map(inputs)

    def features(self, maps: Tensor) -> Tensor:
        """The trunk's own head on maps that nobody attends to: (N, C, H, W) -> (N, F)."""
        features: Tensor = self.backbone.head(maps)
        return features

    def embed(self, maps: Tensor, categories: Tensor, text: Tensor | None) -> Tensor:
        """N items -> the embeddings (N, E) that `score` reads. Of the photos: text serves the losses alone."""
        raise NotImplementedError

    def score(self, embeddings: Tensor, mask: Tensor, pool: Tensor) -> Tensor:
        """Outfits' embeddings (B, S, E), mask (B, S) bool, pool (P, E) -> scores (B,), higher is better.

        ``pool``: embeddings of the items that a normalization runs over, the same for every outfit.
        """
        raise NotImplementedError

    def question_scores(
        self, embeddings: Tensor, mask: Tensor, blank: Tensor, candidates: Tensor, pool: Tensor
    ) -> Tensor:
        """Fill in the blank: Q outfits (Q, S, E), mask (Q, S), blank slots (Q,), candidates (Q, K, E) -> (Q, K).

        By default the score of the outfit with each candidate in the blank slot.
        """
        num_questions, num_candidates, _ = candidates.shape
        filled = embeddings[:, None].repeat(1, num_candidates, 1, 1)  # (Q, K, S, E)
        filled[torch.arange(num_questions, device=blank.device), :, blank] = candidates
        worn = mask.scatter(1, blank[:, None], True).repeat_interleave(num_candidates, dim=0)  # (Q*K, S)
        scores = self.score(filled.flatten(0, 1), worn, pool)  # (Q*K,)
        return scores.view(num_questions, num_candidates)

    def terms(self, batch: RivalBatch) -> dict[str, Tensor]:
        """The named terms of the loss and their weighted sum as "total", each ()."""
        raise NotImplementedError

    def own_groups(self) -> Mapping[str, nn.Module | None]:
        """The rival's own parts by the names of `OptimizerConfig`'s learning rates, the trunk aside."""
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The trainable parameters by the names of `OptimizerConfig`'s learning rates; trunk includes its own head."""
        modules = {"trunk": self.backbone, **self.own_groups()}
        return {
            name: [] if module is None else [weight for weight in module.parameters() if weight.requires_grad]
            for name, module in modules.items()
        }


@dataclass(frozen=True, eq=False)
class Triplets:
    """T times an item of a like, another item of it, and what a negative wears in the other's place.

    Attributes:
        anchor: (T,), positive: (T,), negative: (T,): rows of the batch's maps.
        pair: (T,) column of the slot pairs that the triplet stands in.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    pair: Tensor


def slot_pairs(slots: tuple[tuple[str, str], ...], *, same_category: bool) -> Tensor:
    """Slots m < n of different categories, with ``same_category`` of one category too -> (2, P) int64."""
    pairs = [
        (m, n)
        for m, (_, category) in enumerate(slots)
        for n in range(m + 1, len(slots))
        if same_category or category != slots[n][1]
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()  # (2, P)


def both_ways(pairs: Tensor) -> Tensor:
    """Pairs (2, P) -> (2, 2P): each pair, then each pair turned around, so that either side can be the anchor."""
    return torch.cat([pairs, pairs.flip(0)], dim=1)


def draw_triplets(batch: RivalBatch, pairs: Tensor) -> Triplets:
    """All triplets of a batch, for pairs (2, P) of slots (anchor's, positive's): up to B K P.

    A negative that is the positive itself, or the anchor (where two slots share a category), is left out: the two are
    known to be worn together.
    """
    of_anchor, of_positive = pairs  # (P,), (P,)
    negative = batch.negatives[:, :, of_positive]  # (B, K, P)
    anchor = batch.likes[:, None, of_anchor].expand_as(negative)  # (B, K, P)
    positive = batch.likes[:, None, of_positive].expand_as(negative)  # (B, K, P)
    worn = (anchor != ABSENT) & (positive != ABSENT) & (negative != ABSENT)  # (B, K, P)
    counted = batch.valid[:, :, None] & worn & (negative != positive) & (negative != anchor)  # (B, K, P)
    pair = torch.arange(pairs.shape[1], device=negative.device).expand_as(negative)  # (B, K, P)
    return Triplets(anchor[counted], positive[counted], negative[counted], pair[counted])


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distance of (..., E) and (..., E) -> (...); its gradient is 0, not infinite, where the two agree."""
    apart: Tensor = torch.linalg.vector_norm(first - second, dim=-1)
    return apart


def mean_or_zero(costs: Tensor) -> Tensor:
    """(T,) -> () the mean; over nothing a zero that still carries a graph."""
    return costs.sum() / max(len(costs), 1)


def masked_mean(values: Tensor, counted: Tensor, dim: int = -1) -> Tensor:
    """The mean along ``dim`` over the places that count, bool and of the same shape; 0, with a graph, over none."""
    return values.masked_fill(~counted, 0).sum(dim) / counted.sum(dim).clamp(min=1)


def require_text(shape: PanShape, weights: Mapping[str, float]) -> None:
    """Raises ConfigError where the items have no text, but one of the ``weights`` (setting -> value) needs it."""
    needing = " and ".join(f"{setting} = {value:g}" for setting, value in weights.items() if value > 0)
    if shape.text_dim is None and needing:
        without = " and ".join(f"{setting} = 0" for setting in weights)
        raise ConfigError(
            f"found no text of the items; wanted a text vector each, for {needing}. Give every item a title or a "
            f'stored vector and leave text.source at "auto", or set {without}'
        )
