"""RivalScorer: outfits and questions -> a rival's scores, in bounded memory. Never imports train.

A rival sees an item as everybody does, so an item is embedded once, when it is first asked for.
"""

import numpy as np
import torch
from torch import Tensor

from panfit.baselines.rival import Rival
from panfit.encode import FloatArray, evaluating
from panfit.features.inputs import ItemInputs
from panfit.outfits import ABSENT, FitbQuestions, IntArray, Outfits

BATCH_ITEMS = 64
"""Items embedded at a time."""
BATCH_OUTFITS = 1024
"""Outfits scored at a time; a question counts as many as it has candidates."""


class RivalScorer:
    """Scores outfits with a rival that stays as it is. A `panfit.evaluate.QuestionScorer`.

    Embeddings are kept, so a scorer belongs to one state of the weights: after a training step, make a new one. The
    model is put into evaluation mode for each call, and back.

    Args:
        model: on any device; scores come back as numpy arrays.
        inputs: the items. Photos, or stored maps; or the maps of this model's own trunk, which is then not run again.
        batch_items: items embedded at a time.
        batch_outfits: outfits scored at a time.

    Raises:
        ValueError: inputs of another shape than the model's.
    """

    def __init__(
        self, model: Rival, inputs: ItemInputs, *, batch_items: int = BATCH_ITEMS, batch_outfits: int = BATCH_OUTFITS
    ) -> None:
        # A frozen trunk's maps can take the photos' place; the model itself still says that it takes photos.
        self._are_maps = inputs.input_shape == model.backbone.map_shape
        if not self._are_maps and inputs.input_shape != model.shape.input_shape:
            raise ValueError(f"inputs of shape {inputs.input_shape} for a model of {model.shape.input_shape}")
        self.model = model
        self.inputs = inputs
        self._batch_items = batch_items
        self._batch_outfits = batch_outfits
        self._device = next(model.parameters()).device
        self._embeddings = torch.zeros(len(inputs), model.embedding_dim, device=self._device)  # (N, E)
        self._is_embedded = np.zeros(len(inputs), dtype=np.bool_)  # (N,)
        num_pool = min(model.pool_items, len(inputs))
        self._pool_rows = np.arange(num_pool, dtype=np.int64) * len(inputs) // max(num_pool, 1)  # (P,) evenly spread

    def scores(self, outfits: Outfits, *, binary: bool = False) -> FloatArray:
        """(B,) scores. A rival has no codes: ``binary`` changes nothing."""
        scores = np.empty(len(outfits))  # (B,)
        with evaluating(self.model):
            pool = self._take(self._pool_rows)  # (P, E)
            self._embed(_worn(outfits.items))
            for rows in _blocks(len(outfits), self._batch_outfits):
                embeddings, mask = self._slots(outfits.items[rows])  # (b, S, E), (b, S)
                scores[rows] = self.model.score(embeddings, mask, pool).double().cpu().numpy()
        return scores

    def both(self, outfits: Outfits) -> tuple[FloatArray, FloatArray]:
        """The one score, (B,), twice: what `evaluate` asks for."""
        scores = self.scores(outfits)  # (B,)
        return scores, scores

    def question_scores(self, questions: FitbQuestions) -> FloatArray:
        """(Q, K) scores of the candidates by the rival's own fill-in-the-blank rule."""
        num_questions, num_candidates = questions.candidates.shape
        scores = np.empty((num_questions, num_candidates))  # (Q, K)
        with evaluating(self.model):
            pool = self._take(self._pool_rows)  # (P, E)
            self._embed(np.union1d(_worn(questions.outfits.items), questions.candidates))
            for rows in _blocks(num_questions, max(self._batch_outfits // max(num_candidates, 1), 1)):
                embeddings, mask = self._slots(questions.outfits.items[rows])  # (q, S, E), (q, S)
                candidates = self._take(questions.candidates[rows].ravel())  # (q * K, E)
                found = self.model.question_scores(
                    embeddings,
                    mask,
                    torch.from_numpy(questions.blank[rows]).to(self._device),
                    candidates.unflatten(0, (-1, num_candidates)),
                    pool,
                )
                scores[rows] = found.double().cpu().numpy()
        return scores

    def _slots(self, items: IntArray) -> tuple[Tensor, Tensor]:
        """(b, S) item rows that were embedded -> embeddings (b, S, E), anything in an empty slot, and mask (b, S)."""
        rows = torch.from_numpy(items).to(self._device)  # (b, S)
        return self._embeddings[rows.clamp(min=0)], rows != ABSENT

    def _take(self, items: IntArray) -> Tensor:
        """(n,) item rows -> embeddings (n, E), made where they are not there yet."""
        self._embed(np.unique(items))
        return self._embeddings[torch.from_numpy(items).to(self._device)]

    def _embed(self, items: IntArray) -> None:
        """Embed those of the items (n,), distinct, that are not yet."""
        new = items[~self._is_embedded[items]]
        for block in _blocks(len(new), self._batch_items):
            rows = torch.from_numpy(new[block])  # (n,)
            inputs = self.inputs.batch(new[block]).to(self._device)
            text = None if self.inputs.text is None else self.inputs.text[rows].to(self._device)
            maps = inputs if self._are_maps else self.model.feature_maps(inputs)  # (n, C, H, W)
            categories = self.inputs.categories[rows].to(self._device)
            self._embeddings[rows.to(self._device)] = self.model.embed(maps, categories, text).float()
        self._is_embedded[new] = True


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, count, size)]


def _worn(items: IntArray) -> IntArray:
    """(B, S) item rows -> the distinct ones, without ABSENT."""
    return np.unique(items[items != ABSENT])
