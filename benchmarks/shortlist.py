"""Two-stage completion in a catalogue of 100,000 garments: how much of the exact answer, in how much of the time?

A PAN trained on the wardrobe's 1,200 garments completes outfits from 100,000 others that were drawn after them, for
users of the model. Exact: the viewer's whole table is made, the open slot is searched. Two stages: the tables of the
prototypes are there, a shortlist is encoded. Both in turns, CPU seconds of one thread, the trunk's maps stored.

    .venv/bin/python -m benchmarks.shortlist --work FOLDER      writes results/benchmarks/shortlist.json

Drawing the garments takes an hour of one core, once; it goes on where it stopped. The model is trained as
benchmarks/newcomers.py trains it ("all").
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.experiments import wardrobe
from benchmarks.newcomers import train
from panfit.codes import CodeTables
from panfit.complete import Completer
from panfit.data.wardrobe_world import WardrobeConfig, make_items
from panfit.encode import ItemCoder, evaluating
from panfit.features.images import normalize
from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.model.checkpoint import from_pretrained
from panfit.model.pan import Pan
from panfit.outfits import ABSENT, IntArray
from panfit.pedigree import pedigree
from panfit.shortlist import LEAST, NEAREST, NUM_PROTOTYPES, SHARE, Shortlister, taste_prototypes

ROOT = Path(__file__).resolve().parent.parent
log = logging.getLogger("panfit")

ITEMS, VIEWERS, OUTFITS = 100_000, 12, 3
"""Garments; users who are asked about; outfits that each completes, with another slot open in each."""
TOPS = (10, 100)
TARGET_RECALL, TARGET_RATIO = 0.95, 20.0
BLOCK = 256


def draw_photos(folder: Path, num_items: int) -> tuple[NDArray[np.uint8], IntArray]:
    """Photos (N, 3, h, w) and categories (N,) of new garments; drawn where they are not there yet."""
    per_category = num_items // 3
    world = WardrobeConfig.benchmark(
        seed=1, items_per_category=(per_category - 20, 10, 10), likes_per_user=(1.0, 1.0, 1.0)
    )
    truth, _, _ = make_items(world)
    shape = (len(truth.categories), 3, world.image_size, world.image_size)
    folder.mkdir(parents=True, exist_ok=True)
    path, counter = folder / "photos.npy", folder / "drawn.txt"
    drawn = int(counter.read_text("utf-8")) if counter.exists() else 0
    photos = np.lib.format.open_memmap(path, mode="r+" if drawn else "w+", dtype=np.uint8, shape=shape)
    for row in range(drawn, len(photos)):
        photos[row] = np.asarray(truth.picture(row).convert("RGB")).transpose(2, 0, 1)
        if (row + 1) % 1000 == 0 or row + 1 == len(photos):
            photos.flush()
            counter.write_text(str(row + 1), "utf-8")
            log.warning("%d of %d garments drawn", row + 1, len(photos))
    return photos, truth.categories.astype(np.int64)


def store_maps(model: Pan, photos: NDArray[np.uint8], path: Path) -> NDArray[np.float16]:
    """The trunk's maps (N, C, H, W), a memory map; made where they are not there yet."""
    if not path.exists():
        aside = path.with_suffix(".partial")
        shape = (len(photos), *model.backbone.map_shape)
        maps = np.lib.format.open_memmap(aside, mode="w+", dtype=np.float16, shape=shape)
        with evaluating(model):
            for first in range(0, len(photos), BLOCK):
                block = normalize(torch.from_numpy(photos[first : first + BLOCK].copy()))  # (n, 3, h, w)
                maps[first : first + BLOCK] = model.feature_maps(block).numpy()
        maps.flush()
        aside.rename(path)
    found: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return found


def seconds(work: Callable[[], IntArray]) -> tuple[float, IntArray]:
    """CPU seconds, and what was found."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def measure(model: Pan, inputs: ItemInputs) -> dict[str, Any]:
    """Both ways, viewer by viewer."""
    torch.set_num_threads(1)
    coder = ItemCoder(model, inputs)
    rng = np.random.default_rng(1)  # other questions than those on which the share and the prototypes were chosen
    categories = inputs.categories.numpy()  # (N,)
    choices = [np.flatnonzero(categories == slot) for slot in range(3)]  # (n,) each
    everybody = model.user_embeddings(torch.arange(model.shape.num_users)).detach()  # (M, D)
    prepared = CodeTables(coder, max_bytes=1 << 40)
    prepare_s, _ = seconds(partial(_prepare, prepared, everybody))
    shortlister = Shortlister(prepared, taste_prototypes(everybody, NUM_PROTOTYPES))
    recalls: dict[int, list[float]] = {top: [] for top in TOPS}
    exact_s, search_s, two_stage_s = [], [], []
    for user in rng.permutation(len(everybody))[:VIEWERS].tolist():
        viewer = everybody[user]  # (D,)
        exact = Completer(CodeTables(coder, max_bytes=1 << 40))
        table_s, _ = seconds(partial(_make, exact.tables, viewer))
        exact_s.append(table_s)
        for slot in rng.permutation(3)[:OUTFITS].tolist():
            worn = np.array([ABSENT if place == slot else rng.choice(choices[place]) for place in range(3)])  # (S,)
            narrow = Completer(CodeTables(coder, max_bytes=1 << 40))  # the viewer's table is not there
            narrow.shortlister = shortlister
            narrow.tables.packed(viewer, worn[worn != ABSENT])  # he has been told what he wears
            shortlister.shortlist(viewer, np.ones(coder.model.config.model.code_bits), choices[slot], 1)  # index warm
            took, wanted = seconds(partial(_complete, exact, viewer, worn, slot, choices[slot], "exact"))
            search_s.append(took)
            took, found = seconds(partial(_complete, narrow, viewer, worn, slot, choices[slot], "two-stage"))
            two_stage_s.append(took)
            for top in TOPS:
                recalls[top].append(float(np.isin(wanted[:top], found[:top]).mean()))
        log.warning("user %d: recall %s", user, {top: round(statistics.mean(recalls[top]), 4) for top in TOPS})
    ratios = statistics.median(exact_s) / statistics.median(two_stage_s)
    return {
        "case": f"two-stage completion among {len(categories):,} garments: against making the viewer's table",
        "ratio_to_plain": round(ratios, 1),
        "share_of_ceiling": None,
        "target": TARGET_RATIO,
        "target_recall": TARGET_RECALL,
        **{f"recall_at_{top}": round(statistics.mean(values), 4) for top, values in recalls.items()},
        "least_recall_at_10": round(min(recalls[10]), 4),
        "table_s": round(statistics.median(exact_s), 3),
        "search_ms": round(statistics.median(search_s) * 1e3, 2),
        "two_stage_ms": round(statistics.median(two_stage_s) * 1e3, 2),
        "prepare_s": round(prepare_s, 1),
        "prototypes": len(shortlister.prototypes),
        "asked": NEAREST,
        "shortlisted": max(LEAST, round(SHARE * len(choices[0]))),
        "map_shape": list(model.backbone.map_shape),
        "questions": VIEWERS * OUTFITS,
        **pedigree(),
    }


def _make(tables: CodeTables, viewer: Tensor) -> IntArray:
    tables.table(viewer)
    return np.zeros(0, dtype=np.int64)


def _prepare(tables: CodeTables, everybody: Tensor) -> IntArray:
    Shortlister(tables, taste_prototypes(everybody, NUM_PROTOTYPES)).prepare()
    return np.zeros(0, dtype=np.int64)


def _complete(completer: Completer, viewer: Tensor, worn: IntArray, slot: int, rows: IntArray, how: Any) -> IntArray:
    """(100,) the items that complete an outfit best."""
    outfits, _ = completer.fill(viewer, worn, {slot: rows}, top=max(TOPS), repeat=None, width=1, search=how)
    found: IntArray = outfits[:, slot]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs/experiments", help="where models and garments live")
    parser.add_argument("--items", type=int, default=ITEMS, help="garments")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    model, _ = from_pretrained(train(wardrobe(arguments.work), arguments.work, "all"))
    folder = arguments.work / f"garments-{arguments.items}"
    photos, categories = draw_photos(folder, arguments.items)
    maps = store_maps(model, photos, folder / "maps.npy")
    inputs = ItemInputs(KeptMaps(maps, None), torch.from_numpy(categories), None, model.config.images)
    content = measure(model, inputs)
    path = ROOT / "results" / "benchmarks" / "shortlist.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
