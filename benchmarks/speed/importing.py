"""Importing: `import panfit` and `panfit --help`, against importing all of it at once, and against Python alone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.measuring import digits, in_turns

TARGET = 5.0
ROUNDS = 7
EAGER = (
    "import torch, numpy, pyarrow.parquet, PIL.Image, faiss, lightning_fabric, safetensors.torch\n"
    "import panfit.recommend, panfit.train.loop, panfit.evaluate, panfit.explain, panfit.features.extract"
)
"""What a package whose __init__ imports its modules makes everybody wait for."""


def run(work: Path, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """Each in new processes."""
    codes = {
        "python_s": ["-c", "pass"],
        "import_s": ["-c", "import panfit"],
        "help_s": ["-m", "panfit", "--help"],
        "plain_s": ["-c", EAGER],
    }
    best = in_turns({name: _starting(arguments) for name, arguments in codes.items()}, rounds=rounds)
    return {
        "case": "import panfit, against importing all its modules",
        "ratio_to_plain": round(best["plain_s"] / best["import_s"], 2),
        "share_of_ceiling": round(best["python_s"] / best["import_s"], 3),
        "ceiling": "starting Python and importing nothing",
        "target": TARGET,
        "help_ratio_to_plain": round(best["plain_s"] / best["help_s"], 2),
        "seconds": digits(best, 4),
    }


def _starting(arguments: list[str]) -> Any:
    def start() -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env={**os.environ})

    return start
