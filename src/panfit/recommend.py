"""RECOMMEND: a trained model -> a user's best outfits, completions, compositions, and scores. Ids in, ids out.

recommender = panfit.load("runs/closet")
outfits, scores = recommender.recommend("u001", top=10)
recommender.complete("u001", {"top": "top-1", "bottom": "bottom-2"}, top=10)
me = recommender.newcomer(likes=[("top-1", "bottom-2", "shoe-3")])  # goes wherever a user id goes

Never imports train.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Unpack, overload

import numpy as np
from torch import Tensor

from panfit.answers import Alike, Answer, Answers, Codes, Options, Ranking, Source, Users
from panfit.encode import FloatArray
from panfit.explain import Explanation, explain_outfit, outfit_scores
from panfit.ids import OutfitIds
from panfit.new_items import Worn, WornIds
from panfit.newcomer_file import model_fingerprint, read_newcomer, write_newcomer
from panfit.newcomers import Newcomer, NewcomerFitter, User, check_opinions
from panfit.outfits import ABSENT, IntArray, Outfits
from panfit.scoring import OutfitScorer
from panfit.stylist import Stylist, check_top
from panfit.swaps import swap_choices
from panfit.unseen import Photo

LOOKED_AT = 256
"""Of a ranking, how many outfits are looked at beside those that are wanted, before more are: few are left out."""


class Recommender(Stylist):
    """A trained model, its data set, and the outfits and items to choose from.

    It also completes and composes, and takes new items in and old ones out: see `Stylist`, whose arguments are its.
    Wherever a user is asked for, a user id or a `Newcomer` may stand; or a list of them, which gives a list of outfits
    and a list of scores, one a user.
    """

    @cached_property
    def candidates(self) -> IntArray:
        """(C, S) the distinct outfits that anybody likes, in any split, in the data set's order."""
        return _distinct(np.concatenate([likes.items for likes in self.dataset.likes.values()]))

    @overload
    def recommend(self, user: User, top: int = 10, **options: Unpack[Options]) -> Answer: ...
    @overload
    def recommend(self, user: Users, top: int = 10, **options: Unpack[Options]) -> Answers: ...

    def recommend(
        self,
        user: User | Users,
        top: int = 10,
        *,
        among: Iterable[Sequence[str | None]] | None = None,
        exclude_known: bool = True,
        codes: Codes = "binary",
        source: Source = "known",
    ) -> Answer | Answers:
        """A user's best outfits, among known ones or composed from the catalogue.

        Args:
            user: a user id or newcomer; or a list of them.
            top: how many; fewer come back where there are fewer candidates.
            among: known outfits to choose from instead of ``candidates``, repetitions dropped.
            exclude_known: leave out what the user is known to like (his train likes; a newcomer's likes and dislikes).
            codes: "binary", the product, or "relaxed", for known outfits alone.
            source: "known": outfits that somebody likes, or ``among``; "composed": new ones, as `compose` makes them.

        Returns:
            (outfits, scores): item ids in slot order, None where nothing is worn; scores (n,) falling, ties in the
            order of the candidates.

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            DataError: an outfit of ``among`` that does not fit the slots.
            ValueError: top below 1; ``among`` or relaxed codes with composed outfits.
        """
        check_top(top)
        if source == "composed":
            if among is not None or codes != "binary":
                raise ValueError("composed outfits are chosen by binary codes, from items (compose), not from outfits")
            return self._answer(user, lambda each: self._composed(each, top, exclude_known))
        rows = None if among is None else _distinct(self.ids.outfit_rows(among))  # (C, S)
        return self._answer(user, lambda each: self._best(each, rows, top, exclude_known, codes))

    @overload
    def score(self, user: User, outfits: Iterable[Worn], *, codes: Codes = "binary") -> FloatArray: ...
    @overload
    def score(self, user: Users, outfits: Iterable[Worn], *, codes: Codes = "binary") -> list[FloatArray]: ...

    def score(
        self, user: User | Users, outfits: Iterable[Worn], *, codes: Codes = "binary"
    ) -> FloatArray | list[FloatArray]:
        """(B,) how much a user likes each outfit: y of Eq. 4.

        Args:
            user: a user id or a newcomer; or a list of them, which gives a list of (B,) scores.
            outfits: B outfits in slot order: item ids; photos, as pathlib.Path, PIL image or `Photo` with a title; None
                where nothing is worn. Or a single outfit that holds a photo: [photo, photo, photo].
            codes: "binary", the product, or "relaxed".

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            DataError: outfits that do not fit the slots, photos that cannot be used; all of them.
            CheckpointError: photos for a rival, or for stored maps whose trunk cannot be had.
        """
        self._check_users(user)
        worn = WornIds(self.dataset)
        rows = worn.worn_rows(outfits)  # (B, S)
        return self._each(user, lambda each: self._scores(each, rows, codes, worn.photos))

    def score_parts(self, user: User, outfits: Iterable[Sequence[str | None]]) -> tuple[FloatArray, FloatArray]:
        """What the scores of outfits are the sum of: how well the items go together, and how much the user likes each.

        Args:
            user: a user id or a newcomer.
            outfits: B outfits of item ids in slot order, None where nothing is worn.

        Returns:
            general (B,) and personal (B,) of Eq. 4, binary codes; their sum is `score`, to float32's precision.

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            DataError: outfits that do not fit the slots.
            CheckpointError: the run is not PAN's.
        """
        viewer = self.people.embedding(user)  # (D,); a rival is refused
        rows = self.ids.outfit_rows(outfits)  # (B, S)
        if not len(rows):
            return np.zeros(0), np.zeros(0)
        parts = outfit_scores(self._completer.tables, viewer, rows)
        return parts.general.double().cpu().numpy(), parts.personal.double().cpu().numpy()

    def newcomer(
        self,
        likes: Iterable[Sequence[str | None]] = (),
        dislikes: Iterable[Sequence[str | None]] = (),
        *,
        name: str = "newcomer",
        since: Newcomer | None = None,
    ) -> Newcomer:
        """A user made from a few liked outfits, and perhaps disliked ones, without touching the model (decision D35).

        Args:
            likes: outfits of item ids in slot order, None where nothing is worn; of none at all, the mean user comes.
            dislikes: outfits that he does not like.
            name: what answers call him.
            since: an earlier newcomer whose likes and dislikes these join; whose name stays.

        Raises:
            UnknownIdError: an item that the data set does not have.
            DataError: outfits that do not fit the slots, or are both liked and disliked; all of them.
            CheckpointError: the run is not PAN's.
        """
        assert self.pan is not None  # a rival is refused
        earlier = ((), ()) if since is None else (since.likes, since.dislikes)
        known = [
            tuple(dict.fromkeys([*before, *(tuple(outfit) for outfit in more)]))
            for before, more in zip(earlier, (likes, dislikes), strict=True)
        ]
        embedding = self._fit_newcomer(*known)  # (D,)
        return Newcomer(name if since is None else since.name, known[0], known[1], embedding)

    def write_newcomer(self, newcomer: Newcomer, path: str | Path) -> Path:
        """Write a newcomer to a JSON file, whole or not at all. Raises DataError where it cannot be written."""
        return write_newcomer(path, newcomer, model=self._model_fingerprint)

    def read_newcomer(self, path: str | Path) -> Newcomer:
        """A newcomer from his file; one who was made for another model is made again from his likes.

        Raises:
            DataError: no such file, a damaged one, outfits that do not fit the slots.
            UnknownIdError: he likes an item that the data set does not have.
        """
        newcomer = read_newcomer(path, model=self._model_fingerprint, refit=self._fit_newcomer)
        self.people.check(newcomer)
        self.people.known(newcomer)  # his items are there
        return newcomer

    def explain(
        self,
        user: User,
        outfit: Sequence[str | None],
        *,
        against: User | None = None,
        among: Iterable[str] | None = None,
    ) -> Explanation:
        """Why a user likes an outfit as much as he does: parts of the score, maps, the best single swap.

        Args:
            user: a user id or a newcomer.
            outfit: item ids in slot order, None where nothing is worn.
            against: a second user, whose explanation becomes ``Explanation.against``.
            among: item ids that may be swapped in; every offered one if not given.

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            DataError: an outfit that does not fit the slots.
            CheckpointError: the run is not PAN's.
        """
        people = [user] if against is None else [user, against]
        eyes = [self.people.embedding(each) for each in people]  # (D,) each; a rival is refused
        worn = self.ids.outfit_rows([outfit])[0]  # (S,)
        among_rows = None if among is None else self.ids.item_rows(among)
        choices = swap_choices(self.dataset, worn, offered=self._offered, among=among_rows)
        found = [
            explain_outfit(self._completer, self.dataset, str(each), viewer, worn, choices=choices)
            for each, viewer in zip(people, eyes, strict=True)
        ]
        return found[0] if against is None else replace(found[0], against=found[1])

    @overload
    def similar_users(self, user: User, top: int = 10) -> Alike: ...
    @overload
    def similar_users(self, user: Users, top: int = 10) -> list[Alike]: ...

    def similar_users(self, user: User | Users, top: int = 10) -> Alike | list[Alike]:
        """Whose taste is nearest: (user ids, cosines of their f_u with this user's (n,), falling), himself aside.

        Of a list of users, a list of them.

        Raises:
            UnknownIdError: the user is not in the data set.
            CheckpointError: the run is not PAN's.
        """
        check_top(top)
        self._check_users(user)
        return self._each(user, lambda each: self.people.similar(each, top))

    def prepare_newcomers(self) -> None:
        """Make what all newcomers are compared with; else the first one waits for it. CheckpointError for a rival."""
        assert self.pan is not None  # a rival is refused
        self._completer.tables.read_maps()
        self._fitter.prepare()

    @cached_property
    def _fitter(self) -> NewcomerFitter:
        likes = self.dataset.likes["train"]
        trained = self.people.everybody()[np.unique(likes.users).tolist()]  # (m, D) others hold chance alone
        tables = self._completer.tables
        return NewcomerFitter(tables.coder, trained, likes.items, folder=tables.folder)

    @cached_property
    def _model_fingerprint(self) -> str:
        return model_fingerprint(self.pan)

    def _fit_newcomer(self, likes: Sequence[OutfitIds], dislikes: Sequence[OutfitIds]) -> Tensor:
        """(D,) f_u of somebody with these likes and dislikes, once they make sense."""
        rows = [self.ids.outfit_rows(outfits) for outfits in (likes, dislikes)]  # (L, S), (K, S)
        check_opinions(likes, dislikes)
        return self._fitter.fit(*rows)

    def rank(self, user: User) -> Ranking:
        """All `candidates` in a user's order, offered or not, known to him or not. Dear to make; it stays true.

        Raises UnknownIdError: the user is not in the data set.
        """
        self.people.check(user)
        return self._ranked(user, self.candidates, "binary")

    def choose(self, user: User, ranking: Ranking, top: int = 10, *, exclude_known: bool = True) -> Answer:
        """What `recommend` answers, from the user's ranking of the candidates (`rank`): cheap."""
        check_top(top)
        known = self.people.known(user) if exclude_known else set()
        return self._chosen(ranking, self.candidates, self._places(known), top)

    @cached_property
    def _place_of(self) -> dict[tuple[int, ...], int]:
        """Sorted item rows -> place among the candidates."""
        return {tuple(row): place for place, row in enumerate(np.sort(self.candidates, axis=1).tolist())}

    def _places(self, known: Iterable[tuple[int, ...]]) -> IntArray:
        """Where outfits, as sorted item rows, stand among the candidates; those that do not are left out."""
        return np.array([self._place_of[outfit] for outfit in known if outfit in self._place_of], dtype=np.int64)

    def _best(self, user: User, among: IntArray | None, top: int, exclude_known: bool, codes: Codes) -> Answer:
        known = self.people.known(user) if exclude_known else set()
        if among is None:
            return self._chosen(self._ranked(user, self.candidates, codes), self.candidates, self._places(known), top)
        places = [place for place, outfit in enumerate(np.sort(among, axis=1).tolist()) if tuple(outfit) in known]
        return self._chosen(self._ranked(user, among, codes), among, np.array(places, dtype=np.int64), top)

    def _ranked(self, user: User, candidates: IntArray, codes: Codes) -> Ranking:
        scores = self._scores(user, candidates, codes)  # (C,)
        return Ranking(np.argsort(-scores, kind="stable").astype(np.int32), scores)

    def _chosen(self, ranking: Ranking, candidates: IntArray, known: IntArray, top: int) -> Answer:
        """The first ``top`` whose items are all offered and which do not stand at ``known`` places (k,)."""
        is_known = np.zeros(len(candidates), dtype=np.bool_)  # (C,)
        is_known[known] = True
        best = np.zeros(0, dtype=np.int64)
        for first in range(0, len(ranking.order), LOOKED_AT + top):
            places = ranking.order[first : first + LOOKED_AT + top]  # (l,)
            outfits = candidates[places]  # (l, S)
            keep = self._offered[outfits].all(axis=1, where=outfits != ABSENT) & ~is_known[places]  # (l,)
            best = np.concatenate([best, places[keep]])[:top]  # (n,)
            if len(best) == top:
                break
        return [self.dataset.catalogue.ids(outfit) for outfit in candidates[best].tolist()], ranking.scores[best]

    def _composed(self, user: User, top: int, exclude_known: bool) -> Answer:
        known = self.people.known(user) if exclude_known else set()
        asked = top
        while True:
            outfits, scores = self.compose(user, asked)
            rows = self.ids.outfit_rows(outfits).tolist()  # (n, S)
            new = [place for place, row in enumerate(rows) if tuple(sorted(row)) not in known][:top]
            if len(new) == top or len(outfits) < asked:
                return [outfits[place] for place in new], scores[new]
            asked += top

    def _scores(self, user: User, outfits: IntArray, codes: Codes, photos: Sequence[Photo] = ()) -> FloatArray:
        """Outfits (B, S) of rows, beyond the N items' those of photos, -> (B,) scores for one user."""
        if codes not in ("binary", "relaxed"):
            raise ValueError(f'codes must be "binary" or "relaxed", not {codes!r}')
        if not len(outfits):
            return np.zeros(0)
        if photos:
            assert self.pan is not None  # a rival is refused
            return self._arrivals.scores(self.people.embedding(user), outfits, photos, binary=codes == "binary")
        if isinstance(self.scorer, OutfitScorer):
            return self._cached_scores(self.people.embedding(user), outfits, binary=codes == "binary")
        assert isinstance(user, str)  # a newcomer has been refused
        users = np.full(len(outfits), self.ids.user_row(user), dtype=np.int64)  # (B,)
        return self.scorer.scores(Outfits(users, outfits), binary=codes == "binary")


def _distinct(outfits: IntArray) -> IntArray:
    """(B, S) outfits -> (C, S), each once, in the order of first appearance; two tops in either order are the same."""
    _, first = np.unique(np.sort(outfits, axis=1), axis=0, return_index=True)
    return outfits[np.sort(first)]
