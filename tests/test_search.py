"""CodeIndex: the contract, by certificate, by growth and by plain scan; faiss's error bound; completion under Eq. 4."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from panfit import search
from panfit.config import ModelConfig
from panfit.exact_sums import Grid, byte_tables, sums_of, table_sums
from panfit.model.hashing import binary_code, pack_codes, unpack_codes
from panfit.model.predictor import Predictor
from panfit.search import CodeIndex, search_each
from tests.contracts.search_contract import ExactSearchContract, draw_codes, draw_queries, plain_search

CATEGORIES = ("top", "top", "bottom", "shoe")  # two tops: one pair that must not count (decision D14)


class TestPlainScan(ExactSearchContract):
    """Small tables, whose every row is scored."""

    @pytest.fixture(autouse=True)
    def all_are_small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "FEW_ROWS", 2000)

    def make(self, packed: NDArray[np.uint8]) -> CodeIndex:
        index = CodeIndex(packed)
        assert index._fast_scan is None
        return index


class TestPlainScanInBlocks(ExactSearchContract):
    """As with larger tables, whose rows are scored some at a time."""

    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "FEW_ROWS", 2000)
        monkeypatch.setattr(search, "BLOCK_ROWS", 19)

    def make(self, packed: NDArray[np.uint8]) -> CodeIndex:
        return CodeIndex(packed)


class TestFastScan(ExactSearchContract):
    """FastScan at every size, from few candidates on, so that some are proven at once, some late, some never."""

    @pytest.fixture(autouse=True)
    def at_every_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "FEW_ROWS", 0)
        monkeypatch.setattr(search, "FIRST_CANDIDATES", 21)
        monkeypatch.setattr(search, "FEW_FORBIDDEN", 50)
        monkeypatch.setattr(search, "WORTHWHILE", 1)
        monkeypatch.setattr(search, "BLOCK_CANDIDATES", 100)

    def make(self, packed: NDArray[np.uint8]) -> CodeIndex:
        index = CodeIndex(packed)
        assert (index._fast_scan is not None) == (len(packed) > 0 and index.num_bits <= 1024)
        return index

    def test_rows_at_the_bottom_of_the_scale_are_not_forgotten(self) -> None:
        """FastScan leaves out a row whose tables are all rounded to 0; here such rows are better than the one left."""
        step = 2 / 255  # one bit of weight 1 spans 2
        query = np.zeros((1, 128))
        query[0, ::4] = 0.48 * step / 2  # spans just under half a step, 31 times
        query[0, [0, 4]] = 1.0, 0.51 * step / 2
        better, worse = np.ones(128), -np.ones(128)
        better[[0, 4]], worse[4] = -1.0, 1.0
        codes = np.where(np.arange(41)[:, None] == 33, worse, better)  # (n, B)
        packed = np.packbits(codes > 0, axis=1, bitorder="little")
        candidates = search._fast_scan_index(packed).search(query.astype(np.float32), 21)[1][0]
        assert sorted(candidates.tolist()) == [-1] * 20 + [33]
        assert self.make(packed).search(query, 1).rows.tolist() == [[0]]


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each plain scan that was needed."""
    calls: list[int] = []
    plain_scan = CodeIndex._scan

    def counted(index: CodeIndex, tables: NDArray[np.float64], k: int, rows: NDArray[np.int64] | None) -> object:
        calls.append(len(index) if rows is None else len(rows))
        return plain_scan(index, tables, k, rows)

    monkeypatch.setattr(CodeIndex, "_scan", counted)
    return calls


@pytest.mark.parametrize("num_bits", [128, 1024])
def test_ordinary_queries_are_proven_without_a_plain_scan(
    rng: np.random.Generator, scanned: list[int], num_bits: int
) -> None:
    packed, queries = draw_codes(rng, 6007, num_bits), draw_queries(rng, 8, num_bits)
    index = CodeIndex(packed)
    found = index.search(queries, 10)
    assert scanned == []
    scores = unpack_codes(torch.from_numpy(packed)).double().numpy() @ queries[0].astype(np.float64)  # (n,) no rounding
    best = np.lexsort((np.arange(6007), -scores))[:10]  # (10,)
    assert (found.rows[0].tolist(), found.scores[0].tolist()) == (best.tolist(), scores[best].tolist())
    allowed = np.arange(6007) % 2 == 0
    index.search(queries[:3], 10, allowed=allowed)
    assert scanned == [], "half a table is still worth a fast scan"
    allowed[found.rows[0]] = False
    index.search(queries[:1], 10, allowed=allowed)
    assert scanned == []
    index.search(queries[:1], 10, allowed=np.arange(6007) % 100 == 0)
    assert scanned == [61], "few rows: an index of their own, small enough for a plain scan"
    index.search(queries[:1], 3000)
    assert scanned == [61, 6007]


def test_what_cannot_be_proven_is_scanned_and_only_what_is_allowed(
    rng: np.random.Generator, scanned: list[int]
) -> None:
    packed = draw_codes(rng, 6007, 16)
    packed[1000:4000] = packed[7]
    queries = unpack_codes(torch.tensor(packed[7:8])).numpy()  # (1, 16): its best code stands in 3,000 rows
    allowed = np.arange(6007) % 4 != 3
    found = CodeIndex(packed).search(queries, 5, allowed=allowed)
    assert scanned == [int(allowed.sum())]
    assert found.rows[0].tolist() == plain_search(packed, queries[0], 5, allowed)[0]


def test_more_candidates_are_asked_for_before_every_row_is_scored(rng: np.random.Generator, scanned: list[int]) -> None:
    packed = draw_codes(rng, 9001, 64)
    packed[rng.permutation(9001)[:300]] = packed[7]  # more than the first candidates; they tie
    queries = unpack_codes(torch.tensor(packed[7:8])).numpy()  # (1, 64)
    found = CodeIndex(packed).search(queries, 5)
    assert scanned == []
    assert found.rows[0].tolist() == plain_search(packed, queries[0], 5)[0]


def test_a_bound_that_faiss_does_not_keep_is_noticed(
    rng: np.random.Generator, scanned: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, queries = draw_codes(rng, 6007, 128), draw_queries(rng, 3, 128)
    monkeypatch.setattr(search, "_error_bounds", lambda queries: np.full(len(queries), 1e-6))
    found = CodeIndex(packed).search(queries, 10)
    assert scanned == [6007] * 3
    for place, query in enumerate(queries):
        assert found.rows[place].tolist() == plain_search(packed, query, 10)[0]


QUERIES: dict[str, Callable[[np.random.Generator, int], NDArray[Any]]] = {
    "normal": lambda rng, bits: rng.standard_normal(bits),
    "whole numbers": lambda rng, bits: rng.integers(-3, 4, bits),
    "one dominant bit": lambda rng, bits: np.where(np.arange(bits) == 5, 300.0, rng.standard_normal(bits)),
    "heavy tails": lambda rng, bits: rng.standard_cauchy(bits),
    "all alike": lambda rng, bits: np.full(bits, 0.7),
    "every entry half way between two steps": lambda rng, bits: np.where(
        np.arange(bits) < 4, 255 / 8, (rng.integers(0, 3, bits) + 0.5) / 2
    ),
}


@pytest.mark.parametrize("num_bits", [8, 40, 128, 1024])
@pytest.mark.parametrize("kind", QUERIES)
def test_fast_scan_keeps_the_bound_for_what_it_returns_and_for_what_it_leaves_out(
    rng: np.random.Generator, num_bits: int, kind: str
) -> None:
    query = np.asarray(QUERIES[kind](rng, num_bits), dtype=np.float64)  # (B,)
    query /= np.abs(query).max()
    flips = rng.random((701, num_bits)) < rng.random((701, 1))  # scores from the lowest to the highest
    packed = np.packbits(flips ^ (query > 0), axis=1, bitorder="little")
    rounded = query.astype(np.float32)  # (B,)
    scores = unpack_codes(torch.tensor(packed)).double().numpy() @ rounded.astype(np.float64)  # (n,)
    index = search._fast_scan_index(packed)
    (bound,) = search._error_bounds(rounded[None])
    for num_candidates in (21, 130, 701):
        approximate, candidates = (array[0] for array in index.search(rounded[None], num_candidates))
        there = candidates >= 0
        assert len(set(candidates[there])) == there.sum()
        assert np.abs(approximate[there] - scores[candidates[there]]).max() <= bound
        left_out = np.setdiff1d(np.arange(701), candidates)
        lowest = approximate[there].min() if there.all() else -np.abs(rounded.astype(np.float64)).sum()
        assert (scores[left_out] <= lowest + bound).all()


def test_the_bound_is_no_wider_than_it_must_be() -> None:
    """Two tables whose entries lie half way between two steps: faiss errs by half a step in each."""
    query = np.array([255 / 8] * 4 + [0.25] * 4, dtype=np.float32) / np.float32(32)  # (8,)
    packed = np.arange(256, dtype=np.uint8)[:, None]  # (n, 1)
    approximate, candidates = search._fast_scan_index(packed).search(query[None], 200)
    scores = unpack_codes(torch.tensor(packed)).numpy() @ query
    error = np.abs(approximate[0] - scores[candidates[0]]).max()
    assert 0.45 < error / search._error_bounds(query[None])[0] <= 1


def test_equal_codes_have_equal_scores_to_the_bit_wherever_they_stand(rng: np.random.Generator) -> None:
    packed, query = draw_codes(rng, 1, 128), rng.standard_normal((1, 128)) * 10.0 ** rng.integers(-9, 9, (1, 128))
    found = CodeIndex(packed[np.zeros(1501, dtype=np.int64)]).search(query, 1501)
    assert found.rows[0].tolist() == list(range(1501))
    assert len(set(found.scores[0].tolist())) == 1


@pytest.mark.parametrize("num_bits", [8, 136, 1024])
def test_sums_have_no_rounding_whichever_way_they_are_added_up(rng: np.random.Generator, num_bits: int) -> None:
    packed, queries = draw_codes(rng, 37, num_bits), rng.standard_cauchy((3, num_bits)) * 10.0 ** rng.integers(-9, 9)
    queries[2] = np.nextafter(1.0, 0)  # rounded up to a power of two
    grid = Grid.of(queries)
    for place, query in enumerate(queries):
        step = Fraction(2) ** (int(grid.exponents[place]) - grid.fraction_bits)
        numbers = [int(number) for number in grid.numbers[place].tolist()]
        assert all(
            abs(n * step - Fraction(entry)) <= step / 2 for n, entry in zip(numbers, query.tolist(), strict=True)
        )
        bits = np.unpackbits(packed, axis=1, bitorder="little").tolist()
        wanted = [sum(n if bit else -n for n, bit in zip(numbers, code, strict=True)) for code in bits]
        assert [int(each) for each in sums_of(grid.numbers[place], packed).tolist()] == wanted
        tables = byte_tables(grid.numbers[place])
        assert [int(each) for each in table_sums(tables, packed).tolist()] == wanted
        assert max(map(abs, wanted)) <= 2**52
        exact = [float(each * step) for each in wanted]
        assert grid.scores(place, np.array(wanted, dtype=np.float64)).tolist() == exact


def test_searches_in_several_indexes_at_once_are_those_of_a_loop(rng: np.random.Generator) -> None:
    tables = [draw_codes(rng, num_codes, 128) for num_codes in (6007, 45, 701, 6007)]
    indexes = [CodeIndex(packed) for packed in tables]
    queries, tops = rng.standard_normal((4, 128)), (7, 3, 11, 2000)
    alloweds = [None, np.arange(45) % 3 == 1, None, np.arange(6007) % 100 == 0]
    found = search_each(indexes, queries, tops, alloweds)
    for place, (index, top, allowed) in enumerate(zip(indexes, tops, alloweds, strict=True)):
        wanted = index.search(queries[place : place + 1], top, allowed=allowed)
        np.testing.assert_array_equal(found[place].rows, wanted.rows)
        np.testing.assert_array_equal(found[place].scores, wanted.scores)
    assert search_each([], queries[:0], (), ()) == []
    with pytest.raises(ValueError, match="top must be at least 1"):
        search_each(indexes, queries, (7, 3, 0, 1), alloweds)
    with pytest.raises(ValueError, match=r"wanted queries \(Q, 24\)"):
        search_each([CodeIndex(draw_codes(rng, 7))], queries[:1], (1,), (None,))


def test_some_rows_of_a_table_are_searched_as_a_table_of_their_own(rng: np.random.Generator) -> None:
    packed, queries = draw_codes(rng, 6007, 128), draw_queries(rng, 3, 128)
    for rows in (np.flatnonzero(rng.random(6007) < 0.5), np.arange(100, 141), np.arange(0)):
        allowed = rng.random(len(rows)) < 0.9
        among, own = CodeIndex(packed, rows), CodeIndex(packed[rows])
        assert (len(among), among.num_bytes) == (len(own), own.num_bytes)
        assert (among.num_bytes > 0) == (len(rows) > search.FEW_ROWS)
        for each in (None, allowed):
            found, wanted = among.search(queries, 10, allowed=each), own.search(queries, 10, allowed=each)
            np.testing.assert_array_equal(found.rows, wanted.rows)
            np.testing.assert_array_equal(found.scores, wanted.scores)
        np.testing.assert_array_equal(among.codes(np.arange(len(rows))), packed[rows])


def test_any_number_of_threads_finds_the_same_and_stays_as_it_was(rng: np.random.Generator) -> None:
    packed, queries = draw_codes(rng, 6007, 128), rng.standard_normal((37, 128))
    before = faiss.omp_get_max_threads()
    try:
        answers = []
        for num_threads in (1, 2, 3):
            faiss.omp_set_num_threads(num_threads)
            answers.append(CodeIndex(packed).search(queries, 10))
            assert faiss.omp_get_max_threads() == num_threads
    finally:
        faiss.omp_set_num_threads(before)
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.rows, answers[0].rows)
        np.testing.assert_array_equal(answer.scores, answers[0].scores)


def test_a_memory_map_is_searched_where_it_lies(rng: np.random.Generator, tmp_path: Path) -> None:
    packed, queries = draw_codes(rng, 6007, 128), draw_queries(rng, 2, 128)
    np.save(tmp_path / "codes.npy", packed)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    for allowed in (None, np.arange(6007) % 100 == 0):
        found, wanted = (CodeIndex(codes).search(queries, 10, allowed=allowed) for codes in (mapped, packed))
        np.testing.assert_array_equal(found.rows, wanted.rows)
        np.testing.assert_array_equal(found.scores, wanted.scores)
    assert np.shares_memory(CodeIndex(mapped)._packed, mapped)


@pytest.mark.parametrize("pair_weight", ["diagonal", "full"])
@pytest.mark.parametrize("num_modalities", [1, 2])
def test_completes_an_outfit_as_eq_4_scores_every_candidate(pair_weight: str, num_modalities: int) -> None:
    generator = torch.Generator().manual_seed(7)
    bits, num_candidates = 24, 301
    config = ModelConfig.model_validate(
        {"code_bits": bits, "alpha": 0.7, "learn_alpha": True, "score_scale": 3.0, "pair_weight": pair_weight}
    )
    pairs = torch.tensor([[m < n and a != b for n, b in enumerate(CATEGORIES)] for m, a in enumerate(CATEGORIES)])
    predictor = Predictor(config, pairs).double().requires_grad_(False)
    for weight in (predictor.user_item_weight, predictor.item_item_weight):
        weight.copy_(torch.randn(weight.shape, generator=generator))
    candidates = binary_code(torch.randn(num_candidates, num_modalities, bits, generator=generator).double())
    index = CodeIndex(pack_codes(candidates.flatten(1)).numpy())  # (n, V D / 8)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=torch.bool)
    users = binary_code(torch.randn(5, bits, generator=generator).double())  # (B, D)
    items = binary_code(torch.randn(5, 4, num_modalities, bits, generator=generator).double())  # (B, S, V, D)
    for slot in range(len(CATEGORIES)):
        query, offset = predictor.completion_query(users, items, mask, slot)
        found = index.search(query.flatten(1).numpy(), 10)
        for outfit in range(5):
            tried = items[outfit].expand(num_candidates, -1, -1, -1).clone()  # (n, S, V, D)
            tried[:, slot] = candidates
            filled = mask[outfit].clone()
            filled[slot] = True
            scores = predictor(users[outfit].expand(num_candidates, -1), tried, filled.expand(num_candidates, -1)).score
            best = scores.topk(10)
            assert found.rows[outfit].tolist() == best.indices.tolist()
            total = torch.from_numpy(found.scores[outfit]) + offset[outfit]
            torch.testing.assert_close(total, best.values)
