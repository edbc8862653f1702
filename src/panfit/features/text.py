"""The text branch's input: the vectors that came with the data, or hashed titles (decision D13).

A title is lower-cased, split into words, and its words and pairs of neighboring words are hashed into a fixed number of
buckets: no vocabulary is learned, so a new item's title means the same tomorrow. scikit-learn is imported only when
titles are hashed.
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from panfit.config import TextConfig
from panfit.errors import DataError, MissingExtraError, Problem
from panfit.outfits import Dataset

TextKind = Literal["none", "stored", "titles"]
WORD = r"(?u)\b\w+\b"
"""What counts as a word; scikit-learn's own pattern would drop the t of t-shirt."""


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
        MissingExtraError: titles are to be hashed and scikit-learn is not installed.
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

    Raises MissingExtraError when scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError:
        raise MissingExtraError("scikit-learn", "text") from None
    vectorizer = HashingVectorizer(
        n_features=dim,
        token_pattern=WORD,
        ngram_range=(1, 2),
        alternate_sign=False,
        norm="l2",
        dtype=np.float32,
    )
    hashed = vectorizer.transform(unicodedata.normalize("NFKC", title) for title in titles)
    return np.ascontiguousarray(hashed.toarray(), dtype=np.float32)
