"""SEARCH: the best completions among packed codes, exact at the speed of an approximate scan. Imports numpy and faiss.

With one slot open, Eq. 4 is linear in the open slot's code (`Predictor.completion_query`), so that completing an outfit
is an inner-product search among codes of B bits, B = V D for V modalities. A float32 scan of unpacked codes reads 32
times as many bytes as there is information; `CodeIndex` reads the packed bytes.

How it can be exact: faiss's FastScan adds up 8-bit roundings of the query's partial sums, and is never further than a
bound E from the true score. It names R candidates; these are scored exactly; and if even the last candidate's
approximate score + E stays below the k-th exact score, then so does everything that was left out. If not, R grows,
and in the end every row is scored. What comes back is thus the same with any number of threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from panfit.exact_sums import BITS_PER_BYTE, CodeArray, FloatArray, Grid, byte_tables, sums_of, table_sums
from panfit.outfits import IntArray

BoolArray = NDArray[np.bool_]

CENTROID_BYTES = 64
"""Of faiss's sign vectors, for each bit: 16 float32 numbers."""
FAST_SCAN_BLOCK = 32
"""Codes that FastScan looks at together: it holds whole blocks."""
GROUP_BITS = 4
"""Bits of one look-up table of FastScan."""
LEVELS = 255
"""FastScan rounds the widest look-up table to so many steps, and the others with the same step."""
MOST_GROUPS = 65535 // LEVELS - 1
"""FastScan adds in 16 bits without a check: beyond 256 tables (1024 bits) the sums could overflow."""
FEW_ROWS = 256
"""Up to here scoring every row costs no more than asking faiss."""
FEW_FORBIDDEN = 1024
"""So many forbidden rows are simply asked for on top: they may all be ahead of the allowed ones."""
SPARSE = 16
"""Below one allowed row in so many, the allowed rows get an index of their own."""
FIRST_CANDIDATES, FIRST_PER_ROW, GROWTH, WORTHWHILE = 128, 4, 4, 2
"""R starts at 128, or at 4 for each row wanted; grows fourfold; past n / 2 scoring every row is cheaper. Never ask
FastScan for a single row: its handler for that case (faiss 1.15) compares its 16-bit sums as signed."""
FEW_SORTED = 16
"""So many times the rows that are wanted are sorted as they are; of more, first those that cannot be wanted go."""
BLOCK_ROWS = 1 << 15
"""Rows scored at a time."""
BLOCK_CANDIDATES = 1 << 22
"""Candidates asked of faiss at a time, over all queries."""


@dataclass(frozen=True)
class Found:
    """What a search found, for each of Q queries the best k rows.

    Attributes:
        rows: (Q, k) rows of the table. Highest score first; among equal scores the lower row first.
        scores: (Q, k) inner products of query and code, falling.
    """

    rows: IntArray
    scores: FloatArray


class CodeIndex:
    """Exact inner-product search among codes in {-1, +1}.

    A score is the inner product with the query, once the query's entries are rounded to whole multiples of a step so
    small (`Grid`) that float64 adds them up without error, in whatever order. So equal codes have equal scores, to the
    bit, whichever way they were found.

    Args:
        packed: (n, B / 8) codes as `panfit.model.hashing.pack_codes` packs them; n may be 0. Kept, not copied (it may
            be a memory map), and not to be changed while the index lives. With more than a few rows of at most 1024
            bits, the index holds as many bytes once more in memory, in faiss's own order.
        rows: (m,) of the n rows to search among, instead of all: what is found are places in ``rows``.

    Raises:
        ValueError: another shape or dtype.
    """

    def __init__(self, packed: CodeArray, rows: IntArray | None = None) -> None:
        if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] == 0:
            raise ValueError(f"wanted packed codes (n, B / 8) uint8, not {packed.shape} {packed.dtype}")
        self._packed = np.asarray(packed)  # a memory map as a plain array, still not read
        self._rows = rows
        is_worth_it = len(self) > FEW_ROWS and self.num_bits <= MOST_GROUPS * GROUP_BITS
        self._fast_scan = _fast_scan_index(self.codes(slice(None))) if is_worth_it else None

    def __len__(self) -> int:
        return len(self._packed if self._rows is None else self._rows)

    def codes(self, places: IntArray | slice) -> CodeArray:
        """(k, B / 8) the codes that are searched, at some places."""
        return self._packed[places if self._rows is None else self._rows[places]]

    @property
    def num_bytes(self) -> int:
        """That it holds in memory on top of the codes, about."""
        num_codes = -(-len(self) // FAST_SCAN_BLOCK) * FAST_SCAN_BLOCK
        return (
            0
            if self._fast_scan is None
            else num_codes * self.num_bits // BITS_PER_BYTE + CENTROID_BYTES * self.num_bits
        )

    @property
    def num_bits(self) -> int:
        """B."""
        return int(self._packed.shape[1]) * BITS_PER_BYTE

    def search(self, queries: NDArray[np.floating], top: int, *, allowed: BoolArray | None = None) -> Found:
        """The rows with the highest inner product, for each query.

        Args:
            queries: (Q, B) float32 or float64, finite.
            top: at least 1; where fewer rows are allowed, there come fewer.
            allowed: (n,) bool, False for rows that must not be found; None: all are allowed.

        Returns:
            Rows and scores (Q, k), k = min(top, rows allowed).

        Raises:
            ValueError: another shape or dtype; top < 1; a query that is not finite, or whose scores might not be.
        """
        self._check(queries, top, allowed)
        grid = Grid.of(queries)
        return self._search(grid, _error_bounds(grid.rounded), top, allowed)

    def _search(self, queries: Grid, bounds: FloatArray, top: int, allowed: BoolArray | None) -> Found:
        """`search` for queries with their error bounds (Q,)."""
        num_allowed = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if allowed is not None and num_allowed * SPARSE < len(self):
            rows = np.flatnonzero(allowed)  # (m,) rising, so that ties still go to the lower row
            found = CodeIndex(self.codes(rows))._search(queries, bounds, top, None)
            return Found(rows[found.rows], found.scores)
        k = min(top, num_allowed)
        result = Found(np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k)))
        left = self._certified(queries, bounds, k, allowed, num_allowed, result) if k else np.empty(0, dtype=np.int64)
        only = np.flatnonzero(allowed) if allowed is not None and len(left) else None  # (m,)
        for place in left:
            rows, sums = self._scan(byte_tables(queries.numbers[place]), k, only)
            result.rows[place], result.scores[place] = rows, queries.scores(place, sums)
        return result

    def _certified(
        self, queries: Grid, bounds: FloatArray, k: int, allowed: BoolArray | None, num_allowed: int, result: Found
    ) -> IntArray:
        """Fill in the results that candidates can prove; return the places of the queries (q,) that they cannot."""
        left = np.arange(len(queries))  # (q,)
        forbidden = len(self) - num_allowed
        # As if the filter knew nothing of the scores. If it does, few forbidden rows may all be among the candidates.
        num_candidates = max(FIRST_CANDIDATES, -(-FIRST_PER_ROW * k * len(self) // num_allowed))
        num_candidates += forbidden if forbidden <= FEW_FORBIDDEN else 0
        while self._fast_scan is not None and len(left) and num_candidates * WORTHWHILE <= len(self):
            size = max(1, BLOCK_CANDIDATES // num_candidates)
            blocks = [left[first : first + size] for first in range(0, len(left), size)]
            left = np.concatenate(
                [self._try(queries, bounds, block, num_candidates, k, allowed, result) for block in blocks]
            )
            num_candidates *= GROWTH
        return left

    def _try(
        self,
        queries: Grid,
        bounds: FloatArray,
        places: IntArray,
        num_candidates: int,
        k: int,
        allowed: BoolArray | None,
        result: Found,
    ) -> IntArray:
        """`_certified` for the queries at some places, with R candidates each. Scores are in units of 2^exponent."""
        assert self._fast_scan is not None
        approximate, candidates = self._fast_scan.search(queries.rounded[places], num_candidates)  # (q, R), (q, R)
        is_proven = np.zeros(len(places), dtype=np.bool_)  # (q,)
        for one, place in enumerate(places.tolist()):
            rows, guesses, bound = candidates[one], approximate[one], float(bounds[place])  # (R,), (R,)
            lowest, is_whole = guesses.min(), rows.min() >= 0
            # FastScan returns -1 instead of rows at the very bottom of its scale.
            if allowed is not None or not is_whole:
                is_candidate = rows >= 0 if allowed is None else (rows >= 0) & allowed[rows]  # (R,)
                rows, guesses = rows[is_candidate], guesses[is_candidate]  # (r,), (r,)
            if len(rows) < k or not is_whole:
                continue
            # The k with the highest guesses are at least so good; what cannot even tie with them is not scored.
            is_near = guesses >= np.partition(guesses, -k)[-k] - 2 * bound  # (r,)
            rows, guesses = rows[is_near], guesses[is_near]
            sums = sums_of(queries.numbers[place], self.codes(rows))  # (r,)
            scores = np.ldexp(sums, -queries.fraction_bits)  # (r,)
            best = _best(rows, scores, k)  # (k,)
            # The bound is a statement about faiss's code, so it is checked on what came back.
            is_kept = np.abs(scores - guesses).max() <= bound
            # Strictly below, so that nothing left out can even tie.
            is_proven[one] = is_kept and lowest + bound < scores[best[-1]]
            if is_proven[one]:
                result.rows[place], result.scores[place] = rows[best], queries.scores(place, sums[best])
        return places[~is_proven]

    def _scan(self, tables: FloatArray, k: int, rows: IntArray | None) -> tuple[IntArray, FloatArray]:
        """The best k of all rows, or of rows (m,) alone, each scored, a block at a time: (k,) and their sums (k,)."""
        best_rows, best_sums = np.empty(0, dtype=np.int64), np.empty(0)
        num_rows = len(self) if rows is None else len(rows)
        for first in range(0, num_rows, BLOCK_ROWS):
            last = min(first + BLOCK_ROWS, num_rows)
            block = np.arange(first, last) if rows is None else rows[first:last]  # (b,)
            sums = table_sums(tables, self.codes(slice(first, last) if rows is None else block))  # (b,)
            if len(best_rows) == k:
                is_ahead = sums > best_sums[-1]  # (b,) a later row does not win a tie
                block, sums = block[is_ahead], sums[is_ahead]
            best_rows, best_sums = np.concatenate([best_rows, block]), np.concatenate([best_sums, sums])
            best = _best(best_rows, best_sums, k)  # (up to k,)
            best_rows, best_sums = best_rows[best], best_sums[best]
        return best_rows, best_sums

    def _check(self, queries: NDArray[np.floating], top: int, allowed: BoolArray | None) -> None:
        if queries.ndim != 2 or queries.shape[1] != self.num_bits or queries.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"wanted queries (Q, {self.num_bits}) float32 or float64, not {queries.shape} {queries.dtype}"
            )
        if top < 1:
            raise ValueError(f"top must be at least 1, not {top}")
        if allowed is not None and (allowed.shape != (len(self),) or allowed.dtype != np.bool_):
            raise ValueError(f"wanted allowed ({len(self)},) bool, not {allowed.shape} {allowed.dtype}")


def search_each(
    indexes: Sequence[CodeIndex],
    queries: NDArray[np.floating],
    tops: Sequence[int],
    alloweds: Sequence[BoolArray | None],
) -> list[Found]:
    """Q searches of one query each, in Q indexes: what `CodeIndex.search` finds, to the bit, with less ado.

    Args:
        indexes: Q, of codes of B bits.
        queries: (Q, B).
        tops, alloweds: Q, as `CodeIndex.search` takes them.

    Raises:
        ValueError: as `CodeIndex.search`.
    """
    for place, (index, top, allowed) in enumerate(zip(indexes, tops, alloweds, strict=True)):
        index._check(queries[place : place + 1], top, allowed)
    grid = Grid.of(queries)
    bounds = _error_bounds(grid.rounded)  # (Q,)
    asked = enumerate(zip(indexes, tops, alloweds, strict=True))
    return [
        index._search(grid.one(place), bounds[place : place + 1], top, allowed)
        for place, (index, top, allowed) in asked
    ]


def _best(rows: IntArray, scores: FloatArray, k: int) -> IntArray:
    """Places (min(k, m),) of the best among rows (m,) with scores (m,), highest first, then the lower row."""
    places = np.arange(len(rows))
    if len(rows) > FEW_SORTED * k:
        places = np.flatnonzero(scores >= np.partition(scores, -k)[-k])  # (k or more,) with all that tie
    return places[np.lexsort((rows[places], -scores[places]))[:k]]


def _error_bounds(queries: NDArray[np.float32]) -> FloatArray:
    """E (Q,): how far FastScan's score can be from the inner product with queries (Q, B), in [-1, 1].

    FastScan holds, for each of M = B / 4 groups of bits, the inner products with all 16 codes, as multiples of a step:
    the widest group's span / 255. Each is rounded to the nearest, so M tables err by at most M step / 2. On top comes
    float32's rounding: of the query, the tables' entries, their scaling (the 1.001), and of sums up to S = sum |q|.
    """
    magnitudes = np.abs(queries.astype(np.float64))  # (Q, B)
    groups = magnitudes.reshape(len(queries), queries.shape[1] // GROUP_BITS, GROUP_BITS)  # (Q, M, 4)
    num_groups = groups.shape[1]
    spans = 2 * (groups @ np.ones(GROUP_BITS))  # (Q, M)
    step = spans.max(axis=1) / LEVELS  # (Q,)
    float32_error = (num_groups + 32) * np.finfo(np.float32).eps * spans.sum(axis=1) / 2  # (Q,)
    bounds: FloatArray = 1.001 * num_groups * step / 2 + float32_error
    return bounds


def _fast_scan_index(packed: CodeArray) -> faiss.IndexPQFastScan:
    """FastScan over the bytes as they are: with sign vectors for centroids, a packed code *is* its PQ code."""
    num_rows, num_bytes = packed.shape
    num_bits = num_bytes * BITS_PER_BYTE
    num_groups = num_bits // GROUP_BITS
    signs = (np.arange(2**GROUP_BITS)[:, None] >> np.arange(GROUP_BITS) & 1) * 2.0 - 1  # (16, 4)
    plain = faiss.IndexPQ(num_bits, num_groups, GROUP_BITS, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.tile(signs.astype(np.float32).ravel(), num_groups), plain.pq.centroids)
    plain.is_trained = True
    faiss.copy_array_to_vector(np.ascontiguousarray(packed).ravel(), plain.codes)
    plain.ntotal = num_rows
    return faiss.IndexPQFastScan(plain)  # type: ignore[arg-type]  # the stub knows one constructor only
