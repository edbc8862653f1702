"""Loading a run: `panfit.load` until the first score can be asked for, closet's recipe on closet.

The data set and the photo cache are there, the system's cache is warm. Plain does what a script without either does:
the model is built with weights of its own, the file's tensors are copied over them, the tables are read row by row,
every photo is decoded (timed on a part and multiplied). The ceiling is reading the bytes of all files that are read.
"""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from benchmarks.speed import decoding
from benchmarks.speed.measuring import digits, in_turns, watched_memory
from benchmarks.speed.worlds import closet, recipe
from panfit.config import Config
from panfit.features.images import photo_paths
from panfit.features.inputs import build_inputs
from panfit.loading import load
from panfit.model.checkpoint import save_pretrained
from panfit.model.pan import Pan
from panfit.train.learner import build_pan

TARGET = 5.0
PLAIN_PHOTOS, ROUNDS = 200, 5


def run(
    work: Path, *, rounds: int = ROUNDS, plain_photos: int = PLAIN_PHOTOS, config: Config | None = None
) -> dict[str, Any]:
    """A run with initial weights: speed does not depend on them."""
    config = recipe("closet.toml", "pretrain.epochs=0") if config is None else config
    dataset = closet(work)
    assert dataset.folder is not None
    inputs = build_inputs(dataset, config)
    folder = work / "speed-run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = build_pan(config, dataset, inputs)
    extra = {"dataset": dataset.name, "checksum": dataset.checksum, "inputs": dict(inputs.made_by)}
    save_pretrained(model, folder / "best", user_ids=dataset.user_ids, extra=extra)
    data, paths, size = dataset.folder, photo_paths(dataset), config.images.size
    photos = data / "features" / f"photos-{size}-{config.images.fit}"
    files = [path for place in (folder / "best", photos, data) for path in sorted(place.iterdir()) if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6

    def ours() -> None:
        load(folder, data=data, cache=None)

    def reading() -> None:
        for path in files:
            path.read_bytes()

    def plain() -> None:
        generator = torch.Generator().manual_seed(0)
        again = Pan(config, model.shape, generator=generator)
        again.load_state_dict(load_file(next((folder / "best").glob("*.safetensors"))), strict=False)
        for table in sorted(data.glob("*.parquet")):
            pq.read_table(table).to_pylist()

    def plain_decoding() -> None:
        for path in paths[:plain_photos]:
            decoding.plain(path, size)

    with watched_memory() as memory:
        ours()
    works = {"ours": ours, "reading": reading, "plain_model_and_tables": plain, "plain_photos": plain_decoding}
    best = in_turns(works, rounds=rounds)
    shutil.rmtree(folder)
    plain_s = best["plain_model_and_tables"] + best["plain_photos"] * len(paths) / min(plain_photos, len(paths))
    return {
        "case": f"loading a run with {len(paths):,} photos",
        "ratio_to_plain": round(plain_s / best["ours"], 2),
        "share_of_ceiling": round(best["reading"] / best["ours"], 3),
        "ceiling": "reading the bytes of all files",
        "target": TARGET,
        "load_s": round(best["ours"], 3),
        "plain_s": round(plain_s, 2),
        "megabytes": round(megabytes, 1),
        "anonymous_mb": memory.get("mb"),
        "seconds": digits(best, 4),
    }
