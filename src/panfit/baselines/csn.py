"""CSN (Vasileva et al., ECCV 2018): type-aware embeddings, a learned mask for each pair of categories; decision D27.

As in the released code with --learned --l2_embed. Imports torch, panfit.config and panfit.model only.
"""

from collections.abc import Mapping
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
    require_text,
    slot_pairs,
)
from panfit.config import Config
from panfit.model.batch import PanShape
from panfit.model.initialize import drawn_from

MASK_MEAN, MASK_STD = 0.9, 0.7
"""Of the initial masks, in the released code."""


class PairSpaces(nn.Module):
    """A space for each pair of categories: the general embedding under the pair's mask, L2-normalized."""

    def __init__(self, num_spaces: int, width: int) -> None:
        super().__init__()
        self.masks = nn.Parameter(torch.empty(num_spaces, width).normal_(MASK_MEAN, MASK_STD))

    def applied(self) -> Tensor:
        """(spaces, E) the masks: ReLU in training, raw at test, a quirk of the released code that we keep."""
        return F.relu(self.masks) if self.training else self.masks

    def forward(self, general: Tensor, space: Tensor) -> Tensor:
        """General embeddings (..., E), each with its space (...) or one for all -> (..., E)."""
        return F.normalize(general * self.applied()[space], dim=-1)


class Csn(Rival):
    """Head - Linear(F -> E), the general embedding; text - Linear - BatchNorm - ReLU - Linear(E -> E) - L2.

    Score: minus the mean distance over all pairs of the outfit, each in the space of its two categories; two tops are
    a pair too. Fill-in-the-blank by the released code sums a candidate's distances to the given items; the mean over
    the filled outfit puts the candidates in the same order.

    Args: see `Rival`.

    Raises:
        ConfigError: see `Rival`; csn.lambda_vse or csn.lambda_text > 0 without text.
    """

    pairs: Tensor
    spaces_of_pairs: Tensor

    def __init__(
        self,
        config: Config,
        shape: PanShape,
        *,
        generator: torch.Generator,
        trunk_config: dict[str, Any] | None = None,
        pretrained: bool = True,
    ) -> None:
        settings = config.csn
        require_text(shape, {"csn.lambda_vse": settings.lambda_vse, "csn.lambda_text": settings.lambda_text})
        super().__init__(config, shape, generator=generator, trunk_config=trunk_config, pretrained=pretrained)
        self.embedding_dim = settings.embedding_dim
        pairs = slot_pairs(shape.slots, same_category=True)  # (2, P)
        spaces = _spaces(shape.slots, pairs)  # (P,)
        with drawn_from(generator):
            self.embedding = nn.Linear(self.backbone.head_dim, self.embedding_dim)
            self.spaces = PairSpaces(len(spaces.unique()), self.embedding_dim)
            self.text_encoder = None if shape.text_dim is None else _text_encoder(shape.text_dim, self.embedding_dim)
        self.register_buffer("pairs", pairs, persistent=False)
        self.register_buffer("spaces_of_pairs", spaces, persistent=False)

    def embed(self, maps: Tensor, categories: Tensor, text: Tensor | None) -> Tensor:
        general: Tensor = self.embedding(self.features(maps))  # (N, E)
        return general.to(self.embedding.weight.dtype)  # (N, E); autocast ends here

    def score(self, embeddings: Tensor, mask: Tensor, pool: Tensor) -> Tensor:
        """-mean distance in the pairs' spaces: (B, S, E), (B, S) -> (B,); 0 where there is no pair."""
        worn = embeddings.masked_fill(~mask[:, :, None], 0)  # (B, S, E)
        first, second = self.pairs  # (P,), (P,)
        in_space = [self.spaces(worn[:, side], self.spaces_of_pairs) for side in (first, second)]  # (B, P, E) each
        return -masked_mean(distance(*in_space), mask[:, first] & mask[:, second])  # (B,)

    def terms(self, batch: RivalBatch) -> dict[str, Tensor]:
        """The released code's terms, each a mean over the triplets, and their weighted sum.

        "triplet": the positive lies closer to the anchor than the negative does, in the pair's space. "norm": the root
        mean square length of the general embeddings. "mask": the L1 norm of the masks used. "image": positive and
        negative, of one category, lie closer to each other than to the anchor, by their general embeddings; "text": by
        their texts. "vse": an item's text lies closer to its own photo than to those of the triplet's other two.
        """
        general = self.embed(batch.maps, batch.categories, batch.text)  # (N, E)
        chosen = draw_triplets(batch, both_ways(self.pairs))
        roles = (chosen.anchor, chosen.positive, chosen.negative)  # (T,) each
        space = self.spaces_of_pairs.repeat(2)[chosen.pair]  # (T,)
        in_space = [self.spaces(general[role], space) for role in roles]  # (T, E) each
        lengths = [torch.linalg.vector_norm(general[role]) / max(len(role), 1) ** 0.5 for role in roles]  # () each
        terms = {
            "triplet": mean_or_zero(self._hinge(*in_space)),
            "norm": torch.stack(lengths).mean(),
            "mask": mean_or_zero(self.spaces.applied()[space].abs().sum(dim=1)),
            "image": mean_or_zero(self._similarity_hinge(general, *roles)),
            **self._text_terms(general, batch.text, *roles),
        }
        settings = self.config.csn
        weights = {
            "triplet": 1.0,
            "norm": settings.lambda_norm,
            "mask": settings.lambda_mask,
            "image": settings.lambda_image,
            "text": settings.lambda_text,
            "vse": settings.lambda_vse,
        }
        total = torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()  # ()
        return {**terms, "total": total}

    def own_groups(self) -> Mapping[str, nn.Module | None]:
        return {"image_encoder": self.embedding, "text_encoder": self.text_encoder, "predictor": self.spaces}

    def _text_terms(
        self, general: Tensor, text: Tensor | None, anchor: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """ "text" and "vse"; an item whose text vector is all zeros has no text, and what needs it is left out."""
        if self.text_encoder is None:
            return {"text": general[:0].sum(), "vse": general[:0].sum()}  # (), ()
        if text is None:
            raise ValueError("this model has a text branch: a batch must bring text")
        words = F.normalize(self.text_encoder(text).to(general.dtype), dim=1)  # (N, E)
        told = text.any(dim=1)  # (N,)
        all_told = told[anchor] & told[positive] & told[negative]  # (T,)
        by_role = []
        for own, other, third in (
            (anchor, positive, negative),
            (positive, anchor, negative),
            (negative, anchor, positive),
        ):
            hinges = [self._hinge(words[own], general[own], general[rest]) for rest in (other, third)]  # (T,) each
            by_role.append(masked_mean(torch.stack(hinges).mean(dim=0), told[own]))  # ()
        similarity = self._similarity_hinge(words, anchor, positive, negative)  # (T,)
        return {"text": masked_mean(similarity, all_told), "vse": torch.stack(by_role).mean()}

    def _similarity_hinge(self, vectors: Tensor, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """(N, E) and rows (T,) -> (T,): positive and negative are to be closer to each other than to the anchor."""
        x, y, z = vectors[anchor], vectors[positive], vectors[negative]  # (T, E) each
        return (self._hinge(y, z, x) + self._hinge(z, y, x)) / 2  # (T,)

    def _hinge(self, anchor: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """(T, E) each -> (T,) max(0, d(anchor, near) - d(anchor, far) + margin)."""
        return F.relu(distance(anchor, near) - distance(anchor, far) + self.config.csn.margin)


def _spaces(slots: tuple[tuple[str, str], ...], pairs: Tensor) -> Tensor:
    """Slot pairs (2, P) -> (P,) int64 the number of the unordered pair of categories that each belongs to."""
    met = [tuple(sorted(slots[slot][1] for slot in pair)) for pair in pairs.T.tolist()]
    numbers = {categories: number for number, categories in enumerate(dict.fromkeys(met))}
    return torch.tensor([numbers[categories] for categories in met], dtype=torch.int64)  # (P,)


def _text_encoder(text_dim: int, width: int) -> nn.Sequential:
    """As released, but for a bias that the batch normalization would cancel; E is the hidden width too."""
    return nn.Sequential(
        nn.Linear(text_dim, width, bias=False),
        nn.BatchNorm1d(width, eps=0.001, momentum=0.01),
        nn.ReLU(),
        nn.Linear(width, width),
    )
