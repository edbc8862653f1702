"""What every way of searching packed codes promises, and what an exact way promises on top.

A test file subclasses one of the two and says how to make its searcher:

    class TestMine(ExactSearchContract):
        def make(self, packed): return CodeIndex(packed)

Queries are whole multiples of 1/1024, so that a float64 sum is exact in whatever order it is added: scores are compared
for equality, and ties are ties. Sizes are all different, and no number of codes is a multiple of 32.
"""

from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from panfit.search import Found

BITS = 24
SIZES = (1, 7, 45, 333, 1501)


class Searcher(Protocol):
    """A table of codes that can be searched, as `panfit.search.CodeIndex`."""

    def search(self, queries: NDArray[np.floating], top: int, *, allowed: NDArray[np.bool_] | None = None) -> Found: ...


def draw_codes(rng: np.random.Generator, num_codes: int, num_bits: int = BITS) -> NDArray[np.uint8]:
    """(n, B / 8) random bytes; the last fifth are copies of the first."""
    packed = rng.integers(0, 256, (num_codes, num_bits // 8), dtype=np.uint8)
    copies = num_codes // 5
    packed[num_codes - copies :] = packed[:copies]
    return packed


def draw_queries(rng: np.random.Generator, num_queries: int, num_bits: int = BITS) -> NDArray[np.float32]:
    """(Q, B) multiples of 1/1024."""
    return (np.round(rng.standard_normal((num_queries, num_bits)) * 1024) / 1024).astype(np.float32)


def plain_scores(packed: NDArray[np.uint8], query: NDArray[np.floating]) -> list[float]:
    """n scores, one code and one bit at a time."""
    scores = []
    for code in packed.tolist():
        score = 0.0
        for bit, weight in enumerate(query.tolist()):
            score += weight if code[bit // 8] >> bit % 8 & 1 else -weight
        scores.append(score)
    return scores


def plain_search(
    packed: NDArray[np.uint8], query: NDArray[np.floating], top: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[list[int], list[float]]:
    """The slow oracle: score everything, sort everything."""
    scores = plain_scores(packed, query)
    rows = [row for row in range(len(packed)) if allowed is None or allowed[row]]
    rows.sort(key=lambda row: (-scores[row], row))
    return rows[:top], [scores[row] for row in rows[:top]]


class SearchContract:
    """Every way of searching: well-formed answers, true scores, filters obeyed; but the best may be missed."""

    def make(self, packed: NDArray[np.uint8]) -> Searcher:
        raise NotImplementedError

    @pytest.mark.parametrize("num_codes", SIZES)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_scores_are_true_and_fall_and_ties_go_to_the_lower_row(
        self, rng: np.random.Generator, num_codes: int, dtype: type[np.floating]
    ) -> None:
        packed, queries = draw_codes(rng, num_codes), draw_queries(rng, 3).astype(dtype)
        found = self.make(packed).search(queries, 6)
        assert found.rows.shape == found.scores.shape == (3, min(6, num_codes))
        assert (str(found.rows.dtype), str(found.scores.dtype)) == ("int64", "float64")
        for query, rows, scores in zip(queries, found.rows.tolist(), found.scores.tolist(), strict=True):
            true = plain_scores(packed, query)
            assert len(set(rows)) == len(rows)
            assert scores == [true[row] for row in rows]
            assert list(zip(scores, rows, strict=True)) == sorted(
                zip(scores, rows, strict=True), key=lambda pair: (-pair[0], pair[1])
            )

    def test_a_batch_equals_a_loop(self, rng: np.random.Generator) -> None:
        packed, queries = draw_codes(rng, 333), rng.standard_normal((37, BITS))
        searcher = self.make(packed)
        batch = searcher.search(queries, 5)
        for place in range(len(queries)):
            one = searcher.search(queries[place : place + 1], 5)
            np.testing.assert_array_equal(batch.rows[place], one.rows[0])
            np.testing.assert_array_equal(batch.scores[place], one.scores[0])

    def test_the_same_search_gives_the_same_answer(self, rng: np.random.Generator) -> None:
        packed, queries = draw_codes(rng, 333), rng.standard_normal((3, BITS))
        first, second = (self.make(packed.copy()).search(queries.copy(), 5) for _ in range(2))
        np.testing.assert_array_equal(first.rows, second.rows)
        np.testing.assert_array_equal(first.scores, second.scores)

    @pytest.mark.parametrize("num_codes", SIZES)
    def test_asking_for_more_than_there_is_gives_what_there_is(self, rng: np.random.Generator, num_codes: int) -> None:
        found = self.make(draw_codes(rng, num_codes)).search(draw_queries(rng, 2), num_codes + 4)
        for rows in found.rows:
            assert sorted(rows) == list(range(num_codes))

    @pytest.mark.parametrize("num_forbidden", [1, 40, 300, 331, 332])
    def test_filters_are_obeyed(self, rng: np.random.Generator, num_forbidden: int) -> None:
        packed = draw_codes(rng, 333)
        allowed = np.ones(333, dtype=np.bool_)
        allowed[rng.permutation(333)[:num_forbidden]] = False
        found = self.make(packed).search(draw_queries(rng, 4), 5, allowed=allowed)
        assert found.rows.shape == (4, min(5, 333 - num_forbidden))
        assert allowed[found.rows].all()

    def test_the_best_rows_can_be_forbidden(self, rng: np.random.Generator) -> None:
        packed, query = draw_codes(rng, 1501), draw_queries(rng, 1)
        searcher = self.make(packed)
        allowed = np.ones(1501, dtype=np.bool_)
        for _ in range(4):
            found = searcher.search(query, 60, allowed=allowed)
            assert allowed[found.rows].all()
            allowed[found.rows] = False

    def test_a_filter_may_leave_nothing(self, rng: np.random.Generator) -> None:
        found = self.make(draw_codes(rng, 45)).search(draw_queries(rng, 2), 5, allowed=np.zeros(45, dtype=np.bool_))
        assert found.rows.shape == found.scores.shape == (2, 0)

    def test_an_empty_table_and_no_queries(self, rng: np.random.Generator) -> None:
        nothing = self.make(np.empty((0, BITS // 8), dtype=np.uint8))
        assert nothing.search(draw_queries(rng, 2), 5).rows.shape == (2, 0)
        assert nothing.search(draw_queries(rng, 2), 5, allowed=np.empty(0, dtype=np.bool_)).scores.shape == (2, 0)
        found = self.make(draw_codes(rng, 45)).search(draw_queries(rng, 0), 5)
        assert found.rows.shape == found.scores.shape == (0, 5)

    def test_refuses_what_does_not_fit(self, rng: np.random.Generator) -> None:
        packed, queries = draw_codes(rng, 45), draw_queries(rng, 2)
        searcher = self.make(packed)
        wrong_queries: list[NDArray[Any]] = [
            queries[0],
            queries[:, :16],
            queries.astype(int),
            queries.astype(np.float16),
        ]
        for wrong in wrong_queries:
            with pytest.raises(ValueError, match=rf"wanted queries \(Q, {BITS}\)"):
                searcher.search(wrong, 5)
        for top in (0, -1):
            with pytest.raises(ValueError, match="top must be at least 1"):
                searcher.search(queries, top)
        wrong_filters: list[NDArray[Any]] = [np.ones(44, dtype=bool), np.ones((1, 45), dtype=bool), np.ones(45)]
        for allowed in wrong_filters:
            with pytest.raises(ValueError, match=r"wanted allowed \(45,\) bool"):
                searcher.search(queries, 5, allowed=allowed)
        for value in (np.nan, np.inf, -np.inf):
            spoilt = queries.copy()
            spoilt[1, 3] = value
            with pytest.raises(ValueError, match="not finite"):
                searcher.search(spoilt, 5)
        wrong_tables: list[NDArray[Any]] = [packed[0], packed.astype(np.int8), packed[:, :0], packed[None]]
        for wrong in wrong_tables:
            with pytest.raises(ValueError, match="wanted packed codes"):
                self.make(wrong)


class ExactSearchContract(SearchContract):
    """An exact way of searching: nothing is missed, whatever the table, the query and the filter."""

    def check(
        self,
        packed: NDArray[np.uint8],
        queries: NDArray[np.floating],
        top: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> None:
        found = self.make(packed).search(queries, top, allowed=allowed)
        for query, rows, scores in zip(queries, found.rows, found.scores, strict=True):
            assert (rows.tolist(), scores.tolist()) == plain_search(packed, query, top, allowed)

    @pytest.mark.parametrize("num_codes", SIZES)
    @pytest.mark.parametrize("top", [1, 2, 11, 600])
    def test_finds_the_best(self, rng: np.random.Generator, num_codes: int, top: int) -> None:
        self.check(draw_codes(rng, num_codes), draw_queries(rng, 2), top)

    @pytest.mark.parametrize("num_bits", [8, 16, 40, 128, 136, 256, 1024, 1032])
    def test_finds_the_best_at_every_number_of_bits(self, rng: np.random.Generator, num_bits: int) -> None:
        self.check(draw_codes(rng, 147, num_bits), draw_queries(rng, 2, num_bits), 5)

    @pytest.mark.parametrize("top", [1, 3, 30])
    def test_ties_go_to_the_lower_row(self, rng: np.random.Generator, top: int) -> None:
        packed = draw_codes(rng, 1501, 8)  # 256 different codes at the most
        self.check(packed, draw_queries(rng, 2, 8), top)
        self.check(packed, np.sign(draw_queries(rng, 2, 8)), top)
        self.check(packed[np.zeros(333, dtype=np.int64)], draw_queries(rng, 2, 8), top)
        one_bit = np.zeros((2, BITS), dtype=np.float32)
        one_bit[0, 5], one_bit[1, BITS - 1] = 3.0, -0.25
        self.check(draw_codes(rng, 333), one_bit, top)

    def test_a_query_of_zeros_finds_the_first_rows(self, rng: np.random.Generator) -> None:
        packed = draw_codes(rng, 333)
        self.check(packed, np.zeros((2, BITS)), 7)
        self.check(packed, np.zeros((1, BITS), dtype=np.float32), 7, allowed=np.arange(333) % 3 == 1)

    @pytest.mark.parametrize("exponent", [-1060, -300, -60, 60, 300, 1010])
    def test_finds_the_best_at_every_magnitude(self, rng: np.random.Generator, exponent: int) -> None:
        packed, queries = draw_codes(rng, 333), draw_queries(rng, 2).astype(np.float64)
        self.check(packed, np.ldexp(queries, exponent), 9)

    @pytest.mark.parametrize("ratio", [2.0**4, 2.0**12, 2.0**30])
    def test_finds_the_best_beside_one_dominant_bit(self, rng: np.random.Generator, ratio: float) -> None:
        packed, queries = draw_codes(rng, 1501), draw_queries(rng, 2).astype(np.float64)
        queries[0, 3], queries[1, 20] = ratio, -ratio
        self.check(packed, queries, 9)

    @pytest.mark.parametrize("num_bits", [128, 1024])
    def test_finds_the_best_among_codes_that_nearly_reach_the_highest_score(
        self, rng: np.random.Generator, num_bits: int
    ) -> None:
        signs = rng.integers(0, 2, num_bits, dtype=np.uint8) * 2.0 - 1  # (B,)
        queries = np.stack([signs, signs * (1 - rng.integers(0, 4, num_bits) / 1024), -signs])
        flips = rng.random((147, num_bits)) < rng.random((147, 1)) / 8
        packed = np.packbits(np.where(flips, -signs, signs) > 0, axis=1, bitorder="little")
        packed[45] = np.packbits(signs > 0, bitorder="little")
        self.check(packed, queries, 5)

    @pytest.mark.parametrize("num_forbidden", [1, 40, 300, 332])
    def test_finds_the_best_of_what_a_filter_leaves(self, rng: np.random.Generator, num_forbidden: int) -> None:
        packed, queries = draw_codes(rng, 333), draw_queries(rng, 1)
        best = np.array(plain_search(packed, queries[0], 333)[0])  # (n,) rows, the best first
        for forbidden in (best[:num_forbidden], best[-num_forbidden:], rng.permutation(333)[:num_forbidden]):
            allowed = np.ones(333, dtype=np.bool_)
            allowed[forbidden] = False
            self.check(packed, queries, 5, allowed)
