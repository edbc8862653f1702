"""Bi-LSTM (Han et al., ACM MM 2017): an outfit is a sentence of items, read forward and backward; decision D27.

Each direction predicts the next item, out of many, by a dot product; a visual-semantic loss ties photos to texts.
Imports torch, panfit.config and panfit.model only.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panfit.baselines.rival import Rival, RivalBatch, masked_mean, mean_or_zero, require_text
from panfit.config import Config
from panfit.model.batch import ABSENT, PanShape, by_slot
from panfit.model.initialize import drawn_from


class Reader(nn.Module):
    """One direction: dropout - LSTM - dropout - Linear. After each item, what the next should look like."""

    def __init__(self, width: int, *, dropout: float, init: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        _initialize(self, init)
        forget = self.lstm.get_parameter("bias_ih_l0")[width : 2 * width]  # (E,) a view
        nn.init.ones_(forget)  # as in TensorFlow's BasicLSTMCell

    def forward(self, sequence: Tensor) -> Tensor:
        """Items (B, L, E), packed to the left -> predictions (B, L, E), each from the items up to it."""
        hidden, _ = self.lstm(self.dropout(sequence))  # (B, L, E)
        predicted: Tensor = self.output(self.dropout(hidden))  # (B, L, E)
        return predicted


class BiLstm(Rival):
    """Head - Linear(F -> E) - LSTMs; head - Linear(F -> E) and text - Linear(T -> E) for the visual-semantic loss.

    The order is the slots', and an empty slot is skipped. END, the word behind the last item, is the zero vector.

    Args: see `Rival`.

    Raises:
        ConfigError: see `Rival`; bilstm.lambda_vse > 0 without text.
    """

    def __init__(
        self,
        config: Config,
        shape: PanShape,
        *,
        generator: torch.Generator,
        trunk_config: dict[str, Any] | None = None,
        pretrained: bool = True,
    ) -> None:
        settings = config.bilstm
        require_text(shape, {"bilstm.lambda_vse": settings.lambda_vse})
        super().__init__(config, shape, generator=generator, trunk_config=trunk_config, pretrained=pretrained)
        self.embedding_dim = width = settings.hidden
        self.pool_items = settings.pool_items
        with drawn_from(generator):
            self.embedding = nn.Linear(self.backbone.head_dim, width, bias=False)
            self.forward_reader = Reader(width, dropout=settings.dropout, init=settings.init)
            self.backward_reader = Reader(width, dropout=settings.dropout, init=settings.init)
            _initialize(self.embedding, settings.init)
            self.visual_semantic = (
                None
                if shape.text_dim is None
                else VisualSemantic(self.backbone.head_dim, shape.text_dim, width, init=settings.init)
            )

    def embed(self, maps: Tensor, categories: Tensor, text: Tensor | None) -> Tensor:
        return self._embed(self.features(maps))

    def score(self, embeddings: Tensor, mask: Tensor, pool: Tensor) -> Tensor:
        """-mean cross-entropy forward - mean cross-entropy backward: (B, S, E), (B, S), (P, E) -> (B,).

        Each step's softmax runs over pool and END. The item that did follow counts in the numerator whether or not the
        pool holds it, so that a part of a large catalogue can stand for all of it.
        """
        steps = _steps(mask)  # (B, S)
        forward, backward = self._surprise(embeddings, mask, pool)  # (B, S), (B, S)
        return -masked_mean(forward, steps) - masked_mean(backward, steps)  # (B,)

    def question_scores(
        self, embeddings: Tensor, mask: Tensor, blank: Tensor, candidates: Tensor, pool: Tensor
    ) -> Tensor:
        """Han's rule: read up to the blank from both ends, and average the two softmaxes over the candidates.

        Where the blank is the first or the last worn item, one end alone is read; where nothing else is worn, all
        candidates have 0.
        """
        slots = torch.arange(mask.shape[1], device=mask.device)  # (S,)
        before = mask & (slots < blank[:, None])  # (Q, S)
        behind = mask & (slots > blank[:, None])  # (Q, S)
        forward = _last(self.forward_reader(_packed(embeddings, before)), before)  # (Q, E)
        backward = _last(self.backward_reader(_packed(embeddings.flip(1), behind.flip(1))), behind)  # (Q, E)
        predicted = torch.stack([forward, backward], dim=1)  # (Q, 2, E)
        probs = (predicted @ candidates.transpose(1, 2)).softmax(dim=2)  # (Q, 2, K)
        is_read = torch.stack([before.any(1), behind.any(1)], dim=1)[:, :, None].expand_as(probs)  # (Q, 2, K)
        return masked_mean(probs, is_read, dim=1)  # (Q, K)

    def terms(self, batch: RivalBatch) -> dict[str, Tensor]:
        """The mean cross-entropies of the likes, "forward" and "backward"; the visual-semantic "vse"; "total".

        The softmaxes run over the batch's distinct items, the negatives' among them, and END; what is a negative of
        what does not matter.
        """
        features = self.features(batch.maps)  # (N, F)
        embeddings = self._embed(features)  # (N, E)
        mask = batch.likes != ABSENT  # (B, S)
        steps = _steps(mask)  # (B, S)
        forward, backward = self._surprise(by_slot(embeddings, batch.likes), mask, embeddings)  # (B, S), (B, S)
        terms = {"forward": mean_or_zero(forward[steps]), "backward": mean_or_zero(backward[steps])}
        terms["vse"] = self._visual_semantic_loss(features, batch.text)
        settings = self.config.bilstm
        return {**terms, "total": terms["forward"] + terms["backward"] + settings.lambda_vse * terms["vse"]}

    def own_groups(self) -> Mapping[str, nn.Module | None]:
        both = self.visual_semantic
        return {
            "image_encoder": self.embedding if both is None else nn.ModuleList([self.embedding, both.image]),
            "text_encoder": None if both is None else both.text,
            "predictor": nn.ModuleList([self.forward_reader, self.backward_reader]),
        }

    def _embed(self, features: Tensor) -> Tensor:
        embeddings: Tensor = self.embedding(features)  # (N, E)
        return embeddings.to(self.embedding.weight.dtype)  # (N, E); autocast ends here

    def _surprise(self, embeddings: Tensor, mask: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each step, forward and backward, (B, S) each; step t reads the t-th worn item."""
        choices = F.pad(pool, (0, 0, 0, 1))  # (P + 1, E), END last
        forward = _cross_entropy(self.forward_reader, _packed(embeddings, mask), choices)  # (B, S)
        backward = _cross_entropy(self.backward_reader, _packed(embeddings.flip(1), mask.flip(1)), choices)  # (B, S)
        return forward, backward

    def _visual_semantic_loss(self, features: Tensor, text: Tensor | None) -> Tensor:
        if self.visual_semantic is None:
            return features[:0].sum()  # ()
        if text is None:
            raise ValueError("this model has a visual-semantic loss: a batch must bring text")
        loss: Tensor = self.visual_semantic(features, text, margin=self.config.bilstm.vse_margin)  # ()
        return loss


class VisualSemantic(nn.Module):
    """A space that photos and texts share. Han's words, each with a vector, are one given vector a text here."""

    def __init__(self, image_dim: int, text_dim: int, width: int, *, init: float) -> None:
        super().__init__()
        self.image = nn.Linear(image_dim, width, bias=False)
        self.text = nn.Linear(text_dim, width, bias=False)
        _initialize(self, init)

    def forward(self, features: Tensor, text: Tensor, *, margin: float) -> Tensor:
        """Features (N, F), text (N, T) -> () hinges max(0, margin - s(i, i) + s(i, j)) of both directions, over n^2.

        s is the cosine; n counts the items that have a text, a vector that is not all zeros: the others are left out.
        """
        told = text.any(dim=1)  # (N,)
        images = F.normalize(self.image(features[told]), dim=1)  # (n, E)
        texts = F.normalize(self.text(text[told]), dim=1)  # (n, E)
        cosine = texts @ images.T  # (n, n): [i, j] = s(text i, image j)
        own = cosine.diagonal()  # (n,)
        hinges = F.relu(margin - own[:, None] + cosine) + F.relu(margin - own[None, :] + cosine)  # (n, n)
        others = ~torch.eye(len(own), dtype=torch.bool, device=own.device)  # (n, n)
        return (hinges * others).sum() / max(len(own), 1) ** 2  # ()


def _cross_entropy(reader: Reader, sequence: Tensor, choices: Tensor) -> Tensor:
    """-log softmax of the item that comes next, END behind the last: (B, S, E), (P + 1, E) -> (B, S)."""
    predicted: Tensor = reader(sequence)  # (B, S, E)
    following = F.pad(sequence, (0, 0, 0, 1))[:, 1:]  # (B, S, E), zeros for END
    normalizer = (predicted @ choices.T).logsumexp(dim=2)  # (B, S)
    return normalizer - (predicted * following).sum(dim=2)  # (B, S)


def _packed(embeddings: Tensor, mask: Tensor) -> Tensor:
    """The worn items (B, S, E), (B, S) moved to the left in their order, zeros behind them."""
    order = (~mask).to(torch.int8).argsort(dim=1, stable=True)  # (B, S)
    worn = embeddings.masked_fill(~mask[:, :, None], 0)  # (B, S, E)
    return worn.gather(1, order[:, :, None].expand_as(worn))  # (B, S, E)


def _steps(mask: Tensor) -> Tensor:
    """(B, S) worn slots -> (B, S) steps that a reader of the packed items takes: as many, at the left."""
    return torch.arange(mask.shape[1], device=mask.device) < mask.sum(dim=1, keepdim=True)  # (B, S)


def _last(predictions: Tensor, mask: Tensor) -> Tensor:
    """A reader's predictions (B, S, E) after the last of the worn items (B, S) -> (B, E); anything after none."""
    last = (mask.sum(dim=1) - 1).clamp(min=0)  # (B,)
    return predictions[torch.arange(len(last), device=last.device), last]  # (B, E)


def _initialize(module: nn.Module, init: float) -> None:
    """Weights uniform in -init..init, biases 0 (Han's)."""
    for name, weight in module.named_parameters():
        if "bias" in name:
            nn.init.zeros_(weight)
        else:
            nn.init.uniform_(weight, -init, init)
