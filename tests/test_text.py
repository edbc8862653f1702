"""The text branch's input: which source is taken, and what hashing a title promises."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from panfit.config import TextConfig
from panfit.errors import DataError
from panfit.features.text import hash_titles, text_vectors
from panfit.outfits import Dataset


@pytest.fixture
def stored(tiny_dataset: Dataset, rng: np.random.Generator) -> Dataset:
    return replace(tiny_dataset, text=rng.random((72, 6)).astype(np.float32))


@pytest.fixture
def untitled(tiny_dataset: Dataset) -> Dataset:
    titles = tuple(None if row in (4, 70) else title for row, title in enumerate(tiny_dataset.catalogue.titles))
    return replace(tiny_dataset, catalogue=replace(tiny_dataset.catalogue, titles=titles))


def test_auto_prefers_stored_vectors_then_titles_then_nothing(
    tiny_dataset: Dataset, stored: Dataset, untitled: Dataset
) -> None:
    config = TextConfig(dim=50)
    assert text_vectors(stored, config) is stored.text
    hashed = text_vectors(tiny_dataset, config)
    assert hashed is not None
    assert hashed.shape == (72, 50)
    assert text_vectors(untitled, config) is None


def test_a_source_that_is_asked_for_is_taken_or_missed(stored: Dataset, untitled: Dataset) -> None:
    assert text_vectors(stored, TextConfig(source="none")) is None
    titles = text_vectors(stored, TextConfig(source="titles", dim=50))
    assert titles is not None
    assert titles.shape == (72, 50)
    with pytest.raises(DataError, match="no text vectors"):
        text_vectors(untitled, TextConfig(source="stored"))
    with pytest.raises(DataError, match="2 of 72 items have no title") as caught:
        text_vectors(untitled, TextConfig(source="titles"))
    assert [problem.row for problem in caught.value.problems] == [5, 71]


def test_hashed_titles_are_counts_of_words_and_pairs_of_length_one() -> None:
    vectors = hash_titles(["red t-shirt", "RED  T-Shirt!", "shirt red", "", "blue jeans"], 2400)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 2400)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 1], rtol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    # red, t, shirt, "red t", "t shirt": 5 terms; red, shirt, "shirt red": 3 terms; 2 in common
    assert (vectors >= 0).all()
    assert (vectors[0] > 0).sum() == 5
    assert vectors[0] @ vectors[2] == pytest.approx(2 / np.sqrt(5 * 3), rel=1e-6)
    assert vectors[0] @ vectors[4] == 0


def test_a_title_means_the_same_wherever_it_stands_and_in_any_script() -> None:
    alone, among = hash_titles(["Größe café 赤い靴"], 300), hash_titles(["x", "Größe café 赤い靴", "y"], 300)
    np.testing.assert_array_equal(alone[0], among[1])
    decomposed = hash_titles([unicodedata.normalize("NFD", "Größe café 赤い靴")], 300)
    np.testing.assert_array_equal(alone, decomposed)
    # Pinned: a run's text encoder is worthless if tomorrow's library hashes words elsewhere.
    assert np.flatnonzero(hash_titles(["red shoe"], 2400)).tolist() == [889, 1060, 2275]


def from_scikit_learn(titles: list[str], dim: int) -> NDArray[np.float32]:
    """What trained runs have seen: the oracle, for one is the other's promise."""
    vectorizer = HashingVectorizer(
        n_features=dim,
        token_pattern=r"(?u)\b\w+\b",
        ngram_range=(1, 2),
        alternate_sign=False,
        norm="l2",
        dtype=np.float32,
    )
    hashed = vectorizer.transform(unicodedata.normalize("NFKC", title) for title in titles)
    return np.ascontiguousarray(hashed.toarray(), dtype=np.float32)


@given(
    st.lists(st.text(st.one_of(st.sampled_from(" abcXYZ-_0é赤い靴İﬁ²😀"), st.characters()), max_size=40), min_size=1),
    st.integers(1, 3000),
)
def test_it_is_scikit_learn_s_hashing_to_the_last_bit(titles: list[str], dim: int) -> None:
    assert hash_titles(titles, dim).tobytes() == from_scikit_learn(titles, dim).tobytes()


def test_words_of_every_length_are_hashed_as_by_scikit_learn(rng: np.random.Generator) -> None:
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzäöü"))
    titles = ["".join(rng.choice(letters, length)) for length in range(1, 40)]  # every rest of 4 bytes, many blocks
    together = [" ".join(titles), " ".join(titles[:5] * 30)]  # counts above 1, and their rounding
    for dim in (1, 7, 2400, 1 << 20):
        wanted = from_scikit_learn(titles + together, dim)
        np.testing.assert_array_equal(hash_titles(titles + together, dim), wanted)
    assert hash_titles([], 5).shape == (0, 5)
