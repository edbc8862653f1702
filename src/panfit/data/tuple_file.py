"""Polyvore-U's tables of integers: CSV with a header, a user and item indices a row, up to millions of rows.

A clean file is read by Arrow in one go; anything else is read again line by line, to say what is wrong in which row.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from panfit.data.findings import Findings
from panfit.errors import Problem
from panfit.outfits import IntArray

REMEDY = "Mend the row, download the file anew, or leave such rows out with --skip-bad"
_INTEGER = re.compile(rb"\s*[+-]?[0-9]{1,18}\s*")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, eq=False)
class TupleFile:
    """A table of integers.

    Attributes:
        path: where it was read from.
        values: (B, C) its rows.
        lines: (B,) each row's line in the file; the header is line 1.
    """

    path: Path
    values: IntArray
    lines: IntArray

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[np.bool_]) -> "TupleFile":
        """The rows where the mask is True."""
        return TupleFile(self.path, self.values[rows], self.lines[rows])

    def problems(
        self, rows: NDArray[np.bool_], found: Sequence[str], wanted: str, remedy: str = REMEDY
    ) -> list[Problem]:
        """One problem for each row where the mask is True; ``found`` has a text for each of them."""
        lines = self.lines[rows].tolist()
        return [Problem(str(self.path), text, wanted, remedy, line) for text, line in zip(found, lines, strict=True)]


def read_tuple_file(path: Path, columns: Sequence[str], findings: Findings) -> TupleFile | None:
    """Read a file whose header must be ``columns``.

    Rows that are no integers, or not as many as there are columns, are told in ``findings.bad`` and left out; a file
    that is missing or has another header is told in ``findings.fatal``, and None comes back.
    """
    try:
        data = path.read_bytes().removeprefix(_BOM)
    except OSError as error:
        found = "no such file" if not path.exists() else f"a file that cannot be read ({error.strerror})"
        findings.fatal.append(Problem(str(path), found, "the released file", "Check the path, or download it anew"))
        return None
    header, _, body = data.partition(b"\n")
    names = [re.sub(r"\.\d+$", "", name.strip()) for name in header.decode("utf-8", "replace").split(",")]
    if names != list(columns):  # pandas, writing a column twice, may have made the second "user.1"
        shown = ",".join(names)
        remedy = "Is it another set's file (--subset)? Otherwise download it anew"
        findings.fatal.append(Problem(str(path), f"the header {shown[:80]!r}", f"{','.join(columns)!r}", remedy, 1))
        return None
    values = _read_clean(body, len(columns))
    if values is not None:
        return TupleFile(path, values, np.arange(len(values), dtype=np.int64) + 2)
    return _read_carefully(path, body, columns, findings)


def _read_clean(body: bytes, num_columns: int) -> IntArray | None:
    """(B, C) where every line holds just ``num_columns`` integers, else None."""
    if not body:
        return np.empty((0, num_columns), dtype=np.int64)
    names = [str(column) for column in range(num_columns)]
    try:
        table = csv.read_csv(
            pa.BufferReader(body),
            read_options=csv.ReadOptions(column_names=names),
            parse_options=csv.ParseOptions(ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.int64())),
        )
    except pa.ArrowInvalid:
        return None
    if any(column.null_count for column in table.columns):
        return None
    return np.column_stack([column.to_numpy() for column in table.columns])


def _read_carefully(path: Path, body: bytes, columns: Sequence[str], findings: Findings) -> TupleFile:
    rows, lines = [], []
    for line, text in enumerate(body.split(b"\n"), start=2):
        if not text.strip():
            continue
        cells = text.split(b",")
        wrong = [cell for cell in cells if not _INTEGER.fullmatch(cell)]
        if len(cells) != len(columns):
            found, wanted = f"{len(cells)} columns", f"{len(columns)} columns"
        elif wrong:
            found, wanted = f"{wrong[0].decode('utf-8', 'replace').strip()[:40]!r}", "an integer"
        else:
            rows.append([int(cell) for cell in cells])
            lines.append(line)
            continue
        findings.bad.append(Problem(str(path), found, wanted, REMEDY, line))
    values = np.array(rows, dtype=np.int64).reshape(len(rows), len(columns))
    return TupleFile(path, values, np.array(lines, dtype=np.int64))
