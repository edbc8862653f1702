"""What a stage does that has no command of its own: maps are stored, a run is loaded, metrics are timed.

python -m benchmarks.scale.works store|load|metrics PATH        prints what it has measured itself, as JSON
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panfit.data.folder import read_dataset
from panfit.outfits import IntArray

STORE, EXTRACTOR = "scale", "alexnet"
MAP = (256, 6, 6)
"""AlexNet's last map of a photo of 224 pixels; in float16, 18 kB an item."""
BLOCK, DISTINCT = 32, 256
"""Items a block of the store, as `panfit features` makes them; different maps, which the store repeats."""
ROUNDS = 3


def store(data: Path) -> dict[str, Any]:
    """DATA/features/scale, of maps as a ReLU leaves them."""
    from panfit.features.filling import write_store
    from panfit.features.store import Manifest

    dataset = read_dataset(data)
    maps = np.maximum(np.random.default_rng(1).standard_normal((DISTINCT, *MAP)), 0).astype(np.float16)
    manifest = Manifest.describe(dataset, item_shape=MAP, extractor=EXTRACTOR, dtype="float16", block_items=BLOCK)

    def encode(rows: IntArray) -> NDArray[np.float16]:
        return np.asarray(maps[rows % DISTINCT])

    write_store(data / "features" / STORE, manifest=manifest, encode=encode, replace=True)
    return {"store_mb": round(manifest.num_bytes / 1e6, 1)}


def load(run: Path) -> dict[str, Any]:
    """`panfit.load`, until outfits can be asked for; without the time that importing takes."""
    import panfit
    import panfit.recommend  # all that `panfit.load` will import

    started = time.perf_counter()
    panfit.load(run, cache=None)
    return {"load_s": round(time.perf_counter() - started, 3)}


def metrics(data: Path) -> dict[str, Any]:
    """FITB, AUC and both NDCGs of the test split from scores that are there; then with the 1,000 resamples too."""
    from panfit.evaluate import PlainScorer, evaluate

    dataset = read_dataset(data)
    split = (dataset.likes["test"], dataset.negatives["test", "random"], dataset.fitb["test"].filled())
    drawn = np.random.default_rng(0).random(sum(map(len, split)))  # (B,)
    scorer = PlainScorer(lambda outfits: drawn)
    return {
        "scored_outfits": len(drawn),
        "metrics_s": round(min(_seconds(lambda: evaluate(scorer, dataset, resamples=0)) for _ in range(ROUNDS)), 4),
        "with_intervals_s": round(min(_seconds(lambda: evaluate(scorer, dataset)) for _ in range(ROUNDS)), 4),
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


WORKS: dict[str, Callable[[Path], dict[str, Any]]] = {"store": store, "load": load, "metrics": metrics}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.works")
    parser.add_argument("work", choices=list(WORKS))
    parser.add_argument("path", type=Path)
    chosen = parser.parse_args()
    print(json.dumps(WORKS[chosen.work](chosen.path)))


if __name__ == "__main__":
    main()
