"""Feature extraction: photos on disk -> stored maps, against the bare trunk on photos that are ready in memory.

The bare trunk is given normalized photos in the machine's best mode: bf16 where it has the instructions, else float32,
channels last; its maps are dropped. Extraction decodes, normalizes, runs the same trunk, rounds to float16, checks,
sums and writes. Plain decodes a photo as decoding.py's plain way does, runs the trunk on it alone in float32, and keeps
the map as float32 in a file of its own. Weights are random: speed does not depend on them.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed import decoding
from benchmarks.speed.measuring import digits, in_turns, machine, multiply_adds, watched_memory
from benchmarks.speed.worlds import closet
from panfit.arithmetic import halve, settled
from panfit.config import Config
from panfit.features.extract import PHOTOS_PER_BATCH, extract_features
from panfit.features.images import decode_photos, normalize, photo_paths
from panfit.model.backbone import Backbone, build_backbone
from panfit.outfits import Catalogue, Dataset, Outfits

TARGET, TARGET_SHARE = 1.2, 0.85
SIZE, ROUNDS = 224, 3
PHOTOS = {"alexnet": 256, "resnet50": 64}
"""Photos a round; each trunk's own share is reported, the case's is the lesser."""
PLAIN_PHOTOS = {"alexnet": 48, "resnet50": 8}


def run(
    work: Path, *, photos: dict[str, int] = PHOTOS, plain_photos: dict[str, int] = PLAIN_PHOTOS, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Both trunks."""
    dataset = closet(work)
    precision = settled("auto", torch.device("cpu"))
    rates = machine(torch.bfloat16 if precision == "bf16" else torch.float32)
    found = {
        name: _of_trunk(dataset, work, name, photos[name], plain_photos[name], precision, rounds) for name in photos
    }
    worst = min(found.values(), key=lambda each: float(each["share_of_trunk"]))
    return {
        "case": f"feature extraction, photos of {SIZE} pixels decoded from disk, {precision}, channels last",
        "ratio_to_plain": min(each["ratio_to_plain"] for each in found.values()),
        "share_of_ceiling": worst["share_of_trunk"],
        "ceiling": "the bare trunk on photos ready in memory",
        "target": TARGET,
        "target_share": TARGET_SHARE,
        "precision": precision,
        "trunks": found,
        "anonymous_mb": max((each["anonymous_mb"] or 0.0) for each in found.values()) or None,
        "machine": rates,
    }


def _of_trunk(
    dataset: Dataset, work: Path, name: str, num_photos: int, num_plain: int, precision: Any, rounds: int
) -> dict[str, Any]:
    folder = work / "speed-extraction"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "plain").mkdir(parents=True)
    few = first_items(replace(dataset, folder=folder), num_photos)
    config = Config.parse({"images": {"size": SIZE}, "backbone": {"name": name}})
    paths = photo_paths(few)
    trunk, slow_trunk = (_trunk(config) for _ in range(2))
    if precision == "bf16":
        halve(trunk)
    ready = normalize(torch.from_numpy(decode_photos(paths[:PHOTOS_PER_BATCH], config.images)))  # (n, 3, h, w)
    batches = -(-len(paths) // PHOTOS_PER_BATCH)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(batches):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                trunk.feature_map(ready)

    def ours() -> None:
        shutil.rmtree(folder / "features", ignore_errors=True)
        extract_features(few, config, name=name, precision=precision)

    @torch.inference_mode()
    def plain() -> None:
        for row, path in enumerate(paths[:num_plain]):
            photo = torch.from_numpy(decoding.plain(path, SIZE))[None]  # (1, 3, h, w)
            np.save(folder / "plain" / f"{row}.npy", slow_trunk.trunk(photo).numpy())

    building_s = min(_seconds_to_build(config) for _ in range(2))
    with watched_memory() as memory:
        ours()
    best = in_turns({"ours_s": ours, "bare_s": bare, "plain_s": plain}, rounds=rounds)
    shutil.rmtree(folder)
    ours_rate = len(paths) / (best["ours_s"] - building_s)  # of a long run, where building the trunk does not count
    bare_rate = batches * PHOTOS_PER_BATCH / best["bare_s"]
    with torch.inference_mode():
        operations = multiply_adds(lambda: slow_trunk.feature_map(ready[:1]))
    return {
        "ratio_to_plain": round(ours_rate * best["plain_s"] / num_plain, 2),
        "share_of_trunk": round(ours_rate / bare_rate, 3),
        "photos_per_s": round(ours_rate, 2),
        "trunk_photos_per_s": round(bare_rate, 2),
        "plain_photos_per_s": round(num_plain / best["plain_s"], 2),
        "mega_multiply_adds_per_photo": round(operations / 1e6, 1),
        "anonymous_mb": memory.get("mb"),
        "seconds": digits({**best, "building_s": building_s}, 3),
    }


def _trunk(config: Config) -> Backbone:
    generator = torch.Generator().manual_seed(config.seed)
    return build_backbone(config.backbone, (3, config.images.size, config.images.size), generator=generator).eval()


def _seconds_to_build(config: Config) -> float:
    from benchmarks.speed.measuring import seconds
    from panfit.features.extract import hash_weights

    return seconds(lambda: hash_weights(_trunk(config).trunk))


def first_items(dataset: Dataset, count: int) -> Dataset:
    """A data set of the first items alone; nobody likes anything."""
    catalogue = dataset.catalogue
    few = Catalogue(
        catalogue.item_ids[:count],
        catalogue.item_categories[:count],
        catalogue.images[:count],
        catalogue.titles[:count],
        catalogue.categories,
        catalogue.image_root,
    )
    nobody = Outfits(np.zeros(0, dtype=np.int64), np.zeros((0, len(dataset.slots)), dtype=np.int64))
    return replace(dataset, catalogue=few, likes={"train": nobody}, negatives={}, fitb={}, text=None)
