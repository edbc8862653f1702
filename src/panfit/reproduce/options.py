"""What decides whether attention works: the study of options, one table a data set, made from result files alone.

A row of the study is PAN with a few settings changed, its recipe named "options.<what is varied>...."; the row
"options.base" changes none. What a row changes is read from the settings in its files, and so is which other run is the
same one without attention.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from panfit.evaluate import Difference
from panfit.page import markdown_table
from panfit.reproduce.rows import Row
from panfit.reproduce.table import Content, measured_line, measured_margin
from panfit.reproduce.words import NONE, SURE, head, is_sure, mean, number, signed

STUDY, BASE = "options", "base"
GROUPS = (
    "gate", "map", "input", "rate", "user", "hn", "ul", "additions", "negatives", "codes", "bits", "head", "text",
    "paper",
)  # fmt: skip
"""What is varied, in the table's order; any other follows."""
COLUMNS = ("auc", "hard_auc", "fitb", "ndcg")
SHOWN = 4
"""Settings of a row that are named; of a row that changes more their number is told."""
READING = (
    "The first row is PAN as it stands, with its values; every other row changes the settings it names, and shows its "
    f"difference to the first on the seeds that both have run. {SURE} the 95 % interval over users leaves out 0, as it "
    "does by chance in one cell of twenty. Last, where such runs are there: the row minus the same row without "
    "attention; and how often the maximum of the user’s own attention, or of another’s, lies where he truly looks."
)


def options_table(files: Sequence[Content]) -> str:
    """The study as a Markdown table; "" without it, or without its first row.

    Args:
        files: all results of one data set and split.
    """
    of_study = [file for file in files if str(file["recipe"]).startswith(f"{STUDY}.")]
    rows = {recipe.partition(".")[2]: of_row for (_, recipe), of_row in _recipes(of_study).items()}
    if BASE not in rows:
        return ""
    settings = _settings(rows[BASE][0])
    changes = {name: _changes(of_row[0], settings) for name, of_row in rows.items()}
    plain = _without_attention(files)
    lines = []
    for name in sorted(rows, key=lambda name: _place(name, changes, list(settings))):
        line = measured_line(_row(name), rows[name])
        shared = set(line.seeds) & {int(file["seed"]) for file in rows[BASE]}
        found = _differences(rows[name], rows[BASE]) if name != BASE else {}
        cells = [_difference(found, column) if name != BASE else mean(line, column) for column in COLUMNS]
        bare = plain.get(_but_attention(rows[name][0]), [])
        worth = _differences(rows[name], bare) if _looks(rows[name][0]) else {}
        pointing = [line.mean(f"pointing_{eyes}") for eyes in ("own", "another")]
        lines.append([
            name,
            _named(changes[name]),
            str(len(shared)),
            *cells,
            _difference(worth, "auc"),
            " / ".join(map(number, pointing)) if None not in pointing else NONE,
        ])  # fmt: skip
    header = ["row", "settings", "seeds", *map(head, COLUMNS), "AUC, with − without attention"]
    header.append("pointing, own / another’s eyes")
    used = [place for place in range(len(header)) if place == 1 or any(cells[place] != NONE for cells in lines)]
    return markdown_table([header[place] for place in used], [[cells[place] for place in used] for cells in lines])


def _recipes(files: Sequence[Content]) -> dict[tuple[str, str], list[Content]]:
    """(model, recipe) -> its files."""
    ordered = sorted(files, key=_model_and_recipe)
    return {name: list(group) for name, group in groupby(ordered, key=_model_and_recipe)}


def _model_and_recipe(file: Content) -> tuple[str, str]:
    return str(file["model"]), str(file["recipe"])


def _row(name: str) -> Row:
    return Row(name, name, "", "")


def _settings(file: Content) -> dict[str, Any]:
    """``section.key`` -> value, of a run's settings but for its seed."""
    settings: dict[str, Any] = {}
    for section, values in (file["config"] or {}).items():
        if isinstance(values, Mapping):
            settings |= {f"{section}.{key}": value for key, value in values.items()}
        elif section != "seed":
            settings[section] = values
    return settings


def _changes(file: Content, base: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in which a run differs from the base."""
    settings = _settings(file)
    return {key: settings[key] for key, value in base.items() if key in settings and settings[key] != value}


def _named(changes: Mapping[str, Any]) -> str:
    if len(changes) > SHOWN:
        return f"{len(changes)} settings"
    return ", ".join(f"{key} = {value}" for key, value in changes.items()) or NONE


def _place(name: str, changes: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> tuple[Any, ...]:
    """Sorts rows: the base; then by what is varied; there a row's variants follow it; and numbers go by their size."""
    group = name.partition(".")[0]
    rank = -1 if name == BASE else GROUPS.index(group) if group in GROUPS else len(GROUPS)
    ends = [*(end for end, letter in enumerate(name) if letter == "."), len(name)]
    family = [
        [
            (keys.index(key), value if isinstance(value, int | float) else 0, str(value))
            for key, value in changes[name[:end]].items()
        ]
        for end in ends
        if name[:end] in changes
    ]
    return rank, group, family, name


def _without_attention(files: Sequence[Content]) -> dict[str, list[Content]]:
    """Settings but for attention's -> the files of a row that has none."""
    found: dict[str, list[Content]] = {}
    for of_row in _recipes(files).values():
        if of_row[0]["config"] and not _looks(of_row[0]):
            found.setdefault(_but_attention(of_row[0]), of_row)
    return found


def _looks(file: Content) -> bool:
    """Whether a run has attention."""
    settings = _settings(file)
    return settings.get("method") == "pan" and settings.get("attention.kind") == "pan"


def _but_attention(file: Content) -> str:
    """What two runs have in common that differ in nothing but attention."""
    settings = _settings(file)
    own = [key for key in settings if key.startswith("attention.") or key == "optimizer.attention"]
    return json.dumps([{key: settings[key] for key in settings if key not in own}, file.get("trunk")], sort_keys=True)


def _differences(of_row: Sequence[Content], of_other: Sequence[Content]) -> Mapping[str, Difference]:
    """Column -> a row minus another; nothing if they have no seed in common."""
    one, other = _row("one"), _row("other")
    margin = measured_margin(one, other, {one: of_row, other: of_other}, {})
    return {} if margin is None else margin.differences


def _difference(found: Mapping[str, Difference], column: str) -> str:
    if column not in found:
        return NONE
    return signed(found[column].value) + (SURE if is_sure(found[column]) else "")
