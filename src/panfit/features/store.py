"""Arrays with one row an item, on disk: a .npy file and a manifest that says of what data set and by what it was made.

Feature maps of a frozen trunk (float16) and decoded photos (uint8) are kept this way; filling.py makes them. A store of
another data set or extractor, or a damaged one, is refused. Nothing is pickled. Imports no model.
"""

import hashlib
import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from panfit.config import Positive, Settings
from panfit.errors import FeatureStoreError
from panfit.outfits import Dataset, IntArray

FORMAT: Literal[1] = 1
ARRAY_FILE = "array.npy"
MANIFEST_FILE = "manifest.json"


class Manifest(Settings):
    """What a store holds. Two stores are the same when all but ``created_at`` and ``checksums`` agree."""

    format: Literal[1] = FORMAT
    extractor: str
    """What made the rows: "photos", or the trunk's name ("alexnet", "resnet50", "hf:<model>")."""
    preparation: str = ""
    """How a photo was prepared, such as "224 px, squash"."""
    weights: str = ""
    """SHA-256 of the trunk's weights."""
    dataset: str
    """The data set's name."""
    dataset_checksum: str
    items: str
    """SHA-256 of the item ids in order."""
    sources: str = ""
    """A fingerprint of the photo files."""
    arithmetic: Literal["float32", "bf16"] = "float32"
    """In what the trunk computed; what is stored is of ``dtype`` either way."""
    shape: tuple[Positive, ...]
    """(N, C, H, W)."""
    dtype: Literal["float16", "uint8"]
    block_items: Positive
    """Items a block; each block has its checksum."""
    created_at: str = ""
    checksums: tuple[int, ...] = ()
    """CRC-32 of each block's bytes."""

    @classmethod
    def describe(cls, dataset: Dataset, *, item_shape: tuple[int, ...], **values: Any) -> "Manifest":
        """The manifest of a store about ``dataset``'s items, each of ``item_shape``, yet to be filled."""
        return cls(
            dataset=dataset.name,
            dataset_checksum=dataset.checksum,
            items=hash_items(dataset),
            shape=(len(dataset.catalogue), *item_shape),
            **values,
        )

    @property
    def num_blocks(self) -> int:
        return -(-self.shape[0] // self.block_items)

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def block_rows(self, block: int) -> IntArray:
        """The item rows of a block."""
        start = block * self.block_items
        return np.arange(start, min(start + self.block_items, self.shape[0]), dtype=np.int64)

    def differences(self, other: "Manifest") -> list[str]:
        """The names of the values in which two manifests disagree, those of the filling aside."""
        mine, theirs = (manifest.model_dump(exclude={"created_at", "checksums"}) for manifest in (self, other))
        return [name for name in mine if mine[name] != theirs[name]]


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """A finished store.

    Attributes:
        folder: where it lies.
        manifest: what it holds.
        maps: (N, C, H, W) memory-mapped rows; reading them past `rows` skips the checksums.
    """

    folder: Path
    manifest: Manifest
    maps: NDArray[Any]
    _verified: set[int] = field(default_factory=set, repr=False)

    def __len__(self) -> int:
        return self.manifest.shape[0]

    def rows(self, rows: IntArray) -> NDArray[Any]:
        """(n,) item rows -> (n, C, H, W) a copy. A block is checked against its checksum when it is first touched.

        Raises FeatureStoreError for a damaged block.
        """
        if is_stretch(rows):
            return np.array(self.stretch(int(rows[0]), int(rows[-1])))  # many times faster than row by row
        self.verify(np.unique(rows // self.manifest.block_items).tolist())
        return np.asarray(self.maps[rows])

    def stretch(self, first: int, last: int) -> NDArray[Any]:
        """Rows from ``first`` to ``last``, both included, checked as `rows` does, but not copied: read-only."""
        self.verify_rows(first, last)
        return self.maps[first : last + 1]

    def verify_rows(self, first: int, last: int) -> None:
        """`verify` the blocks in which rows from ``first`` to ``last``, both included, lie."""
        self.verify(list(range(first // self.manifest.block_items, last // self.manifest.block_items + 1)))

    def verify(self, blocks: list[int] | None = None) -> None:
        """Check the given blocks, or all, against their checksums, each once. Raises FeatureStoreError."""
        for block in range(self.manifest.num_blocks) if blocks is None else blocks:
            if block in self._verified:
                continue
            rows = self.manifest.block_rows(block)
            if zlib.crc32(self.maps[rows[0] : rows[-1] + 1].data) != self.manifest.checksums[block]:
                raise FeatureStoreError(
                    f"{self.folder / ARRAY_FILE}: damaged: items {rows[0]} to {rows[-1]} do not match their checksum. "
                    f"Remove {self.folder} and make it again"
                )
            self._verified.add(block)


def is_stretch(rows: IntArray) -> bool:
    """Whether rows (n,) are neighbors, each the next of the one before."""
    return bool(len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (rows[1:] > rows[:-1]).all())


def hash_items(dataset: Dataset) -> str:
    """SHA-256 of the item ids in order: two data sets whose rows mean the same items share it."""
    return hashlib.sha256("\n".join(dataset.catalogue.item_ids).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_store(folder: str | Path, dataset: Dataset, *, extractor: str | None = None) -> FeatureStore:
    """Open a finished store of ``dataset``'s items, made by ``extractor`` when it is given.

    The manifest, the file's size and its header are checked here, each block's bytes when it is first read.

    Raises:
        FeatureStoreError: it is missing, unfinished, damaged, of another data set or by another extractor.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    where = f"{folder}: the store"
    if manifest.items != hash_items(dataset) or manifest.dataset_checksum != dataset.checksum:
        raise FeatureStoreError(
            f"{where} was made for another data set: found {manifest.dataset!r} with checksum "
            f"{manifest.dataset_checksum[:12]!r}, wanted {dataset.name!r} with {dataset.checksum[:12]!r}. "
            f"Remove the folder and run `panfit features` again"
        )
    if extractor is not None and manifest.extractor != extractor:
        raise FeatureStoreError(f"{where} was made by {manifest.extractor!r}, wanted {extractor!r}")
    if len(manifest.checksums) != manifest.num_blocks:
        raise FeatureStoreError(
            f"{where} is damaged: {len(manifest.checksums)} checksums, {manifest.num_blocks} blocks"
        )
    if manifest.shape[0] != len(dataset.catalogue):
        raise FeatureStoreError(f"{where} is damaged: {manifest.shape[0]} rows for {len(dataset.catalogue)} items")
    path = folder / ARRAY_FILE
    try:
        wanted_size = len(array_header(manifest)) + manifest.num_bytes
        if path.stat().st_size != wanted_size:
            raise ValueError(f"{path.stat().st_size} bytes, wanted {wanted_size}")
        maps = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FeatureStoreError(f"{path}: damaged: {error}. Remove {folder} and make it again") from None
    if maps.shape != manifest.shape or maps.dtype != np.dtype(manifest.dtype):
        raise FeatureStoreError(
            f"{path}: damaged: found {maps.dtype} {maps.shape}, the manifest says {manifest.dtype} {manifest.shape}"
        )
    return FeatureStore(folder, manifest, maps)


def read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_FILE
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        state = "is unfinished" if partial.exists() else "is not there"
        raise FeatureStoreError(f"{folder}: the store {state}. Run `panfit features` to make it")
    try:
        return Manifest.model_validate_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FeatureStoreError(f"{path}: cannot be read: {error}. Remove {folder} and make it again") from None
    except ValidationError as error:
        places = sorted({".".join(str(part) for part in detail["loc"]) or "JSON" for detail in error.errors()})
        raise FeatureStoreError(
            f"{path}: not a manifest of format {FORMAT} (wrong: {', '.join(places)}). Remove {folder} and make it again"
        ) from None


def array_header(manifest: Manifest) -> bytes:
    """The .npy header of the store's array."""
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(manifest.dtype))
    header = {"descr": descr, "fortran_order": False, "shape": manifest.shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()
