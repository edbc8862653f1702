"""EXACT SUMS: a query as whole numbers -> its inner products with codes of signs, without any rounding. Numpy only.

What float64 adds up without error has the same bits in whatever order it is added, and so whichever way it is found.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.uint8]

BITS_PER_BYTE = 8
MANTISSA_BITS = 52


@dataclass(frozen=True, eq=False)
class Grid:
    """Queries whose entries are whole numbers, so that float64 adds them up exactly, in whatever order.

    |number| <= 2^f, and B 2^f <= 2^52. An entry is rounded by at most 2^-(f + 1) of the power of two above the query's
    largest: with a float32 query of 1024 bits, only those below 2^-18 of the largest are rounded at all.

    Attributes:
        numbers: (Q, B) whole numbers.
        exponents: (Q,) each query is its numbers, times 2^(exponent - f).
        rounded: (Q, B) numbers / 2^f, in [-1, 1] so that float32 can hold them, as faiss is asked.
        fraction_bits: f.
    """

    numbers: FloatArray
    exponents: NDArray[np.integer]
    rounded: NDArray[np.float32]
    fraction_bits: int

    @classmethod
    def of(cls, queries: NDArray[np.floating]) -> "Grid":
        """Queries (Q, B). Raises ValueError where one is not finite, or where scores might not be."""
        exact = queries.astype(np.float64)  # (Q, B)
        magnitudes = np.abs(exact)  # (Q, B)
        if not np.isfinite(magnitudes.sum(axis=1)).all():
            raise ValueError("a query is not finite, or too large for its scores to be finite")
        fraction_bits = MANTISSA_BITS - (queries.shape[1] - 1).bit_length()
        _, exponents = np.frexp(magnitudes.max(axis=1))  # (Q,)
        half = exponents // 2  # (Q,) in two steps, whose powers of two are never too large; and ldexp(exact) is slow
        numbers = exact * np.ldexp(1.0, -half)[:, None]  # (Q, B)
        numbers = np.rint(numbers * np.ldexp(1.0, fraction_bits + half - exponents)[:, None])  # (Q, B)
        rounded = (numbers * 0.5**fraction_bits).astype(np.float32)  # (Q, B)
        return cls(numbers, exponents, rounded, fraction_bits)

    def __len__(self) -> int:
        return len(self.numbers)

    def one(self, place: int) -> "Grid":
        """Of a single query."""
        each = slice(place, place + 1)
        return Grid(self.numbers[each], self.exponents[each], self.rounded[each], self.fraction_bits)

    def scores(self, place: int, sums: FloatArray) -> FloatArray:
        """Sums of a query's numbers, with their signs, (k,) -> scores (k,)."""
        scores: FloatArray = np.ldexp(sums, self.exponents[place] - self.fraction_bits)
        return scores


def sums_of(numbers: FloatArray, codes: CodeArray) -> FloatArray:
    """Sums (m,) of whole numbers (B,), each with the sign that a code (B / 8,) gives it, of codes (m, B / 8)."""
    bits = np.unpackbits(codes, axis=1, bitorder="little").astype(np.float64)  # (m, B)
    sums: FloatArray = 2 * (bits @ numbers) - numbers.sum()  # (m,)
    return sums


def byte_tables(numbers: FloatArray) -> FloatArray:
    """What each value of each byte of a code adds to the sum: whole numbers (B,) -> (B / 8, 256)."""
    tables = np.zeros((len(numbers) // BITS_PER_BYTE, 1))
    for bit in range(BITS_PER_BYTE):
        weight = numbers[bit::BITS_PER_BYTE, None]  # (B / 8, 1)
        tables = np.concatenate([tables - weight, tables + weight], axis=1)  # (B / 8, 2^(bit + 1))
    return tables


def table_sums(tables: FloatArray, codes: CodeArray) -> FloatArray:
    """`sums_of` of many codes (m, B / 8), through `byte_tables`."""
    sums = np.zeros(len(codes))
    for table, byte in zip(tables, codes.T, strict=True):
        sums += table.take(byte)  # (m,)
    return sums
