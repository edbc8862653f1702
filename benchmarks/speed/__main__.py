"""Runs the cases, each in a process of its own, and writes their result files."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import argparse
import importlib
import json
import logging
import subprocess
import sys
from pathlib import Path

from panfit.files import write_aside

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = {
    "import": "importing",
    "decoding": "decoding",
    "extraction": "extraction",
    "frozen-closet": "frozen_closet",
    "frozen-stored": "frozen_stored",
    "end-to-end": "end_to_end",
    "evaluation": "evaluation",
    "loading": "loading",
}
"""Case -> its module, whose ``run(work)`` gives the result."""
log = logging.getLogger("panfit")


def result_file(results: Path, case: str) -> Path:
    """Where a case's result stands."""
    return results / "benchmarks" / f"speed-{case}.json"


def is_measured(path: Path, commit: str | None) -> bool:
    """Whether there is a result of just this code."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return commit is not None and found.get("commit") == commit and found.get("dirty") is False


def run_one(case: str, *, work: Path, results: Path) -> None:
    """Run a case in this process and write its result."""
    from panfit.pedigree import pedigree

    content = {"speed": case, **importlib.import_module(f"benchmarks.speed.{CASES[case]}").run(work), **pedigree()}
    path = result_file(results, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


def main(arguments: list[str] | None = None) -> int:
    """The exit status: how many cases failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="Measure panfit's speed.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all that are not measured")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/experiments", help="where data and maps live")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where result files go")
    parser.add_argument("--here", action="store_true", help="run one case in this very process")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.cases) - set(CASES))
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if chosen.here:
        for case in chosen.cases:
            run_one(case, work=chosen.work, results=chosen.results)
        return 0
    from panfit.pedigree import pedigree

    commit = pedigree()["commit"]
    failed = 0
    for case in chosen.cases or CASES:
        if not chosen.cases and is_measured(result_file(chosen.results, case), commit):
            log.info("%s: measured", case)
            continue
        log.info("%s ...", case)
        command = [sys.executable, "-m", "benchmarks.speed", case, "--here"]
        folders = ["--work", str(chosen.work), "--results", str(chosen.results)]
        failed += subprocess.run([*command, *folders], cwd=ROOT).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
