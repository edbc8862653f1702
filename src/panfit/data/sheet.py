"""One table as somebody typed it: CSV of any delimiter, or Parquet -> columns of texts, each row with its line number.

Nothing is guessed silently: what is not UTF-8, ragged or empty becomes a Problem that says where. The csv module reads
the CSV, because it alone says on which line a row with quoted line breaks starts.
"""

import csv
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from panfit.data.findings import Findings
from panfit.errors import Problem

DELIMITERS = (",", ";", "\t", "|")
SUFFIXES = (".csv", ".tsv", ".parquet")
NOTHING: Mapping[str, str] = {}
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_SAVE_AS_UTF8 = "Save the table as UTF-8 (in Excel: CSV UTF-8)."


@dataclass(frozen=True)
class Sheet:
    """A table of texts.

    Attributes:
        file: its path, as the user would type it.
        header: column names; may hold one twice.
        columns: the cells of each column, stripped; "" where empty.
        rows: the line of each row as an editor counts (a CSV's header is 1; Parquet rows count from 1).
        broken: places of rows that are told already and must not be used; they keep their place, so that what refers
            to them is not reported as a fault of its own.
        filled: columns that the file does not have; each holds one cell, over and over.
    """

    file: str
    header: tuple[str, ...]
    columns: tuple[list[str], ...]
    rows: list[int]
    broken: frozenset[int] = frozenset()
    filled: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        """The cells of the column of that name (the first, if there are two)."""
        return self.columns[self.header.index(name)]


def find_sheet(source: Path, stem: str, findings: Findings, *, required: bool) -> Path | None:
    """The one file STEM.csv, .tsv or .parquet in a folder; None where there is none (told, if it is required)."""
    paths = [source / f"{stem}{suffix}" for suffix in SUFFIXES if (source / f"{stem}{suffix}").is_file()]
    if len(paths) > 1:
        found = f"{' and '.join(path.name for path in paths)}"
        findings.fatal.append(Problem(str(source), found, f"one {stem} table", "Remove the one that is out of date."))
        return None
    if not paths and required:
        names = sorted(path.name for path in source.iterdir() if path.is_file())
        found = f"only {', '.join(names[:8])}{', ...' * (len(names) > 8)}" if names else "no files at all"
        remedy = "See docs/data.md for the tables that an import needs."
        findings.fatal.append(Problem(str(source), found, f"{stem}.csv or {stem}.parquet", remedy))
    return paths[0] if paths else None


def read_sheet(
    path: Path, findings: Findings, *, required: tuple[str, ...], otherwise: Mapping[str, str] = NOTHING
) -> Sheet | None:
    """Read one table; None where it cannot be read at all (told as fatal). Bad rows are told and left out.

    Args:
        path: a .csv, .tsv or .parquet file.
        findings: takes the problems.
        required: columns that must be there; they also tell which delimiter is meant.
        otherwise: required columns that may be missing -> what then stands in all their cells.
    """
    sheet = _read_parquet(path, findings) if path.suffix == ".parquet" else _read_csv(path, findings, required)
    if sheet is None:
        return None
    lacking = {name: cell for name, cell in otherwise.items() if name not in sheet.header}
    cells = tuple([cell] * len(sheet) for cell in lacking.values())
    header, columns = (*sheet.header, *lacking), (*sheet.columns, *cells)
    sheet = replace(sheet, header=header, columns=columns, filled=frozenset(lacking))
    missing = [name for name in required if name not in sheet.header]
    twice = [name for name in required if sheet.header.count(name) > 1]
    if missing or twice:
        fault = f"no column {', '.join(missing)}" if missing else f"the column {', '.join(twice)} twice"
        found = f"{fault} (there are: {', '.join(map(repr, sheet.header))})"
        remedy = "Rename or add the columns in the header; names count letter by letter."
        findings.fatal.append(Problem(sheet.file, found, f"the columns {', '.join(required)}", remedy, row=1))
        return None
    if not len(sheet):
        remedy = "Export the table again, or remove the file if you do not have such a table."
        findings.fatal.append(Problem(sheet.file, "a header and no rows", "at least one row", remedy))
        return None
    return sheet


# ---- CSV


def _read_csv(path: Path, findings: Findings, required: tuple[str, ...]) -> Sheet | None:
    file = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        findings.fatal.append(Problem(file, str(error.strerror), "a readable file", "Check the file's permissions."))
        return None
    if data[:2] in _BOMS:
        findings.fatal.append(Problem(file, _BOMS[data[:2]], "UTF-8", _SAVE_AS_UTF8))
        return None
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")  # bad bytes keep their place
    if not text.strip():
        remedy = "Export the table again, or remove the file if you do not have such a table."
        findings.fatal.append(Problem(file, "an empty file", "a header and rows", remedy))
        return None
    # not str.splitlines: a form feed or U+2028 inside a title is no new line to an editor
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, required), strict=True)
    header: tuple[str, ...] | None = None
    cells: list[list[str]] = []
    rows: list[int] = []
    broken: set[int] = set()
    while True:
        row = reader.line_num + 1
        try:
            values = [value.strip() for value in next(reader)]
        except StopIteration:
            break
        except csv.Error as error:
            remedy = 'Close every quotation mark, and write one inside a quoted cell twice ("").'
            found = f"lines {row} to {reader.line_num} that are no row of a CSV ({error})"
            # a mark that is never closed swallows all that follows: leaving that out would lose more than one row
            told = findings.fatal if "unexpected end" in str(error) or header is None else findings.bad
            told.append(Problem(file, found, "a row of cells", remedy, row=row))
            if header is None:
                return None
            continue
        if not any(values):  # a blank line, or the empty rows that spreadsheets leave at the end
            continue
        problem = _row_problem(file, row, values, header)
        if header is None:
            if problem is not None:
                findings.fatal.append(problem)
                return None
            header = tuple(values)
            continue
        if problem is not None:
            findings.bad.append(problem)
            broken.add(len(rows))
            values = [_printable(value) for value in values[: len(header)]]
            values += [""] * (len(header) - len(values))
        cells.append([sys.intern(value) for value in values])  # ids come again and again
        rows.append(row)
    if header is None:
        findings.fatal.append(Problem(file, "no header", "a header and rows", "Export the table again."))
        return None
    columns = tuple(map(list, zip(*cells, strict=True))) if cells else tuple([] for _ in header)
    return Sheet(file, header, columns, rows, frozenset(broken))


def _printable(value: str) -> str:
    return value.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def _row_problem(file: str, row: int, values: list[str], header: tuple[str, ...] | None) -> Problem | None:
    for place, value in enumerate(values):
        name = f"column {header[place]!r}" if header is not None and place < len(header) else f"cell {place + 1}"
        bad = next((char for char in value if "\udc80" <= char <= "\udcff"), None)
        if bad is not None:
            before = len(value[: value.index(bad)].encode("utf-8", errors="surrogateescape"))
            found = f"byte 0x{ord(bad) - 0xDC00:02X} (byte {before + 1} of {name}), which is not UTF-8"
            return Problem(file, found, "UTF-8", _SAVE_AS_UTF8, row=row)
        if "\0" in value:
            return Problem(file, f"a zero byte in {name}", "text", _SAVE_AS_UTF8, row=row)
    if header is not None and len(values) != len(header):
        remedy = "Quote cells that hold the delimiter, and give every row as many cells as the header."
        return Problem(file, f"{len(values)} cells", f"{len(header)} as in the header", remedy, row=row)
    return None


def _delimiter(text: str, required: tuple[str, ...]) -> str:
    """The delimiter under which the header holds the most of the required columns, then the most columns."""
    line = next(line for line in io.StringIO(text, newline="") if line.strip())

    def fit(delimiter: str) -> tuple[int, int]:
        try:
            names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
        except (csv.Error, StopIteration):
            return 0, 0
        return len(set(names) & set(required)), len(names)

    return max(DELIMITERS, key=fit)  # the first of equals: a comma


# ---- Parquet


_TEXT_LIKE = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_null)


def _read_parquet(path: Path, findings: Findings) -> Sheet | None:
    file = str(path)
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException, ValueError) as error:
        remedy = "Export the table again."
        findings.fatal.append(Problem(file, f"an unreadable file ({error})", "a Parquet table", remedy))
        return None
    columns: list[list[str]] = []
    for name in table.column_names:
        texts = _texts(table[name])
        if texts is None:
            found = f"column {name!r} of type {table[name].type}"
            remedy = "Write the column as text; a number cannot be an id unless it is whole."
            findings.fatal.append(Problem(file, found, "texts or whole numbers", remedy))
            texts = [""] * len(table)
        columns.append(texts)
    return Sheet(file, tuple(table.column_names), tuple(columns), list(range(1, len(table) + 1)))


def _texts(column: pa.ChunkedArray) -> list[str] | None:
    """A column as stripped texts; whole numbers without a point (pandas turns ints beside a gap into floats)."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = kind.value_type
    try:
        if pa.types.is_floating(kind):
            column = column.cast(pa.float64())
            column = pc.if_else(pc.is_nan(column), None, column).cast(pa.int64())
        elif not any(admits(kind) for admits in _TEXT_LIKE):
            return None
        return [sys.intern(text.strip()) for text in pc.fill_null(column.cast(pa.string()), "").to_pylist()]
    except pa.ArrowException:
        return None
