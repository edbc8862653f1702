"""What a GPU does with panfit: training end to end, extraction, training on stored maps, evaluation.

Everything runs by `panfit.fit`, `extract_features` and `evaluate` as they are; only the settings that say where and in
what arithmetic are changed. Rates are set beside a large matrix product's, in bf16, of the same machine and run.

    python -m benchmarks.gpu --work DIR              # needs a GPU, 32 GB of memory, 10 GB of disk, and closet's photos
    python -m benchmarks.gpu --work DIR --device cpu --small     # the same on a processor, in a size that only shows
                                                                 # that it runs; writes no result file

alexnet       configs/paper/table1-pan.toml on closet's photos at 291 pixels, text by hashed titles
extraction    ResNet-50 on closet's photos at 224 pixels: photos on disk -> stored maps
stored        configs/paper/table2-ul_hn_an.toml on stored maps, 2048 x 7 x 7, of an eighth of Polyvore-630's train
evaluation    Polyvore-630's test split (630 users, 345,810 outfits of 45,505 items) on stored maps, 256 x 6 x 6

An epoch's time is that of the last one of a training. Epochs an hour are of 127,326 likes, by the time for a like.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.evaluation import CONFIG as EVALUATED
from benchmarks.speed.extraction import first_items
from benchmarks.speed.measuring import multiply_adds
from benchmarks.speed.worlds import TEST_630, TRAIN_630, Size, closet, generated, recipe, store_maps
from panfit import fit
from panfit.arithmetic import has_bf16
from panfit.config import Config
from panfit.data.splits import complete
from panfit.evaluate import evaluate
from panfit.features.extract import extract_features
from panfit.features.inputs import build_inputs
from panfit.files import write_aside
from panfit.model.backbone import build_backbone
from panfit.outfits import Dataset, Outfits
from panfit.pedigree import pedigree
from panfit.scoring import OutfitScorer
from panfit.train.learner import build_pan

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 3
PHOTOS_PER_LIKE = 6
"""Three of the outfit, three of its negative; before those that a batch has twice are dropped."""


EIGHTH = TRAIN_630.divided(8)


@dataclass(frozen=True)
class Sizes:
    """How much of each part."""

    product_side: int = 8192
    alexnet_pixels: int = 291
    alexnet_likes: int | None = None
    extraction_pixels: int = 224
    photos: int = 4096
    stored: Size = EIGHTH
    stored_map: tuple[int, int, int] = (2048, 7, 7)
    evaluated: Size = TEST_630
    evaluated_map: tuple[int, int, int] = (256, 6, 6)


SMALL = Sizes(
    product_side=256,
    alexnet_pixels=64,
    alexnet_likes=32,
    extraction_pixels=64,
    photos=32,
    stored=TRAIN_630.divided(2000),
    stored_map=(64, 3, 3),
    evaluated=TEST_630.divided(300),
    evaluated_map=(32, 3, 3),
)


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure panfit on a GPU.")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/experiments", help="where data and maps live")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where the result file goes")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="only see that it runs")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here (torch.cuda.is_available() is False)")
    found = run(chosen.work, torch.device(chosen.device), SMALL if chosen.small else Sizes())
    print(json.dumps(found, indent=1))
    if not chosen.small:
        path = chosen.results / "benchmarks" / f"{chosen.device}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, json.dumps({"benchmark": "gpu", **found, **pedigree()}, indent=1) + "\n")
    return 0


def run(work: Path, device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """All parts, one after the other."""
    folder = work / "gpu"
    shutil.rmtree(folder, ignore_errors=True)
    rate = product_rate(device, sizes.product_side)
    found: dict[str, Any] = {"giga_multiply_adds_per_s_bf16": round(rate, 1)}
    try:
        for name, measure in (
            ("alexnet", end_to_end), ("extraction", extraction), ("stored", stored), ("evaluation", evaluation)
        ):  # fmt: skip
            own_folder = folder / name
            own_folder.mkdir(parents=True)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            found[name] = measure(work, own_folder, device, sizes, rate)
            if device.type == "cuda":
                found[name]["gpu_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
            shutil.rmtree(own_folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def product_rate(device: torch.device, side: int) -> float:
    """Giga multiply-adds a second of a large bf16 matrix product, the best of ten."""
    factor = torch.ones(side, side, dtype=torch.bfloat16, device=device)  # (n, n)
    best = float("inf")
    for _ in range(10):
        start = _now(device)
        factor @ factor
        best = min(best, _now(device) - start)
    return side**3 / best / 1e9


def end_to_end(work: Path, folder: Path, device: torch.device, sizes: Sizes, rate: float) -> dict[str, Any]:
    """AlexNet, trained too."""
    dataset = closet(work)
    if sizes.alexnet_likes is not None:
        few = {split: part(likes, sizes.alexnet_likes) for split, likes in dataset.likes.items()}
        dataset = complete(replace(dataset, likes=few, negatives={}, fitb={}), seed=0)
    config = recipe(
        "paper/table1-pan.toml", "text.source=titles", f"images.size={sizes.alexnet_pixels}", *on(device)
    )  # fmt: skip
    epoch_s, likes = epoch_seconds(config, dataset, folder)
    trunk = build_backbone(
        config.backbone, (3, config.images.size, config.images.size), generator=torch.Generator().manual_seed(0)
    )
    photo = torch.zeros(1, 3, config.images.size, config.images.size)  # (1, 3, h, w)
    forward = multiply_adds(lambda: trunk.feature_map(photo))
    photos_per_s = PHOTOS_PER_LIKE * likes / epoch_s
    return {
        **rates(epoch_s, likes),
        "photos_per_s": round(photos_per_s, 1),
        "mega_multiply_adds_per_photo_forward": round(forward / 1e6, 1),
        "share_of_product_rate": round(3 * forward * photos_per_s / 1e9 / rate, 4),
    }


def extraction(work: Path, folder: Path, device: torch.device, sizes: Sizes, rate: float) -> dict[str, Any]:
    """Photos on disk -> stored maps."""
    dataset = first_items(replace(closet(work), folder=folder), sizes.photos)
    config = Config.parse({"images": {"size": sizes.extraction_pixels}, "backbone": {"name": "resnet50"}})
    extract_features(first_items(dataset, 8), config, name="warm", device=device, precision="auto")
    start = time.perf_counter()
    store = extract_features(dataset, config, name="maps", device=device, precision="auto")
    elapsed_s = time.perf_counter() - start
    trunk = build_backbone(
        config.backbone, (3, config.images.size, config.images.size), generator=torch.Generator().manual_seed(0)
    )
    photo = torch.zeros(1, 3, config.images.size, config.images.size)  # (1, 3, h, w)
    with torch.inference_mode():
        operations = multiply_adds(lambda: trunk.eval().feature_map(photo))
    photos_per_s = len(store) / elapsed_s
    return {
        "photos_per_s": round(photos_per_s, 1),
        "mega_multiply_adds_per_photo": round(operations / 1e6, 1),
        "share_of_product_rate": round(operations * photos_per_s / 1e9 / rate, 4),
    }


def stored(work: Path, folder: Path, device: torch.device, sizes: Sizes, rate: float) -> dict[str, Any]:
    """The paper's frozen recipe."""
    config = recipe("paper/table2-ul_hn_an.toml", *on(device))
    dataset = generated(sizes.stored, seed=0, folder=folder)
    text = np.random.default_rng(0).random((sizes.stored.items, config.text.dim), dtype=np.float32)  # (N, T)
    validation = part(dataset.likes["test"], 64)
    dataset = complete(replace(dataset, text=text, likes={"train": dataset.likes["train"], "val": validation}), seed=0)
    store_maps(dataset, config.backbone.store or "", sizes.stored_map, extractor=config.backbone.name)
    return rates(*epoch_seconds(config, dataset, folder))


def evaluation(work: Path, folder: Path, device: torch.device, sizes: Sizes, rate: float) -> dict[str, Any]:
    """All of a test split, random negatives, without a bootstrap; the second time in a process, and the first."""
    dataset = generated(sizes.evaluated, seed=0, folder=folder)
    store_maps(dataset, "speed", sizes.evaluated_map, extractor="alexnet")
    config = Config.parse(EVALUATED)
    inputs = build_inputs(dataset, config)
    model = build_pan(config, dataset, inputs).eval().to(device)
    elapsed = []
    for _ in range(2):
        start = _now(device)
        evaluate(OutfitScorer(model, inputs), dataset, resamples=0)
        elapsed.append(_now(device) - start)
    return {"first_s": round(elapsed[0], 2), "whole_s": round(elapsed[1], 2)}


def part(likes: Outfits, count: int) -> Outfits:
    """So many likes at most, from all over."""
    return likes.take(np.linspace(0, len(likes) - 1, min(count, len(likes))).astype(np.int64))


def on(device: torch.device) -> tuple[str, ...]:
    """Settings: where and in what arithmetic, so many epochs, one validation at the end."""
    precision = "bf16-mixed" if has_bf16(device) else "32-true"
    return (
        f"train.accelerator={device.type}", f"train.precision={precision}", f"train.epochs={EPOCHS}",
        f"train.validate_every={EPOCHS}",
    )  # fmt: skip


def epoch_seconds(config: Config, dataset: Dataset, folder: Path) -> tuple[float, int]:
    """Seconds of the next to last epoch of a training (the last one validates), and its likes."""
    fit(config, dataset, folder / "run", progress=False)
    lines = (folder / "run" / "log.jsonl").read_text("utf-8").splitlines()
    ends = [float(json.loads(line)["seconds"]) for line in lines]  # since the start, all epochs together
    return ends[-2] - ends[-3], len(dataset.likes["train"])


def rates(epoch_s: float, likes: int) -> dict[str, Any]:
    """An epoch's time, and what it means for Polyvore-630."""
    return {
        "likes": likes,
        "epoch_s": round(epoch_s, 3),
        "likes_per_s": round(likes / epoch_s, 1),
        "epochs_per_h_of_polyvore_630": round(3600 * likes / epoch_s / TRAIN_630.likes, 2),
    }


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
