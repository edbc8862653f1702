"""What an importer found wrong, all of it, and what becomes of it: refused, or left out and told.

Imports nothing of panfit but its errors and nouns.
"""

from dataclasses import dataclass, field

from panfit.errors import DataError, Problem
from panfit.outfits import Dataset


@dataclass
class Findings:
    """Collects problems while an importer goes on reading.

    Attributes:
        skip_bad: leave out what is bad instead of refusing the whole import.
        fatal: what no leaving-out mends (a missing file, a wrong header).
        bad: rows that are wrong in themselves.
        following: rows that are only wrong because another row is bad; told when that row is left out.
        notes: oddities that are kept as they are.
    """

    skip_bad: bool
    fatal: list[Problem] = field(default_factory=list)
    bad: list[Problem] = field(default_factory=list)
    following: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def stop_if_needed(self, summary: str) -> None:
        """Raise DataError with everything, unless all of it can be left out and should be."""
        if self.fatal or (self.bad and not self.skip_bad):
            problems = [*self.fatal, *self.bad]
            raise DataError(f"{summary}: {len(problems)} problem{'s' * (len(problems) != 1)}", problems)

    @property
    def skipped(self) -> tuple[Problem, ...]:
        """What was left out, and why."""
        return (*self.bad, *self.following)


@dataclass(frozen=True)
class ImportReport:
    """What an import hands back.

    Attributes:
        dataset: the data set, in memory; `folder.write_dataset` stores it.
        skipped: what ``skip_bad`` left out, each with its reason.
        notes: what is odd and was kept.
        dropped_outfits: likes that lie across the parts of an item-disjoint split and were left out.
    """

    dataset: Dataset
    skipped: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    dropped_outfits: int = 0
