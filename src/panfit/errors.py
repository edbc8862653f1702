"""Every error panfit raises on purpose.

    PanfitError                  the root: catch it to catch them all; the command line prints it without a traceback
    ├── DataError                files or tables that do not say what they should; carries *all* problems found
    ├── ConfigError              a setting that is unknown, out of range, or contradicts another
    ├── CheckpointError          a checkpoint folder that is missing, damaged, or of another shape
    ├── FeatureStoreError        stored feature maps of another data set or extractor, or damaged ones
    ├── CacheError               a file or folder of cached code tables that is damaged or not panfit's
    ├── UnknownIdError           a user or an item that the data set does not have
    ├── TrainingError            training cannot go on (no train likes, a non-finite loss ...)
    └── MissingExtraError        an optional dependency is not installed; says which extra brings it

Programming mistakes raise the usual ``ValueError`` / ``TypeError``; a user's or a file's mistakes are `PanfitError`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN_PROBLEMS = 20
"""How many problems the text of a `DataError` spells out; the list itself is never cut."""


class PanfitError(Exception):
    """The root of the tree."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a user's file.

    Attributes:
        file: the file's path as the user would type it.
        found: what was found there.
        wanted: what was wanted instead.
        remedy: how to mend it.
        row: the row of a table, counted as an editor counts lines (the header of a CSV is 1), or None.
    """

    file: str
    found: str
    wanted: str
    remedy: str
    row: int | None = None

    def __str__(self) -> str:
        place = self.file if self.row is None else f"{self.file}:{self.row}"
        return f"{place}: found {self.found}; wanted {self.wanted}. {self.remedy}"


class DataError(PanfitError):
    """Files or tables that do not say what they should. ``problems`` holds every one that was found, not the first."""

    def __init__(self, summary: str, problems: Sequence[Problem] = ()) -> None:
        self.summary = summary
        self.problems = tuple(problems)
        lines = [summary, *(f"  {problem}" for problem in self.problems[:SHOWN_PROBLEMS])]
        if len(self.problems) > SHOWN_PROBLEMS:
            lines.append(f"  ... and {len(self.problems) - SHOWN_PROBLEMS} more")
        super().__init__("\n".join(lines))


class ConfigError(PanfitError):
    """A setting that is unknown, out of range, or contradicts another."""


class CheckpointError(PanfitError):
    """A checkpoint folder that is missing, damaged, or of another shape."""


class FeatureStoreError(PanfitError):
    """Stored feature maps of another data set or another extractor, or damaged ones."""


class CacheError(PanfitError):
    """A file or folder of cached code tables that is damaged, or not panfit's."""


class UnknownIdError(PanfitError):
    """A user or an item that the data set does not have."""


class TrainingError(PanfitError):
    """Training cannot start or cannot go on."""


class MissingExtraError(PanfitError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Install it with: pip install 'panfit[{extra}]'")
