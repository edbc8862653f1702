"""RECOMMEND: a trained run -> a user's best outfits, and scores of any outfits. Ids in, ids out. Never imports train.

recommender = panfit.load("runs/closet")
outfits, scores = recommender.recommend("u001", top=10)
recommender.score("u001", [("top-1", "bottom-2", "shoe-3")])
"""

import difflib
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panfit.data.folder import read_dataset
from panfit.errors import CheckpointError, DataError, Problem, UnknownIdError
from panfit.features.inputs import ItemInputs, build_inputs
from panfit.methods import make_scorer, read_model, scores_of_one
from panfit.model.checkpoint import CheckpointInfo
from panfit.model.pan import Pan
from panfit.outfits import ABSENT, Dataset, IntArray

FloatArray = NDArray[np.float64]
OutfitIds = tuple[str | None, ...]
"""Item ids in slot order; None where nothing is worn."""
Codes = Literal["binary", "relaxed"]

CACHE_BYTES = 256 << 20
"""How much memory a Recommender's cache of users' codes may take."""


def load(
    run: str | Path, *, data: str | Path | Dataset | None = None, device: str | torch.device = "cpu"
) -> "Recommender":
    """The Recommender of a run's best checkpoint.

    Args:
        run: a RUN folder, or one of its checkpoint folders (RUN/best, RUN/last).
        data: the data set, where it is no longer in the folder it was trained from.
        device: where the model computes.

    Raises:
        CheckpointError: no checkpoint, a damaged one, or a data set that is not the one it was trained on.
        DataError: the data set is not where it was, or its files are damaged.
    """
    run = Path(run)
    if not run.is_dir():
        raise CheckpointError(f"{run}: there is no such run folder")
    folder = run if (run / "config.json").exists() else run / "best"
    if not folder.is_dir():
        raise CheckpointError(f"{run}: no best checkpoint here; it is written after the first validation of a training")
    model, info = read_model(folder)
    record = _read_record(folder.parent / "run.json")
    dataset = data if isinstance(data, Dataset) else read_dataset(_dataset_folder(folder.parent, record, data))
    _check_same(dataset, info, record)
    inputs = build_inputs(dataset, info.config)
    return Recommender(model.to(device), dataset, inputs, beta=float(info.extra.get("beta", 1.0)))


class Recommender:
    """A trained model, its data set, and the outfits to choose from.

    The candidates are the distinct outfits that anybody likes, in any split, in the data set's order. A user's codes of
    the items are kept, packed, for the users asked about last.

    Args:
        model: PAN, a rival or a plain baseline, trained on the data set's users and slots.
        dataset: translates ids.
        inputs: the data set's items, as the model sees them.
        beta: of the relaxed codes (decision D7): as trained.
        cache_bytes: bound on the kept codes.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        inputs: ItemInputs,
        *,
        beta: float = 1.0,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.inputs = inputs
        self.scorer = make_scorer(model, inputs, beta=beta)
        self.candidates = _distinct(np.concatenate([likes.items for likes in dataset.likes.values()]))  # (C, S)
        self._known = {(user, *sorted(items)) for user, *items in dataset.known_likes(["train"])}
        self._named = f"the data set {dataset.name!r}"
        self._scores_of_one = scores_of_one(self.scorer, max_bytes=cache_bytes)

    @property
    def pan(self) -> Pan:
        """The model, where it is PAN. Raises CheckpointError for a rival, which has no maps and no codes to show."""
        if not isinstance(self.model, Pan):
            raise CheckpointError(f"this run is of {type(self.model).__name__}: only PAN has maps and codes to explain")
        return self.model

    @overload
    def recommend(
        self,
        user: str,
        top: int = 10,
        *,
        among: Iterable[Sequence[str | None]] | None = None,
        exclude_known: bool = True,
        codes: Codes = "binary",
    ) -> tuple[list[OutfitIds], FloatArray]: ...

    @overload
    def recommend(
        self,
        user: list[str] | tuple[str, ...],
        top: int = 10,
        *,
        among: Iterable[Sequence[str | None]] | None = None,
        exclude_known: bool = True,
        codes: Codes = "binary",
    ) -> tuple[list[list[OutfitIds]], list[FloatArray]]: ...

    def recommend(
        self,
        user: str | list[str] | tuple[str, ...],
        top: int = 10,
        *,
        among: Iterable[Sequence[str | None]] | None = None,
        exclude_known: bool = True,
        codes: Codes = "binary",
    ) -> tuple[list[OutfitIds], FloatArray] | tuple[list[list[OutfitIds]], list[FloatArray]]:
        """A user's best outfits, or those of several users.

        Args:
            user: a user id; or a list of them, which gives a list of outfits and a list of scores, one a user.
            top: how many; fewer come back where there are fewer candidates.
            among: outfits to choose from instead of the data set's, repetitions dropped.
            exclude_known: leave out what the user is known to like (his train likes).
            codes: "binary", the product, or "relaxed".

        Returns:
            (outfits, scores): item ids in slot order, None where nothing is worn; scores (n,) falling, ties in the
            order of the candidates.

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            DataError: an outfit of ``among`` that does not fit the slots.
            ValueError: top below 1.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, not {top}")
        users = [user] if isinstance(user, str) else list(user)
        user_rows = [self._user_row(user_id) for user_id in users]  # all checked before anything is scored
        candidates = self.candidates if among is None else _distinct(self._outfit_rows(among))  # (C, S)
        found = [self._best(row, candidates, top, exclude_known, codes) for row in user_rows]
        if isinstance(user, str):
            return found[0]
        return [outfits for outfits, _ in found], [scores for _, scores in found]

    def score(self, user: str, outfits: Iterable[Sequence[str | None]], *, codes: Codes = "binary") -> FloatArray:
        """(B,) how much a user likes each outfit: y of Eq. 4.

        Args:
            user: a user id.
            outfits: B outfits of item ids in slot order, None where nothing is worn.
            codes: "binary", the product, or "relaxed".

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            DataError: outfits that do not fit the slots; all of them.
        """
        return self._scores(self._user_row(user), self._outfit_rows(outfits), codes)

    def _best(
        self, user_row: int, candidates: IntArray, top: int, exclude_known: bool, codes: Codes
    ) -> tuple[list[OutfitIds], FloatArray]:
        if exclude_known:
            is_new = [(user_row, *sorted(outfit)) not in self._known for outfit in candidates.tolist()]  # (C,)
            candidates = candidates[np.array(is_new, dtype=np.bool_)]
        scores = self._scores(user_row, candidates, codes)  # (C,)
        best = np.argsort(-scores, kind="stable")[:top]  # (n,)
        return [self.dataset.catalogue.ids(outfit) for outfit in candidates[best].tolist()], scores[best]

    def _scores(self, user_row: int, outfits: IntArray, codes: Codes) -> FloatArray:
        """Outfits (B, S) of rows -> (B,) scores for one user."""
        if codes not in ("binary", "relaxed"):
            raise ValueError(f'codes must be "binary" or "relaxed", not {codes!r}')
        if not len(outfits):
            return np.zeros(0)
        return self._scores_of_one(user_row, outfits, codes == "binary")

    def _user_row(self, user_id: str) -> int:
        known = self.dataset.user_row_of
        if user_id not in known:
            raise UnknownIdError(
                f"the data set {self.dataset.name!r} has no user {user_id!r}{_nearest(user_id, known)}"
            )
        return known[user_id]

    def _outfit_rows(self, outfits: Iterable[Sequence[str | None]]) -> IntArray:
        """Outfits of ids -> (B, S) rows. Raises UnknownIdError, or DataError with every outfit that does not fit."""
        slots, catalogue = self.dataset.slots, self.dataset.catalogue
        wanted = f"{len(slots)} item ids in the order {', '.join(slot.name for slot in slots)}, None where empty"
        problems, rows = [], []
        for place, outfit in enumerate(outfits, start=1):
            found = None
            if isinstance(outfit, str) or len(outfit) != len(slots):
                found = f"{outfit!r}"
            elif all(item_id is None for item_id in outfit):
                found = "an outfit without any item"
            else:
                rows.append([self._item_row(item_id) for item_id in outfit])
                for slot, row in zip(slots, rows[-1], strict=True):
                    if row != ABSENT and catalogue.item_categories[row] != slot.category:
                        category = catalogue.item_categories[row]
                        found = f"{catalogue.item_ids[row]!r} of category {category!r} in slot {slot.name!r}"
            if found is not None:
                problems.append(Problem("outfits", found, wanted, "Give each slot an item of its category.", place))
        if problems:
            raise DataError(f"{len(problems)} outfit(s) do not fit the slots", problems)
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(slots))

    def _item_row(self, item_id: str | None) -> int:
        if item_id is None:
            return ABSENT
        known = self.dataset.catalogue.row_of
        if item_id not in known:
            raise UnknownIdError(
                f"the data set {self.dataset.name!r} has no item {item_id!r}{_nearest(item_id, known)}"
            )
        return known[item_id]


def _read_record(path: Path) -> dict[str, Any]:
    """run.json; {} where there is none, as beside a checkpoint that stands alone."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from None
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: damaged: wanted an object")
    return record


def _dataset_folder(run: Path, record: dict[str, Any], data: str | Path | None) -> Path:
    if data is not None:
        return Path(data)
    written = record.get("dataset")
    if written is None:
        raise DataError(f"{run}: the run does not say where its data set is; name it (data=..., --data)")
    for folder in (run / written, Path(written)):  # an absolute path is the same in both
        if folder.is_dir():
            return folder
    raise DataError(f"{run}: its data set is no longer in {written}; name where it is (data=..., --data)")


def _check_same(dataset: Dataset, info: CheckpointInfo, record: dict[str, Any]) -> None:
    """Raise CheckpointError unless the data set is the one that the checkpoint was trained on."""
    wanted = info.extra.get("checksum", record.get("checksum"))
    slots = tuple((slot.name, slot.category) for slot in dataset.slots)
    wanted_nouns = info.user_ids, info.shape.slots, info.shape.categories
    if (dataset.user_ids, slots, dataset.catalogue.categories) != wanted_nouns:
        difference = "its users, slots or categories differ"
    elif wanted is not None and dataset.checksum != wanted:
        difference = f"found checksum {dataset.checksum}, wanted {wanted}"
    else:
        return
    raise CheckpointError(
        f"{info.folder}: the data set {dataset.name!r} is not the one that this model was trained on: {difference}. "
        "Name the right one (data=..., --data), or train again"
    )


def _distinct(outfits: IntArray) -> IntArray:
    """(B, S) outfits -> (C, S), each once, in the order of first appearance; two tops in either order are the same."""
    _, first = np.unique(np.sort(outfits, axis=1), axis=0, return_index=True)
    return outfits[np.sort(first)]


def _nearest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    return f"; the nearest: {', '.join(map(repr, close))}" if close else ""
