"""UNSEEN: photos and titles that are in no catalogue -> inputs as a trained model takes them.

A photo is decoded exactly as the catalogue's are. Where the catalogue's maps are stored, their trunk is built again,
and its weights must be the ones that made them. Never imports train.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from panfit.config import Config, ImageConfig
from panfit.encode import device_of, evaluating
from panfit.errors import CheckpointError, ConfigError, Problem
from panfit.features.extract import PHOTOS_PER_BATCH, hash_weights
from panfit.features.images import decode_photos, normalize, prepared_as
from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.features.store import FeatureStore, Manifest
from panfit.features.text import hash_titles
from panfit.model.backbone import build_backbone
from panfit.model.pan import Pan
from panfit.outfits import BoolArray

Picture = Path | Image.Image
"""A photo's file, or a photo in memory."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo of an item that need be in no catalogue.

    Attributes:
        image: a file, or a picture as Pillow opens it. A string is refused: it might come from anywhere.
        title: for a model with a text branch that hashes titles; without one, the photo alone speaks.
        text_vector: (T,) what the text branch takes, for a model whose text vectors came with its data.
    """

    image: Picture
    title: str | None = None
    text_vector: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.image, Path | Image.Image):
            raise TypeError(f"a photo is a pathlib.Path or a PIL image, not {self.image!r}")


class UnseenInputs:
    """Makes inputs of photos and titles for one model, in the form of its catalogue's.

    Args:
        model: reads images, and text where it has a text branch.
        inputs: its catalogue's.
        trunk_weights: the file with the weights of the trunk that made the stored maps, where it is not the settings'
            ``backbone.weights``; ignored where the model has a trunk of its own.
    """

    def __init__(self, model: Pan, inputs: ItemInputs, *, trunk_weights: str | Path | None = None) -> None:
        self._model = model
        self._source, self._dtype, self._own_images = inputs.source, inputs.dtype, inputs.images
        self._titles_are_hashed = inputs.made_by.get("text") != "stored"
        self._trunk_weights = trunk_weights
        self._trunk: nn.Module | None = None

    def pictures(self, pictures: Sequence[Picture], names: Sequence[str]) -> NDArray[Any]:
        """n pictures -> (n, C, H, W) as `ItemInputs.raw` gives a catalogue's items: uint8 photos, or maps.

        Args:
            pictures: files, or photos in memory.
            names: what errors call those in memory.

        Raises:
            DataError: photos that cannot be used; all of them.
            CheckpointError, MissingExtraError: the trunk that made the stored maps cannot be had.
        """
        trunk, images = self._trunk_and_images()
        photos = decode_photos(pictures, images, names=names)  # (n, 3, size, size)
        if trunk is None:
            return photos
        device, maps = device_of(self._model), []
        with evaluating(self._model):
            for block in torch.split(torch.from_numpy(photos), PHOTOS_PER_BATCH):
                maps.append(
                    trunk(normalize(block.to(device))).float().cpu().numpy().astype(self._dtype)
                )  # (b, C, H, W)
        return np.concatenate(maps)

    def texts(
        self, texts: Sequence[tuple[str | None, NDArray[np.float32] | None]], names: Sequence[str]
    ) -> tuple[Tensor | None, BoolArray, list[Problem]]:
        """What the text branch takes of n titles or vectors.

        Args:
            texts: n pairs of title and text vector, either or both None; the vector counts where there are both.
            names: what problems call them.

        Returns:
            text: (n, T), zeros where nothing was given; None for a model without text branch.
            has_text: (n,) where something was given; True throughout for a model without text branch.
            problems: with what was given, one each.
        """
        text_dim = self._model.shape.text_dim
        if text_dim is None:
            return None, np.ones(len(texts), dtype=np.bool_), []
        vectors = np.zeros((len(texts), text_dim), dtype=np.float32)  # (n, T)
        has_text = np.array([title is not None or vector is not None for title, vector in texts], dtype=np.bool_)
        problems, titled = [], {}
        for row, (name, (title, vector)) in enumerate(zip(names, texts, strict=True)):
            if vector is not None:
                given = np.asarray(vector, dtype=np.float32)
                if given.shape == (text_dim,) and np.isfinite(given).all():
                    vectors[row] = given
                    continue
                found = f"a text vector of shape {given.shape}" if given.shape != (text_dim,) else "numbers not finite"
                problems.append(Problem(name, found, f"({text_dim},) finite numbers", "Make it as the data's were."))
            elif title is not None and self._titles_are_hashed:
                titled[row] = title
            elif title is not None:
                wanted = "a text vector: this model's came with its data, and a title cannot be turned into one"
                problems.append(
                    Problem(name, f"the title {title!r}", wanted, "Give text_vector, made as the data's were.")
                )
        if titled:
            vectors[list(titled)] = hash_titles(list(titled.values()), text_dim)
        return torch.from_numpy(vectors), has_text, problems

    def inputs(self, rows: NDArray[Any], categories: Tensor, text: Tensor | None) -> ItemInputs:
        """Rows (n, C, H, W) of `pictures`, categories (n,) and text (n, T) or None as inputs of their own."""
        source = rows if isinstance(self._source, np.ndarray) else KeptMaps(rows, None)
        return ItemInputs(source, categories, text, self._own_images)

    def _trunk_and_images(self) -> tuple[nn.Module | None, ImageConfig]:
        """What makes maps of photos, or None where photos are the inputs; and how photos are prepared for it."""
        if isinstance(self._source, np.ndarray):
            return None, self._own_images
        if isinstance(self._source, KeptMaps):
            return self._model.backbone.trunk, self._own_images
        images = _preparation(self._source)
        if self._trunk is None:
            trunk = stored_trunk(self._model.config, self._source.manifest, images, weights=self._trunk_weights)
            self._trunk = trunk.to(device_of(self._model))
        return self._trunk, images


def stored_trunk(config: Config, manifest: Manifest, images: ImageConfig, *, weights: str | Path | None) -> nn.Module:
    """The trunk that made a feature store, in evaluation mode.

    Args:
        config: of the model on the stored maps: ``backbone`` names the trunk, ``seed`` draws weights where no file is.
        manifest: the store's.
        images: how its photos were prepared.
        weights: a file of the trunk's weights; if None, ``config.backbone.weights``.

    Raises:
        CheckpointError: no weights, or not those that made the store.
        MissingExtraError: a Hugging Face trunk without `transformers`.
    """
    given = config.backbone.weights if weights is None else str(weights)
    settings = config.backbone.model_copy(  # a head without weights: the file need not hold the model's
        update={"source": "images", "weights": given, "head": "pool"}
    )
    generator = torch.Generator().manual_seed(config.seed)
    remedy = (
        "Give the weights that `panfit features` was run with: load(..., trunk_weights=FILE)"
        if settings.name != "hf"
        else "Put the model that `panfit features` was run with where backbone.hf_model says"
    )
    said = f"new photos need the trunk {manifest.extractor!r} that made the stored maps"
    try:
        trunk = build_backbone(settings, (3, images.size, images.size), generator=generator).trunk.eval()
    except ConfigError as error:
        raise CheckpointError(f"{said}, and it cannot be built: {error}. {remedy}") from error
    found = hash_weights(trunk)
    if found != manifest.weights:
        where = settings.hf_model if settings.name == "hf" else given or f"random weights of seed {config.seed}"
        raise CheckpointError(
            f"{said}: found weights {found[:12]} ({where}), wanted {manifest.weights[:12] or 'unknown'}. {remedy}"
        )
    return trunk.requires_grad_(False)


def _preparation(store: FeatureStore) -> ImageConfig:
    try:
        return prepared_as(store.manifest.preparation)
    except ValueError as error:
        raise CheckpointError(
            f"{store.folder}: the store does not say how its photos were prepared ({error})"
        ) from None
