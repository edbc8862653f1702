"""Tastes on disk: what newcomers are compared with, kept beside the code tables for later processes.

    FOLDER/MODEL/tastes/KEY.safetensors     a row a taste: its embedding, its share, its scores of the references

FOLDER and the files' form are those of `panfit.code_files`. MODEL is a fingerprint of all weights and settings that
make codes and scores; KEY one of the rest that tastes and scores come from. A file that is not what its name says is
told in a warning and made again, so no newcomer is compared with anything but what would be made now. Never imports
train.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panfit.code_files import SUFFIX, make_folder, read_rows, write_rows
from panfit.errors import CacheError

log = logging.getLogger("panfit")

FORMAT = "1"
"""Raised when a file's layout, or how tastes or their scores are made, changes."""
EMBEDDING, NUMBER = np.dtype("<f4"), np.dtype("<f8")


class Compared(NamedTuple):
    """T tastes and what they say of R references: embeddings (T, D), shares (T,), scores (T, R)."""

    embeddings: NDArray[np.float32]
    shares: NDArray[np.float64]
    scores: NDArray[np.float64]


class TasteFile:
    """The tastes of one model, users and references.

    Args:
        folder: FOLDER; made when the file is written.
        model: the model's fingerprint, a word of hexadecimal digits.
        made_of: all else that tastes and scores are made of, as bytes.
        bits: D.
        references: R.
    """

    def __init__(self, folder: Path, *, model: str, made_of: Sequence[bytes], bits: int, references: int) -> None:
        key = hashlib.blake2b(FORMAT.encode(), digest_size=16)
        for part in made_of:
            key.update(len(part).to_bytes(8, "little") + part)
        self.path = folder / model / "tastes" / f"{key.hexdigest()}{SUFFIX}"
        self._root, self._bits, self._references = folder, bits, references
        self._said = {"format": f"panfit-tastes {FORMAT}", "model": model, "of": key.hexdigest()}

    def read(self) -> Compared | None:
        """What an earlier process wrote; None where there is nothing, or nothing that can be used."""
        split = self._bits * EMBEDDING.itemsize
        try:
            rows = read_rows(self.path, self._said, (None, split + (1 + self._references) * NUMBER.itemsize))
        except CacheError as error:
            log.warning("%s", error)
            return None
        if rows is None or not len(rows):
            return None
        numbers = np.ascontiguousarray(rows[:, split:]).view(NUMBER).astype(np.float64)  # (T, 1 + R)
        embeddings = np.ascontiguousarray(rows[:, :split]).view(EMBEDDING).astype(np.float32)  # (T, D)
        return Compared(embeddings, numbers[:, 0].copy(), numbers[:, 1:].copy())

    def write(self, compared: Compared) -> None:
        """Keep what was made, for later processes; a warning where the disk does not let us."""
        numbers = np.column_stack([compared.shares, compared.scores]).astype(NUMBER)  # (T, 1 + R)
        embeddings = np.ascontiguousarray(compared.embeddings, dtype=EMBEDDING)  # (T, D)
        try:
            make_folder(self._root, self.path.parent)
            write_rows(self.path, self._said, np.hstack([embeddings.view(np.uint8), numbers.view(np.uint8)]))
        except OSError as error:
            log.warning("%s: tastes cannot be kept there (%s): they are made anew", self._root, error.strerror)
