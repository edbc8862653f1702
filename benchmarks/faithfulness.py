"""Are the maps faithful? Places are hidden in the photos of a drawn wardrobe, and the personal score is taken again.

What a user's map marks on a garment is painted over; then, in turn, as many pixels of the rest of the garment. Both
changes of the user's personal score are means over users and garments; the ratio is of the first to the second. What
the user truly cares about is hidden, too: no map could mark a place that matters more.

    .venv/bin/python benchmarks/faithfulness.py RUN [--data DATASET]    writes results/benchmarks/faithfulness.json

RUN: trained by configs/wardrobe.toml. Some minutes on one core.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from panfit.data.wardrobe import read_truth
from panfit.faithful import DRAWS, PER_CATEGORY, SHARE, Codes, Fill, Hidden, Marks, measure_faithfulness
from panfit.files import write_aside
from panfit.loading import load
from panfit.pedigree import pedigree
from panfit.scoring import OutfitScorer

ROOT = Path(__file__).resolve().parent.parent
SEED = 0
TARGET = 1.0
"""Times as much as elsewhere: a map that marks more than chance is above it."""


def chosen(cases: list[Hidden], marks: Marks, *, fill: Fill = "mean", codes: Codes = "binary") -> Hidden:
    """The case with these names."""
    (case,) = [case for case in cases if (case.marks, case.fill, case.codes) == (marks, fill, codes)]
    return case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a run folder that `panfit train` wrote")
    parser.add_argument("--data", type=Path, help="the dataset folder, if it is not where it was in training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recommender = load(arguments.run, data=arguments.data)
    assert recommender.dataset.folder is not None
    assert isinstance(recommender.scorer, OutfitScorer)
    start = time.perf_counter()
    cases = measure_faithfulness(
        recommender.pan,
        recommender.inputs,
        read_truth(recommender.dataset.folder),
        recommender.dataset.split_items("test"),
        np.random.default_rng(SEED),
        beta=recommender.scorer.coder.beta,
    )
    headline, ceiling = chosen(cases, "relative"), chosen(cases, "truth")
    config = recommender.pan.config.model_dump()
    if config["backbone"]["weights"]:
        config["backbone"]["weights"] = Path(config["backbone"]["weights"]).name  # where it lay is this machine's
    found = pedigree()
    content = {
        "case": "hide what a user's relative map marks, under the garment's mean color; binary codes",
        "ratio_to_plain": round(headline.ratio, 2),
        "share_of_ceiling": round(headline.above_elsewhere.value / ceiling.above_elsewhere.value, 2),
        "target": TARGET,
        "peak_mb": found["peak_mb"],
        "dataset": recommender.dataset.name,
        "checksum": recommender.dataset.checksum,
        "config": config,
        "seed": SEED,
        "users": len(recommender.dataset.user_ids),
        "garments_per_category": PER_CATEGORY,
        "share_hidden": SHARE,
        "places_elsewhere": DRAWS,
        "seconds": round(time.perf_counter() - start, 1),
        "cases": [asdict(case) for case in cases],
        **found,
    }
    path = ROOT / "results" / "benchmarks" / "faithfulness.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, json.dumps(content, indent=1) + "\n")
    for case in cases:
        means = ", ".join(f"{name} {getattr(case, name).value:.3f}" for name in ("own", "elsewhere", "another"))
        print(f"{case.marks}, {case.fill}, {case.codes}: {means}, ratio {case.ratio:.2f}")


if __name__ == "__main__":
    main()
