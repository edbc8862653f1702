"""What the model sees of the items: photos or stored maps, categories, text vectors, by item row.

Training and scoring both ask an `ItemInputs` for batches of distinct items; only training passes a generator, and only
photos are augmented with it. Items that join a catalogue later stand behind its own: a file of maps cannot grow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.config import BackboneConfig, Config, ImageConfig
from panfit.errors import FeatureStoreError
from panfit.features.filling import Progress
from panfit.features.images import augment, normalize, photo_array
from panfit.features.store import FeatureStore, open_store
from panfit.features.text import text_kind, text_vectors
from panfit.outfits import Dataset, IntArray


@dataclass(frozen=True, eq=False)
class KeptMaps:
    """The maps that a frozen trunk makes of the photos, computed once and kept in memory.

    Attributes:
        maps: (N, C, H, W) float16 or float32.
        mirrored: the maps of the mirrored photos, for augmentation, or None.
    """

    maps: NDArray[np.floating]
    mirrored: NDArray[np.floating] | None

    def __len__(self) -> int:
        return len(self.maps)


@dataclass(frozen=True, eq=False)
class ItemInputs:
    """Every item's input, one row each.

    Attributes:
        source: (N, 3, H, W) uint8 photos, a feature store of (N, C, H, W) maps, or a frozen trunk's kept maps.
        categories: (N,) int64 index of each item's category among the catalogue's.
        text: (N, T) float32, or None.
        images: how photos are prepared and augmented.
        made_by: what text and maps were made by, for checks that other inputs mean the same: "text" (none, stored,
            titles); of stored maps "extractor", "weights" and "preparation". Empty where nobody said.
        added: (A, ...) inputs of the last A of the N items, of the source's kind; None for none (see `extended`).
    """

    source: NDArray[np.uint8] | FeatureStore | KeptMaps
    categories: Tensor
    text: Tensor | None
    images: ImageConfig
    made_by: Mapping[str, str] = field(default_factory=dict)
    added: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.added is not None and (self.added.shape[1:], self.added.dtype) != (self.input_shape, self.dtype):
            raise ValueError(
                f"added inputs {self.added.shape} {self.added.dtype}; wanted (A, *{self.input_shape}) {self.dtype}"
            )
        if self.categories.shape != (len(self),) or (self.text is not None and len(self.text) != len(self)):
            raise ValueError("the inputs, categories and text vectors differ in length")

    def __len__(self) -> int:
        return len(self.source) + (0 if self.added is None else len(self.added))

    @property
    def kind(self) -> Literal["images", "maps", "kept"]:
        """images: photos; maps: a store's, which a model takes as its input; kept: of the model's own frozen trunk."""
        if isinstance(self.source, KeptMaps):
            return "kept"
        return "maps" if isinstance(self.source, FeatureStore) else "images"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of one item's input: (3, H, W) of a photo, (C, H, W) of a map."""
        _, channels, height, width = self._array.shape
        return channels, height, width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the source's rows: uint8 of photos, float16 or float32 of maps."""
        return self._array.dtype

    @property
    def _array(self) -> NDArray[Any]:
        return self.source.maps if isinstance(self.source, FeatureStore | KeptMaps) else self.source

    def extended(self, added: NDArray[Any], categories: Tensor, text: Tensor | None) -> "ItemInputs":
        """These items and A more behind them; the rows of these stay what they are.

        Args:
            added: (A, C, H, W) inputs of the source's kind and dtype.
            categories: (A,) int64.
            text: (A, T) float32; None where these have none.
        """
        if (text is None) != (self.text is None):
            raise ValueError("items with text and items without")
        return replace(
            self,
            added=added if self.added is None else np.concatenate([self.added, added]),
            categories=torch.cat([self.categories, categories]),
            text=None if text is None or self.text is None else torch.cat([self.text, text]),
        )

    def batch(
        self, rows: IntArray, *, generator: torch.Generator | None = None, device: str | torch.device = "cpu"
    ) -> Tensor:
        """(n,) item rows -> (n, C, H, W) float32: normalized photos, augmented if a generator is given; or maps.

        Rows travel to ``device`` as they are kept, as bytes or halves, and become float32 there.

        Raises FeatureStoreError when stored maps turn out damaged.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.ndim != 1 or (len(rows) and (rows.min() < 0 or rows.max() >= len(self))):
            raise ValueError(f"rows must be (n,) from 0 to {len(self) - 1}")
        batch = self.raw(rows)  # (n, C, H, W)
        if isinstance(self.source, FeatureStore):
            return _widened(batch, device)
        if isinstance(self.source, KeptMaps):
            self._mirror(self.source, rows, batch, generator)
            return _widened(batch, device)
        photos = torch.from_numpy(batch).to(device)  # (n, 3, H, W) uint8
        if generator is not None:
            photos = augment(photos, self.images, generator)
        return normalize(photos)

    def raw(self, rows: IntArray) -> NDArray[Any]:
        """(n,) item rows -> (n, C, H, W) a copy of what is kept of them, as it is kept: uint8 photos, or maps."""
        if self.added is None:
            return self._own(rows)
        num_own = len(self.source)
        is_added = rows >= num_own  # (n,)
        batch = np.empty((len(rows), *self.input_shape), dtype=self.dtype)  # (n, C, H, W)
        batch[~is_added] = self._own(rows[~is_added])
        batch[is_added] = self.added[rows[is_added] - num_own]
        return batch

    def _own(self, rows: IntArray) -> NDArray[Any]:
        return self.source.rows(rows) if isinstance(self.source, FeatureStore) else np.array(self._array[rows])

    def _mirror(
        self, kept: KeptMaps, rows: IntArray, maps: NDArray[np.floating], generator: torch.Generator | None
    ) -> None:
        """Puts the mirrored photo's maps into (n, C, H, W) with probability one half, if a generator is given."""
        if generator is not None and kept.mirrored is not None:
            mirrored = (torch.rand(len(rows), generator=generator) < 0.5).numpy()  # (n,)
            mirrored &= rows < len(kept)  # what was added later has no mirrored maps
            maps[mirrored] = kept.mirrored[rows[mirrored]]


def _widened(maps: NDArray[Any], device: str | torch.device) -> Tensor:
    """Maps (n, C, H, W) as they are kept -> float32. torch widens float16 by the processor's own instruction; numpy, in
    software, takes forty times as long."""
    return torch.from_numpy(maps).to(device).float()


def _on_same_memory(vectors: NDArray[np.float32]) -> Tensor:
    """Vectors (N, T) as a tensor; those of a data set's file stay in the file, from which the system reads what is
    asked for: at Polyvore-630's size they are 2.3 GB. Only to be read."""
    if not vectors.flags.writeable:  # somebody's own; torch would warn
        vectors = np.array(vectors)
    return torch.from_numpy(np.asarray(vectors, dtype=np.float32))


def build_inputs(dataset: Dataset, config: Config, *, progress: Progress | None = None) -> ItemInputs:
    """The items' inputs as ``config.backbone.source`` and ``config.text`` ask; photos are decoded at the first call.

    Raises:
        DataError: items without a photo or a title, photos that cannot be used; all of them.
        FeatureStoreError: the stored maps are missing, damaged, or of another data set or trunk.
    """
    text = text_vectors(dataset, config.text)
    made_by = {"text": text_kind(dataset, config.text)}
    source: NDArray[np.uint8] | FeatureStore
    if config.backbone.source == "stored":
        source = open_store(store_folder(dataset, config.backbone.store or ""), dataset)
        _check_extractor(source, config.backbone)
        made_by |= source.manifest.model_dump(include={"extractor", "weights", "preparation"})
    else:
        source = photo_array(dataset, config.images, progress=progress)
    return ItemInputs(
        source=source,
        categories=torch.from_numpy(dataset.catalogue.category_rows.copy()),
        text=None if text is None else _on_same_memory(text),
        images=config.images,
        made_by=made_by,
    )


def store_folder(dataset: Dataset, name: str) -> Path:
    """DATASET/features/<name>. Raises FeatureStoreError without a folder, or for a name that leads elsewhere."""
    if dataset.folder is None:
        raise FeatureStoreError(f"the data set {dataset.name!r} is in memory: it has no folder for feature stores")
    if name in ("", ".", "..") or Path(name).name != name or name.startswith("."):
        raise FeatureStoreError(f"a feature store's name is one plain word, not {name!r}")
    return dataset.folder / "features" / name


def extractor_name(backbone: BackboneConfig) -> str:
    """What a feature store calls this trunk: "alexnet", "hf:<model>", ..."""
    return f"hf:{backbone.hf_model}" if backbone.name == "hf" else backbone.name


def _check_extractor(store: FeatureStore, backbone: BackboneConfig) -> None:
    found, wanted = store.manifest.extractor, extractor_name(backbone)
    if found != wanted:
        raise FeatureStoreError(
            f"{store.folder}: the store was made by {found!r}, but backbone.name says {wanted!r}. "
            f"Set backbone.name to the trunk that made it, or backbone.store to another store"
        )
