"""The text branch's input: the vectors that came with the data, or hashed titles (decision D13).

A title is lower-cased, split into words, and its words and pairs of neighboring words are hashed into a fixed number of
buckets: no vocabulary is learned, so a new item's title means the same tomorrow. Where a word goes is a promise to
every run that was trained on titles.
"""

import re
import unicodedata
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from panfit.config import TextConfig
from panfit.errors import DataError, Problem
from panfit.outfits import Dataset

TextKind = Literal["none", "stored", "titles"]
WORD = re.compile(r"\b\w+\b")
"""What counts as a word, if it is only the t of t-shirt."""
_u32 = np.uint32


def text_kind(dataset: Dataset, config: TextConfig) -> TextKind:
    """Which text ``config.source`` takes of a data set; "auto" settles on what is there."""
    if config.source != "auto":
        return config.source
    if dataset.text is not None:
        return "stored"
    return "titles" if all(title is not None for title in dataset.catalogue.titles) else "none"


def text_vectors(dataset: Dataset, config: TextConfig) -> NDArray[np.float32] | None:
    """Every item's text vector, (N, T) float32, or None where the model is to train on images alone.

    Raises:
        DataError: ``source`` asks for stored vectors, or for titles, that the data set does not have.
    """
    place = dataset.folder or Path(dataset.name)
    titles = dataset.catalogue.titles
    kind = text_kind(dataset, config)
    if kind == "none":
        return None
    if kind == "stored":
        if dataset.text is None:
            problem = Problem(str(place / "text"), "no stored text vectors", "vectors", 'Set text.source = "auto"')
            raise DataError(f"the data set {dataset.name!r} has no text vectors", [problem])
        return dataset.text
    missing = [row for row, title in enumerate(titles) if title is None]
    if missing:
        problems = [
            Problem(
                str(place / "items.parquet"),
                f"item {dataset.catalogue.item_ids[row]!r} without a title",
                'a title for every item, since text.source = "titles"',
                'Give it a title, or set text.source = "none"',
                row + 1,
            )
            for row in missing
        ]
        raise DataError(f"{len(missing)} of {len(titles)} items have no title", problems)
    return hash_titles([title for title in titles if title is not None], config.dim)


def hash_titles(titles: Sequence[str], dim: int) -> NDArray[np.float32]:
    """(N, dim) float32: counts of the hashed words and word pairs, each row of Euclidean length 1 (0 without words).

    To the last bit what scikit-learn's HashingVectorizer makes (ngram_range=(1, 2), alternate_sign=False, float32),
    whose import alone takes longer than all else that a service needs before it can answer.
    """
    number_of: dict[str, int] = {}
    numbers, lengths = array("q"), array("q")
    for title in titles:
        terms = _terms(title)
        lengths.append(len(terms))
        numbers.extend(number_of.setdefault(term, len(number_of)) for term in terms)
    hashes = _murmur3([term.encode() for term in number_of]).view(np.int32).astype(np.int64)  # (K,) of distinct terms
    buckets = (np.abs(hashes) % dim)[np.asarray(numbers)]  # (M,) of all terms
    rows = np.repeat(np.arange(len(titles)), lengths)  # (M,)
    places, counts = np.unique(rows * dim + buckets, return_counts=True)  # (m,), (m,)
    rows = places // dim  # (m,)
    squares = np.bincount(rows, np.square(counts), minlength=len(titles))  # (N,)
    vectors = np.zeros((len(titles), dim), dtype=np.float32)  # (N, dim)
    vectors.reshape(-1)[places] = counts / np.sqrt(squares)[rows]
    return vectors


def _terms(title: str) -> list[str]:
    """A title's words and pairs of neighboring words, in lower case."""
    words = WORD.findall(unicodedata.normalize("NFKC", title).lower())
    return words + [f"{one} {other}" for one, other in pairwise(words)]


def _murmur3(terms: Sequence[bytes]) -> NDArray[np.uint32]:
    """(K,) MurmurHash3 (x86, 32 bits, seed 0) of byte strings; those of one length together."""
    of_length: dict[int, list[int]] = {}
    for place, term in enumerate(terms):
        of_length.setdefault(len(term), []).append(place)
    hashes = np.empty(len(terms), dtype=np.uint32)  # (K,)
    for length, places in of_length.items():
        whole = length // 4 + 1  # words of 4 bytes; the last is the rest, filled up with zeros
        joined = b"".join(terms[place].ljust(4 * whole, b"\0") for place in places)
        blocks = np.frombuffer(joined, dtype="<u4").astype(np.uint32).reshape(-1, whole)  # (k, w)
        found = np.zeros(len(places), dtype=np.uint32)  # (k,)
        for block in blocks[:, :-1].T:
            found = _rotate(found ^ _scramble(block), 13) * _u32(5) + _u32(0xE6546B64)
        found ^= _scramble(blocks[:, -1]) ^ _u32(length)
        found = (found ^ found >> _u32(16)) * _u32(0x85EBCA6B)
        found = (found ^ found >> _u32(13)) * _u32(0xC2B2AE35)
        hashes[places] = found ^ found >> _u32(16)
    return hashes


def _scramble(block: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return _rotate(block * _u32(0xCC9E2D51), 15) * _u32(0x1B873593)


def _rotate(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    return words << _u32(bits) | words >> _u32(32 - bits)
