"""NEWCOMERS: a few likes -> a user, without touching the model. Never imports train.

A newcomer is taken to have one of the tastes that the model has learned; his likes and dislikes say which ones are
likely. His f_u is the mean of those tastes, each weighted by its posterior probability. Nothing is fitted by
steps: it is fast, it keeps no state that could go stale, and the order in which likes came cannot matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.encode import FloatArray, ItemCoder
from panfit.errors import DataError, Problem
from panfit.features.fingerprints import fingerprints_of
from panfit.ids import OutfitIds
from panfit.outfits import ABSENT, IntArray
from panfit.scoring import predict
from panfit.taste_file import Compared, TasteFile

MAX_TASTES = 96
"""Tastes that a newcomer is compared with: the users, or of more users k-means clusters. Fewer are faster, and worse
from some ten likes on."""
NUM_REFERENCES = 64
"""Outfits that others like, with which each like and dislike of a newcomer is compared; more gain little."""
BLOCK_TASTES = 16
"""Tastes whose codes of the items are held at a time."""


@dataclass(frozen=True, eq=False)
class Newcomer:
    """A user whom the model was not trained with. Goes wherever a user id goes.

    Attributes:
        name: what results call him.
        likes: the outfits he is known to like; they are not recommended again.
        dislikes: the outfits he is known not to like.
        embedding: (D,) his f_u, in PAN Eq. 1's place.
    """

    name: str
    likes: tuple[OutfitIds, ...]
    dislikes: tuple[OutfitIds, ...]
    embedding: Tensor

    def __str__(self) -> str:
        return self.name


User = str | Newcomer
"""Who is asked about: a user id, or a newcomer."""


@dataclass(frozen=True, eq=False)
class Tastes:
    """What newcomers are compared with.

    Attributes:
        embeddings: (T, D).
        shares: (T,) of the users whom each stands for; their sum is 1.
    """

    embeddings: Tensor
    shares: FloatArray


class NewcomerFitter:
    """Makes newcomers' embeddings for one state of a model's weights.

    Args:
        coder: encodes items as the tastes see them.
        embeddings: (M, D) f_u of the users the model was trained with; no others.
        liked: (B, S) outfits that anybody is known to like, item rows; references are drawn from them, and with
            dislikes alone they say what there is to like.
        seed: which references are drawn, and where k-means starts.
        max_tastes: more users than these are clustered.
        num_references: how many outfits are drawn, once for all newcomers.
        folder: where what newcomers are compared with is kept for later processes (`panfit.taste_file`); None: nowhere.

    Attributes:
        mean: (D,) the embedding of somebody of whom nothing is known.
        references: (R, S) the outfits that were drawn, item rows.

    Raises:
        ValueError: no users, no outfits, or shapes that do not fit.
    """

    def __init__(
        self,
        coder: ItemCoder,
        embeddings: Tensor,
        liked: IntArray,
        *,
        seed: int = 0,
        max_tastes: int = MAX_TASTES,
        num_references: int = NUM_REFERENCES,
        folder: Path | None = None,
    ) -> None:
        if embeddings.ndim != 2 or not len(embeddings) or liked.ndim != 2 or not len(liked):
            raise ValueError(f"wanted embeddings (M, D) and outfits (B, S), not {embeddings.shape} and {liked.shape}")
        if min(max_tastes, num_references) < 1:
            raise ValueError(f"max_tastes and num_references must be positive, not {max_tastes} and {num_references}")
        self._coder = coder
        self._embeddings = embeddings.detach()  # (M, D)
        self._max_tastes, self._seed, self._folder = max_tastes, seed, folder
        self.mean = self._embeddings.mean(0)  # (D,)
        drawn = distinct_outfits(liked)  # (b, S)
        self.references = np.random.default_rng(seed).permutation(drawn)[:num_references]  # (R, S)
        self._compared: tuple[Tastes, FloatArray] | None = None  # T tastes, (T, R) their scores of the references

    @property
    def tastes(self) -> Tastes:
        """What newcomers are compared with."""
        return self._prepared()[0]

    def prepare(self) -> None:
        """Score the references, once for all newcomers; else the first one waits for it."""
        self._prepared()

    def _prepared(self) -> tuple[Tastes, FloatArray]:
        if self._compared is None:
            file = None if self._folder is None else self._file(self._folder)
            kept = None if file is None else file.read()
            if kept is not None:
                tastes = Tastes(torch.from_numpy(kept.embeddings).to(self._embeddings), kept.shares)
                self._compared = tastes, kept.scores
            else:
                tastes = group_tastes(self._embeddings, self._max_tastes, seed=self._seed)
                scores = self._scores(tastes, self.references)  # (T, R)
                self._compared = tastes, scores
                if file is not None:
                    file.write(Compared(tastes.embeddings.cpu().numpy(), tastes.shares, scores))
        return self._compared

    def _file(self, folder: Path) -> TasteFile:
        """Where that is kept: under all that it is made of."""
        items, places = np.unique(self.references, return_inverse=True)  # (n,), (R, S)
        seen = items[items != ABSENT]
        words = self.references.shape, places.tolist(), len(seen), self._max_tastes, self._seed
        return TasteFile(
            folder,
            model=self._coder.fingerprint(),
            made_of=[
                repr(words).encode(),
                fingerprints_of(self._coder.inputs, seen).tobytes(),
                self._embeddings.cpu().numpy().astype("<f4").tobytes(),
            ],
            bits=self._embeddings.shape[1],
            references=len(self.references),
        )

    def fit(self, likes: IntArray, dislikes: IntArray) -> Tensor:
        """The newcomer's f_u: the mean of the tastes under `weights`; of nothing known, the mean of all users.

        Args:
            likes: (L, S) outfits of item rows, ABSENT where nothing is worn; L may be 0. One that comes twice counts
                once.
            dislikes: (K, S) outfits; K may be 0.

        Returns:
            (D,) on the embeddings' device. The same for the same outfits, in whatever order they come.

        Raises:
            ValueError: outfits of another number of slots.
        """
        for outfits in (likes, dislikes):
            if outfits.ndim != 2 or outfits.shape[1] != self.references.shape[1]:
                raise ValueError(f"wanted outfits (B, {self.references.shape[1]}), not {outfits.shape}")
        if not len(likes) and not len(dislikes):
            return self.mean.clone()
        eyes = self.tastes.embeddings  # (T, D)
        return torch.from_numpy(self.weights(likes, dislikes)).to(eyes) @ eyes  # (D,)

    def weights(self, likes: IntArray, dislikes: IntArray) -> FloatArray:
        """(T,) how probable each taste is, given likes (L, S) and dislikes (K, S); their sum is 1.

        The likelihood of a like is what BPR (PAN Eq. 6) maximizes in training: sigmoid(y_like - y_other), here the
        geometric mean over the references. A dislike is the other way round. Each opinion is a factor of its own.
        """
        likes, dislikes = distinct_outfits(likes), distinct_outfits(dislikes)  # (L, S), (K, S)
        tastes, reference_scores = self._prepared()  # T, (T, R)
        opinions = self._scores(tastes, np.concatenate([likes, dislikes]))  # (T, L + K)
        ahead = opinions[:, :, None] - reference_scores[:, None]  # (T, L + K, R)
        ahead[:, len(likes) :] *= -1
        log_likelihood = -np.logaddexp(0, -ahead).mean(axis=2).sum(axis=1)  # (T,) log sigmoid
        log_posterior = np.log(tastes.shares) + log_likelihood  # (T,)
        posterior = np.exp(log_posterior - log_posterior.max())  # (T,)
        return np.asarray(posterior / posterior.sum())

    def _scores(self, tastes: Tastes, outfits: IntArray) -> FloatArray:
        """Outfits (B, S) -> (T, B) scores y of Eq. 4 of binary codes, as each taste sees them."""
        coder = self._coder
        items = np.unique(outfits[outfits != ABSENT])  # (n,)
        places = np.where(outfits == ABSENT, ABSENT, np.searchsorted(items, outfits))  # (B, S)
        scores = []
        for eyes in tastes.embeddings.split(BLOCK_TASTES):  # (t, D)
            t, n = len(eyes), len(items)
            pair_eyes, pair_items = np.repeat(np.arange(t), n), np.tile(items, t)  # (t * n,) each
            codes = coder.codes(eyes, pair_eyes, pair_items, binary=True)  # (t * n, V, D)
            taste = np.repeat(np.arange(t), len(outfits))  # (t * B,)
            of_taste = np.tile(places, (t, 1))  # (t * B, S)
            pairs = np.where(of_taste == ABSENT, ABSENT, of_taste + n * taste[:, None])  # (t * B, S)
            viewer_codes = coder.viewer_codes(eyes, binary=True)  # (t, D)
            found = predict(coder.model, viewer_codes, codes, np.column_stack([taste, pairs]))  # (t * B,)
            scores.append(found.reshape(t, len(outfits)))
        return np.concatenate(scores)


def group_tastes(embeddings: Tensor, count: int, *, seed: int = 0) -> Tastes:
    """Users' embeddings (M, D) -> at most ``count`` tastes: the users, or the means of k-means clusters of them.

    Their mean, weighted by shares, is the mean of the users.
    """
    num_users = len(embeddings)
    if num_users <= count:
        return Tastes(embeddings, np.full(num_users, 1 / num_users))
    users = np.ascontiguousarray(embeddings.cpu().numpy(), dtype=np.float32)  # (M, D)
    clusters = k_means(users, count, seed=seed)
    _, nearest = clusters.index.search(users, 1)  # (M, 1)
    names, of_user, sizes = np.unique(nearest[:, 0], return_inverse=True, return_counts=True)  # (T,), (M,), (T,)
    sums = np.zeros((len(names), users.shape[1]))  # (T, D)
    np.add.at(sums, of_user, users)
    means = torch.from_numpy(sums / sizes[:, None]).to(embeddings)  # (T, D)
    return Tastes(means, sizes / num_users)


def k_means(users: NDArray[np.float32], count: int, *, seed: int) -> faiss.Kmeans:
    """Trained clusters of users' embeddings (M, D); within one machine the same seed gives the same."""
    clusters = faiss.Kmeans(users.shape[1], count, niter=25, seed=seed, min_points_per_centroid=1, verbose=False)
    clusters.train(users)
    return clusters


def check_opinions(likes: Sequence[OutfitIds], dislikes: Sequence[OutfitIds]) -> None:
    """Raise DataError, naming every one, where an outfit is both liked and disliked (in whatever order its items)."""
    liked = {_as_set(outfit) for outfit in likes}
    problems = [
        Problem("dislikes", f"{outfit!r}", "an outfit that is not among the likes", "Take it out of one of the two.", n)
        for n, outfit in enumerate(dislikes, start=1)
        if _as_set(outfit) in liked
    ]
    if problems:
        raise DataError(f"{len(problems)} outfit(s) are both liked and disliked", problems)


def distinct_outfits(outfits: IntArray) -> IntArray:
    """Outfits (B, S) -> (b, S), each set of items once, in an order that is the same for any order of the rows."""
    ordered = np.lexsort(outfits.T[::-1])  # (B,) first: which of two orders of one outfit stays depends on no row
    outfits = outfits[ordered]
    _, first = np.unique(np.sort(outfits, axis=1), axis=0, return_index=True)
    return outfits[first]


def _as_set(outfit: OutfitIds) -> frozenset[str]:
    return frozenset(item_id for item_id in outfit if item_id is not None)
