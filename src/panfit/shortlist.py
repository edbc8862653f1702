"""SHORTLIST: which items are worth encoding for a viewer whose own table is not there; the first of two stages.

Encoding a large catalogue for one viewer reads every map once. A few prototypes' tables, made once for everybody, say
where to look instead: what a prototype near the viewer sees of an item is close to what the viewer sees of it. PAN then
encodes the shortlist alone and scores it exactly. What is returned has exact scores; what is missed is measured
(docs/results.md). Never imports train.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity

from panfit.codes import CodeTables
from panfit.newcomers import k_means
from panfit.outfits import IntArray
from panfit.search import CodeIndex

Progress = Callable[[int, int], None]
"""Called with (items done, items in all)."""

NUM_PROTOTYPES = 24
NEAREST = 1
"""Prototypes that are asked for each viewer."""
SHARE = 0.04
"""Of a slot's candidates, how many are shortlisted; never fewer than `LEAST`."""
LEAST = 256


def taste_prototypes(embeddings: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """The eyes of nobody in particular and of clusters of users: embeddings (M, D) -> (1 + min(count, M), D).

    The first is the mean, the others are k-means centers. Within one machine the same seed gives the same centers.
    """
    users = np.ascontiguousarray(embeddings.detach().cpu().numpy(), dtype=np.float32)  # (M, D)
    means = [users.mean(axis=0, keepdims=True)]
    if count > 0:
        means.append(k_means(users, min(count, len(users)), seed=seed).centroids)
    return torch.from_numpy(np.concatenate(means)).to(embeddings.device)


class Shortlister:
    """Names the items that a viewer's best ones are most likely among.

    Args:
        tables: the prototypes' tables live here, as anybody's do.
        prototypes: (P, D) embeddings, from `taste_prototypes`.
    """

    def __init__(self, tables: CodeTables, prototypes: Tensor) -> None:
        self._tables = tables
        self.prototypes = prototypes
        self._indexes: dict[tuple[int, int, int], CodeIndex] = {}

    def prepare(self, *, progress: Progress | None = None) -> None:
        """Make what is missing of the prototypes' tables; with a cache folder, once for every later process."""
        num_items = len(self._tables.coder.inputs)
        for place, prototype in enumerate(self.prototypes):
            self._tables.table(prototype)
            if progress is not None:
                progress((place + 1) * num_items, len(self.prototypes) * num_items)

    def shortlist(self, viewer: Tensor, query: NDArray[np.float64], rows: IntArray, size: int) -> IntArray:
        """The most promising of the candidates.

        Args:
            viewer: embedding (D,).
            query: (V * D,) of the open slot (`Predictor.completion_query`), with the viewer's own codes in it.
            rows: (n,) candidates, item rows of one category, rising.
            size: how many to name, at least.

        Returns:
            (m,) rows, rising; m is ``size``, or the number of candidates where that is less.
        """
        if size >= len(rows):
            return rows
        nearest = torch.argsort(-cosine_similarity(self.prototypes, viewer[None]), stable=True)[:NEAREST].tolist()
        asked = [self._ranked(place, query, rows, size) for place in nearest]  # (size,) each, best first
        # By rank in turn: each prototype's best, then each one's second, until there are enough.
        in_turn = np.stack(asked, axis=1).ravel()  # (size * p,)
        _, first = np.unique(in_turn, return_index=True)
        return np.sort(in_turn[np.sort(first)[:size]])

    def _ranked(self, place: int, query: NDArray[np.float64], rows: IntArray, size: int) -> IntArray:
        """(size,) of the candidates (n,), as a prototype sees them, best first."""
        of_category = self._tables.coder.inputs.categories.cpu().numpy()  # (N,)
        category = int(of_category[rows[0]])
        whole = np.flatnonzero(of_category == category)  # (m,)
        key = place, category, len(whole)  # new items make a new index
        if key not in self._indexes:
            self._indexes[key] = CodeIndex(self._tables.packed(self.prototypes[place], whole))
        allowed = None
        if len(rows) < len(whole):
            allowed = np.zeros(len(whole), dtype=np.bool_)  # (m,)
            allowed[np.searchsorted(whole, rows)] = True
        ranked: IntArray = whole[self._indexes[key].search(query[None], size, allowed=allowed).rows[0]]
        return ranked
