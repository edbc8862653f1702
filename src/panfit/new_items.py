"""NEW ITEMS: photos that are in no catalogue -> scores; new items -> a larger catalogue, whose old rows stay.

recommender.score("u001", [Path("top.jpg"), Path("trousers.jpg"), Path("boots.jpg")])
recommender.add_items([NewItem("boots-77", "shoe", Path("boots.jpg"), title="brown boots")])

Never imports train.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from panfit.codes import CodeTables
from panfit.encode import FloatArray, ItemCoder, MapDtype
from panfit.errors import DataError, Problem, UnknownIdError
from panfit.ids import Ids
from panfit.outfits import ABSENT, BoolArray, Catalogue, Dataset, IntArray
from panfit.scoring import predict
from panfit.unseen import Photo, Picture, UnseenInputs

Wearable = str | Path | Image.Image | Photo | None
"""What may stand in a slot: an item id, a photo, or nothing. A string is always an id, never a path."""
Worn = Wearable | Sequence[Wearable]
"""An outfit; or, in a list that is itself one outfit, what stands in a slot."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm")


@dataclass(frozen=True, eq=False)
class NewItem:
    """An item that is to join the catalogue.

    Attributes:
        item_id: an id that the catalogue does not have.
        category: one of the data set's.
        photo: a file, or a picture as Pillow opens it.
        title: what a model with a text branch reads, where it hashes titles.
        text_vector: (T,) what the text branch takes, for a model whose text vectors came with its data.
    """

    item_id: str
    category: str
    photo: Picture
    title: str | None = None
    text_vector: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        Photo(self.photo)  # refuses what is no photo


class WornIds(Ids):
    """Translates outfits in which photos may stand beside item ids: the k-th distinct photo is row N + k.

    Attributes:
        photos: the distinct photos met so far.
    """

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.photos: list[Photo] = []
        self._row_of_photo: dict[tuple[Any, ...], int] = {}

    def worn_rows(self, outfits: Iterable[Wearable | Sequence[Wearable]]) -> IntArray:
        """Outfits of ids and photos, or one such outfit that holds a photo, -> (B, S) rows. Raises as `outfit_rows`."""
        listed = list(outfits)
        if any(isinstance(each, Path | Image.Image | Photo) for each in listed):
            return self.outfit_rows([listed])  # type: ignore[list-item]
        return self.outfit_rows(listed)  # type: ignore[arg-type]

    def item_row(self, item_id: Wearable) -> int:
        """Item id or photo -> row. Raises UnknownIdError for an id; for a file's name with the way to give a photo."""
        if item_id is None or isinstance(item_id, str):
            try:
                return super().item_row(item_id)
            except UnknownIdError as error:
                if isinstance(item_id, str) and item_id.lower().endswith(PHOTO_SUFFIXES):
                    hint = f"A string is always an item id; give a photo as pathlib.Path({item_id!r})"
                    raise UnknownIdError(f"{error}. {hint}") from None
                raise
        photo = item_id if isinstance(item_id, Photo) else Photo(item_id)
        image = photo.image if isinstance(photo.image, Path) else id(photo.image)
        key = image, photo.title, None if photo.text_vector is None else id(photo.text_vector)
        if key not in self._row_of_photo:
            self._row_of_photo[key] = len(self._dataset.catalogue) + len(self.photos)
            self.photos.append(photo)
        return self._row_of_photo[key]

    def _misfits(self, rows: Sequence[int]) -> list[str]:
        """As ever; a photo has no category but its slot's."""
        return super()._misfits([row if row < len(self._dataset.catalogue) else ABSENT for row in rows])


class Arrivals:
    """What is new to a trained model: outfits in which photos are worn, and items that join the catalogue.

    Args:
        dataset: whose slots say the photos' categories.
        tables: the viewers' codes of the catalogue.
        unseen: makes inputs of photos and titles.
    """

    def __init__(self, dataset: Dataset, tables: CodeTables, unseen: UnseenInputs) -> None:
        of_slot = [dataset.catalogue.categories.index(slot.category) for slot in dataset.slots]
        self._slot_categories = np.array(of_slot, dtype=np.int64)  # (S,)
        self._slot_names = [slot.name for slot in dataset.slots]
        self._num_categories = len(dataset.catalogue.categories)
        self._tables, self._unseen = tables, unseen

    def scores(self, viewer: Tensor, outfits: IntArray, photos: Sequence[Photo], *, binary: bool) -> FloatArray:
        """(B,) scores y of Eq. 4, of outfits in which photos are worn, alone or beside the catalogue's items.

        Text counts in an outfit only if each of its photos brings some. Else it is scored by its images alone: Eq. 4's
        mean over modalities is then over that one (decision D31).

        Args:
            viewer: embedding (D,).
            outfits: (B, S) rows of the N items; N + k for the k-th photo; ABSENT where nothing is worn.
            photos: the photos.
            binary: binary codes, or relaxed ones.

        Raises:
            DataError: photos or texts that cannot be used; all of them.
            CheckpointError: the trunk that made the model's stored maps cannot be had.
        """
        coder = self._tables.coder
        num_items = len(coder.inputs)
        is_photo = outfits >= num_items  # (B, S)
        items = np.unique(outfits[(outfits != ABSENT) & ~is_photo])  # (n,)
        place = np.where(outfits == ABSENT, ABSENT, np.searchsorted(items, outfits))  # (B, S)
        # Encoders belong to categories, so one photo in slots of two categories counts as two.
        categories = np.broadcast_to(self._slot_categories, outfits.shape)[is_photo]  # (worn photos,)
        keys = (outfits[is_photo] - num_items) * self._num_categories + categories
        distinct, first, of_worn = np.unique(keys, return_index=True, return_inverse=True)  # (p,), (p,), (worn photos,)
        place[is_photo] = len(items) + of_worn
        names = [f"outfit {row + 1}, slot {self._slot_names[slot]!r}" for row, slot in np.argwhere(is_photo)[first]]
        which, categories = np.divmod(distinct, self._num_categories)  # (p,), (p,)
        worn = [photos[row] for row in which]
        codes, has_text = self._encode(viewer, worn, categories, names, binary=binary)  # (p, V, D), (p,)
        if len(items):
            codes = torch.cat([self._known(viewer, items, binary=binary), codes])  # (n + p, V, D)
        speaks = np.concatenate([np.ones(len(items), dtype=np.bool_), has_text])  # (n + p,)
        by_images_alone = (~speaks[place] & (place != ABSENT)).any(axis=1)  # (B,)
        slots = np.column_stack([np.zeros(len(outfits), dtype=np.int64), place])  # (B, 1 + S)
        viewer_code = coder.viewer_codes(viewer[None], binary=binary)  # (1, D)
        scores = np.empty(len(outfits))
        scores[~by_images_alone] = predict(coder.model, viewer_code, codes, slots[~by_images_alone])
        scores[by_images_alone] = predict(coder.model, viewer_code, codes[:, :1], slots[by_images_alone])
        return scores

    def join(self, dataset: Dataset, items: Iterable[NewItem]) -> Dataset:
        """A data set with new items behind the old ones, whose rows stay what they are; so do the tables, extended.

        In memory alone: the data set's folder is not touched. Its checksum becomes another, and text vectors that came
        with the data stay with the inputs only.

        Raises:
            DataError: an id that is there already or comes twice, an unknown category, a photo that cannot be used, no
                title for a model that reads titles; all of them, and then no item joins.
            CheckpointError: the trunk that made the model's stored maps cannot be had.
        """
        new = list(items)
        if not new:
            return dataset
        catalogue = dataset.catalogue
        names = [f"new item {item.item_id!r}" for item in new]
        problems = _misfits(catalogue, new, names)
        text, has_text, text_problems = self._unseen.texts([(item.title, item.text_vector) for item in new], names)
        for name, has in zip(names, has_text.tolist(), strict=True):
            if not has:
                remedy = "Give it a title or a text_vector; `score` takes photos without."
                problems.append(Problem(name, "no text", "some for every item, since the model reads it", remedy))
        problems += text_problems
        summary = "problem(s) with the new items, of which none was added"
        rows = _decoded(self._unseen, [item.photo for item in new], names, problems, summary)  # (A, C, H, W)
        categories = torch.tensor([catalogue.categories.index(item.category) for item in new])  # (A,)
        self._tables.extend(self._tables.coder.inputs.extended(rows, categories, text))
        digest = hashlib.sha256(dataset.checksum.encode())
        digest.update(repr([(item.item_id, item.category, item.title) for item in new]).encode())
        digest.update(rows.tobytes())
        return replace(dataset, catalogue=_longer(catalogue, new), text=None, checksum=digest.hexdigest())

    def _known(self, viewer: Tensor, items: IntArray, *, binary: bool) -> Tensor:
        """Codes (n, V, D) of the catalogue's items (n,)."""
        if binary:
            return self._tables.codes(viewer, items)
        nobody_else = np.zeros(len(items), dtype=np.int64)
        return self._tables.coder.codes(viewer[None], nobody_else, items, binary=False)

    def _encode(
        self, viewer: Tensor, photos: Sequence[Photo], categories: IntArray, names: Sequence[str], *, binary: bool
    ) -> tuple[Tensor, BoolArray]:
        """Codes (p, V, D) of photos in categories (p,), and which of them (p,) bring text; errors use the names."""
        texts = [(photo.title, photo.text_vector) for photo in photos]
        text, has_text, problems = self._unseen.texts(texts, names)
        rows = _decoded(self._unseen, [photo.image for photo in photos], names, problems, "photo(s) cannot be scored")
        inputs = self._unseen.inputs(rows, torch.from_numpy(categories), text)
        known = self._tables.coder
        coder = ItemCoder(known.model, inputs, beta=known.beta, map_dtype=cast(MapDtype, known.maps.dtype or "auto"))
        every = np.arange(len(photos))
        return coder.codes(viewer[None], np.zeros_like(every), every, binary=binary), has_text


def _longer(catalogue: Catalogue, new: Sequence[NewItem]) -> Catalogue:
    photos = [str(item.photo.absolute()) if isinstance(item.photo, Path) else None for item in new]
    return replace(
        catalogue,
        item_ids=(*catalogue.item_ids, *(item.item_id for item in new)),
        item_categories=(*catalogue.item_categories, *(item.category for item in new)),
        images=(*catalogue.images, *photos),
        titles=(*catalogue.titles, *(item.title for item in new)),
    )


def _misfits(catalogue: Catalogue, new: Sequence[NewItem], names: Sequence[str]) -> list[Problem]:
    """New items whose ids or categories cannot be taken."""
    taken = set(catalogue.row_of)
    problems = []
    for name, item in zip(names, new, strict=True):
        if not isinstance(item.item_id, str) or not item.item_id:
            problems.append(Problem(name, "no id", "a text of at least one character", "Give it an id."))
        elif item.item_id in taken:
            problems.append(Problem(name, "an id that is there already", "a new id", "Give it an id of its own."))
        taken.add(item.item_id)
        if item.category not in catalogue.categories:
            wanted = f"one of {', '.join(catalogue.categories)}"
            problems.append(
                Problem(name, f"the category {item.category!r}", wanted, "Name a category of the data set.")
            )
    return problems


def _decoded(
    unseen: UnseenInputs, pictures: Sequence[Picture], names: Sequence[str], problems: Sequence[Problem], summary: str
) -> NDArray[Any]:
    """`UnseenInputs.pictures`, after which all problems, those with the photos too, are raised together."""
    found = list(problems)
    try:
        rows = unseen.pictures(pictures, names)
    except DataError as error:
        found += error.problems
    if found:
        distinct = list(dict.fromkeys(found))  # one photo may be worn in two kinds of slots
        raise DataError(f"{len(distinct)} {summary}", distinct)
    return rows
