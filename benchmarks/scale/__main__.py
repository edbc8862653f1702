"""Goes through the stages, scale by scale, and writes results/benchmarks/scale.json after each."""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scale.measuring import StageError, watch
from benchmarks.scale.stages import CHANGES, RECIPE, ROOT, STAGES, Place, Stage
from benchmarks.scale.works import MAP
from panfit.files import write_aside
from panfit.pedigree import pedigree

SCALES = (0.01, 0.1, 1.0, 10.0)
FLOOR = 0.001
"""So small that what a stage takes there is what it takes for nothing: starting, importing."""
CASE = "how every stage's time and memory grow, from 1/100 of Polyvore-630 to ten times it"
NOT_MEASURED = ("serve", "reproduce")
"""Parts of panfit that no stage runs."""
log = logging.getLogger("panfit")


def fingerprint() -> str:
    """Of the code that is measured and that measures: where it is another one, so may be every figure."""
    code = [path for path in sorted((ROOT / "src" / "panfit").rglob("*.py")) if not set(path.parts) & {*NOT_MEASURED}]
    digest = hashlib.sha256()
    for path in [*code, *sorted((ROOT / "benchmarks" / "scale").glob("*.py")), RECIPE]:
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class Record:
    """results/benchmarks/scale.json."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: list[dict[str, Any]] = []
        if path.exists():
            self.runs = json.loads(path.read_text("utf-8"))["runs"]

    def find(self, stage: str, scale: float) -> dict[str, Any] | None:
        return next((run for run in self.runs if run["stage"] == stage and run["scale"] == scale), None)

    def is_measured(self, stage: str, scale: float, code: str, *, dirty: bool | None) -> bool:
        """Whether the figure is of this code, and, once it is committed, of the committed code."""
        run = self.find(stage, scale)
        return run is not None and run["code"] == code and (bool(dirty) or run["dirty"] is False)

    def put(self, run: dict[str, Any]) -> None:
        """One more, in the place of an older one, written at once."""
        kept = [each for each in self.runs if (each["stage"], each["scale"]) != (run["stage"], run["scale"])]
        order = list(STAGES)
        self.runs = sorted([*kept, run], key=lambda each: (order.index(each["stage"]), each["scale"]))
        scales = sorted({each["scale"] for each in self.runs})
        content = {
            "case": CASE,
            "floor": FLOOR,
            "map": list(MAP),
            "recipe": str(RECIPE.relative_to(ROOT)),
            "changes": list(CHANGES),
            "stages": {name: stage.about for name, stage in STAGES.items()},
            "sizes": {f"{scale:g}": Place(Path(), scale).size.told() for scale in scales},
            "runs": self.runs,
            **{key: run[key] for key in ("commit", "dirty", "hardware", "created_at")},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(self.path, json.dumps(content, indent=1) + "\n")


def run_stage(stage: Stage, place: Place, record: Record, code: str) -> None:
    """Prepare, run, watch, record."""
    place.folder.mkdir(parents=True, exist_ok=True)
    if stage.prepare is not None:
        stage.prepare(place)
    measured = watch(stage.command(place), folder=ROOT, errors=place.folder / f"{stage.name}.err")
    log.info(
        "%s at %g: %.1f s, %.1f s of processors, %s MB", stage.name, place.scale,
        measured.wall_s, measured.cpu_s, measured.anonymous_mb,
    )  # fmt: skip
    made = pedigree()
    made.pop("peak_mb")  # of this process, which only watches
    record.put(
        {
            "stage": stage.name,
            "scale": place.scale,
            "wall_s": measured.wall_s,
            "cpu_s": measured.cpu_s,
            "peak_mb": measured.peak_mb,
            "anonymous_mb": measured.anonymous_mb,
            "details": stage.details(place, measured.output),
            "code": code,
            **made,
        }
    )


def due(names: Iterable[str], place: Place, record: Record, code: str, *, dirty: bool | None, again: bool) -> list[str]:
    """The stages of one scale that have to be run, in order: those without a figure, and what they need and lack."""
    wanted = {
        name for name in names
        if place.scale <= STAGES[name].largest
        and (again or not record.is_measured(name, place.scale, code, dirty=dirty))
    }  # fmt: skip
    while True:
        lost: set[str] = set()  # what is not there, or goes with what is made anew
        for name, stage in STAGES.items():
            if stage.product is not None and (not stage.product(place).exists() or {*stage.needs} & (wanted | lost)):
                lost.add(name)
        more = {needed for name in wanted for needed in STAGES[name].needs} & lost - wanted
        if not more:
            break
        wanted |= more
    return [name for name in STAGES if name in wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: how many stages failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="Measure how panfit's cost grows.")
    parser.add_argument("--work", type=Path, required=True, help="where data, maps and runs live: 12 GB; they stay")
    parser.add_argument(
        "--scales", type=float, nargs="+", default=SCALES, help="times Polyvore-630; the floor is added"
    )
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES), metavar="STAGE",
                        help=f"of {', '.join(STAGES)}; named ones are run again")  # fmt: skip
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where the result file goes")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    record, code, dirty = Record(chosen.results / "benchmarks" / "scale.json"), fingerprint(), pedigree()["dirty"]
    again, failed = chosen.stages != list(STAGES), 0
    for scale in sorted({FLOOR, *chosen.scales}):
        place = Place(chosen.work.resolve() / f"{scale:g}", scale)
        for name in due(chosen.stages, place, record, code, dirty=dirty, again=again):
            log.info("%s at %g ...", name, scale)
            try:
                run_stage(STAGES[name], place, record, code)
            except StageError as error:
                log.error("%s at %g: %s", name, scale, error)
                failed += 1
                break  # what follows needs it
    return failed


if __name__ == "__main__":
    sys.exit(main())
