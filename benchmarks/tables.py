"""A viewer's whole code table out of stored ResNet-50 maps: against one item at a time, and against the machine.

Maps (2048, 7, 7) float16, 200 kB an item, in a feature store; configs/paper/table2-ul_hn_an.toml's model without text,
with attention weights as if it were trained. Plain: each item's map is read, widened and encoded for the viewer alone
(`Pan.encode_items`), timed on some items; the bits are compared. The machine: the larger of the time a read of so many
bytes takes in memory, and the time so many multiply-adds take in a large float32 product; both are measured here, by
the same threads. Wall-clock seconds, so nothing else should run.

The headline is a viewer never seen before, in a process that has made a table of this catalogue already: what no
viewer changes is then kept, and the maps' checksums are verified. The process's first table, which does both, and one
whose maps are all on the disk are told beside it. Where memory is too small for all the maps, the hot figures are of as
many items as fit.

    .venv/bin/python benchmarks/tables.py --work FOLDER      needs 20 GB there, for 100,000 items; they are removed
                                                             writes results/benchmarks/tables.json
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import argparse
import json
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.codes import CodeTables
from panfit.config import Config, ImageConfig
from panfit.encode import ItemCoder
from panfit.features.filling import write_store
from panfit.features.inputs import ItemInputs
from panfit.features.store import ARRAY_FILE, FeatureStore, Manifest, read_manifest
from panfit.model.attention import UserAwareAttention, UserMap
from panfit.model.hashing import pack_codes
from panfit.model.pan import Pan, PanShape
from panfit.outfits import IntArray
from panfit.pedigree import pedigree

ROOT = Path(__file__).resolve().parent.parent
ITEMS, MAP, BLOCK = 100_000, (2048, 7, 7), 32
DISTINCT = 512
"""Different maps; the file repeats them."""
VIEWERS, PLAIN_ITEMS = 3, 300
TARGET_RATIO, TARGET_SHARE, TARGET_GB = 8.0, 0.5, 2.0
FITTING = 0.9
"""Of the memory that the system says is available, so much may hold the maps."""
READ_BYTES, PRODUCT_SIDE = 1 << 30, 4096
ROUNDS = 5


def build() -> Pan:
    """The paper's recipe on stored maps, without text; users whose tastes move the gates."""
    recipe = ROOT / "configs" / "paper" / "table2-ul_hn_an.toml"
    config = Config.read(recipe, ["text.source=none", "model.user_init_std=0.3"])
    shape = PanShape(
        num_users=1 + VIEWERS,
        slots=(("top", "top"), ("bottom", "bottom"), ("shoe", "shoe")),
        categories=("top", "bottom", "shoe"),
        text_dim=None,
        input_shape=MAP,
    )
    generator = torch.Generator().manual_seed(0)
    model = Pan(config, shape, generator=generator).eval()
    assert isinstance(model.attention, UserAwareAttention)
    assert isinstance(model.attention.spatial.user, UserMap)
    for weight in (model.attention.channel.user.weight, model.attention.spatial.user.weight):
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return model


def write_maps(folder: Path, num_items: int) -> FeatureStore:
    """Maps as a ReLU leaves them."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(DISTINCT, *MAP, generator=generator).relu_().half().numpy()  # (512, C, H, W)
    manifest = Manifest(
        extractor="resnet50",
        dataset="benchmark",
        dataset_checksum="",
        items="",
        shape=(num_items, *MAP),
        dtype="float16",
        block_items=BLOCK,
    )

    def encode(rows: IntArray) -> NDArray[np.float16]:
        return np.asarray(maps[rows % DISTINCT])

    write_store(folder, manifest=manifest, encode=encode)
    return FeatureStore(folder, read_manifest(folder), np.load(folder / ARRAY_FILE, mmap_mode="r"))


def first_items(store: FeatureStore, num_items: int) -> FeatureStore:
    """The same file as a store of fewer items, a whole number of blocks; nothing of it is verified yet."""
    checksums = store.manifest.checksums[: -(-num_items // BLOCK)]
    manifest = store.manifest.model_copy(update={"shape": (num_items, *MAP), "checksums": checksums})
    return FeatureStore(store.folder, manifest, store.maps[:num_items])


def fresh_tables(model: Pan, store: FeatureStore) -> CodeTables:
    """As a new process has them."""
    categories = torch.arange(len(store)) * len(model.shape.categories) // len(store)  # (N,) a category after another
    return CodeTables(ItemCoder(model, ItemInputs(store, categories, None, ImageConfig())), max_bytes=0)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain(model: Pan, inputs: ItemInputs, viewer: Tensor, rows: IntArray) -> Tensor:
    """Logits (n, D), one item at a time."""
    logits = []
    with torch.inference_mode():
        for row in rows.tolist():
            assert isinstance(inputs.source, FeatureStore)
            maps = torch.from_numpy(np.array(inputs.source.maps[row : row + 1])).float()  # (1, C, H, W)
            encoding = model.encode_items(maps, inputs.categories[row : row + 1], None, viewer[None])
            logits.append(encoding.image_logits)  # (1, D)
    return torch.cat(logits)


def multiply_adds(model: Pan, *, is_first: bool) -> int:
    """Of one item, in matrix products; with what no viewer changes, where the table is the process's first."""
    channels, places = MAP[0], MAP[1] * MAP[2]
    hidden, bits = model.config.model.image_hidden, model.config.model.code_bits
    encoder = channels * hidden + hidden * bits
    means = 2 * channels * places  # over channels, gated (Eq. 3); over places, gated (the head)
    convolution = 2 * places * places
    shared = 2 * 2 * channels * (channels // model.config.attention.reduction)  # Eq. 2's perceptron, twice
    return encoder + means + convolution + (shared if is_first else 0)


class Machine:
    """What the machine can do, by torch's threads: the best of what was measured."""

    def __init__(self) -> None:
        self.read_rate, self.product_rate = 0.0, 0.0

    def measure(self) -> None:
        """Bytes read a second, multiply-adds a second."""
        memory, factor = torch.ones(READ_BYTES // 4), torch.ones(PRODUCT_SIDE, PRODUCT_SIDE)
        for _ in range(ROUNDS):
            self.read_rate = max(self.read_rate, READ_BYTES / seconds(memory.sum))
            self.product_rate = max(self.product_rate, PRODUCT_SIDE**3 / seconds(lambda: factor @ factor))

    def ceiling(self, model: Pan, num_items: int, *, is_first: bool) -> float:
        """Seconds that a table of so many items takes at the least."""
        reading = num_items * 2 * int(np.prod(MAP)) / self.read_rate
        return max(reading, num_items * multiply_adds(model, is_first=is_first) / self.product_rate)


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """Anonymous memory of this process, MB, many times a second; nothing outside Linux."""
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            if (found := anonymous_mb()) is not None:
                seen.append(found)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def anonymous_mb() -> float | None:
    return _proc("/proc/self/status", "RssAnon:")


def _proc(path: str, name: str) -> float | None:
    """A number of kB there, in MB."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(name)]
    return int(found[0]) / 1024 if found else None


def forget(path: Path) -> None:
    """Take a file out of the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_to_read(path: Path) -> float:
    """Of a file that is on the disk alone, doing nothing with it. Not to be mapped yet, or it cannot be forgotten."""
    forget(path)
    buffer = bytearray(1 << 24)

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    return seconds(read)


def read_whole(store: FeatureStore) -> None:
    """Into the system's cache."""
    for first in range(0, len(store), 1024):
        np.array(store.maps[first : first + 1024])


def measure(work: Path, num_items: int) -> dict[str, Any]:
    """All figures; ``work`` is filled and emptied again."""
    model = build()
    with torch.no_grad():
        viewers = model.user_embeddings(torch.arange(1 + VIEWERS))  # (1 + VIEWERS, D)
    folder = work / "maps"
    try:
        store = write_maps(folder, num_items)
        disk_s = seconds_to_read(folder / ARRAY_FILE)
        forget(folder / ARRAY_FILE)
        available = _proc("/proc/meminfo", "MemAvailable:")
        fitting = num_items if available is None else int(FITTING * available * 2**20 / (2 * np.prod(MAP)))
        num_hot = num_items if fitting >= num_items else fitting // BLOCK * BLOCK
        cold_s = seconds(lambda: fresh_tables(model, store).table(viewers[0]))
        hot = first_items(store, num_hot)
        machine = Machine()
        machine.measure()
        read_whole(hot)
        tables = fresh_tables(model, hot)
        with watched_memory() as memory:
            first_s = seconds(lambda: tables.table(viewers[0]))
            later_s = [seconds(lambda viewer=viewer: tables.table(viewer)) for viewer in viewers[1:]]  # type: ignore[misc]
        machine.measure()
        rows = np.linspace(0, num_hot - 1, PLAIN_ITEMS).astype(np.int64)
        logits = plain(model, tables.coder.inputs, viewers[1], rows)  # warms up, and says the bits
        plain_s = seconds(lambda: plain(model, tables.coder.inputs, viewers[1], rows)) * num_hot / PLAIN_ITEMS
        differ = tables.packed(viewers[1], rows) ^ pack_codes(logits).numpy()  # (n, D / 8)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.with_name("maps.partial"), ignore_errors=True)
        (work / ".maps.lock").unlink(missing_ok=True)
    wrong = torch.from_numpy(np.unpackbits(differ, axis=1, bitorder="little")).bool()  # (n, D)
    assert not (wrong & (logits.abs() > 1e-4 * logits.abs().mean())).any(), "other bits than one item at a time"
    table_s = statistics.median(later_s)
    ceiling_s = machine.ceiling(model, num_hot, is_first=False)
    first_ceiling_s = machine.ceiling(model, num_hot, is_first=True)
    return {
        "case": f"a new viewer's whole table, {num_hot:,} items with stored 2048 x 7 x 7 float16 maps in memory",
        "ratio_to_plain": round(plain_s / table_s, 2),
        "share_of_ceiling": round(ceiling_s / table_s, 3),
        "target": TARGET_RATIO,
        "target_share": TARGET_SHARE,
        "target_anonymous_gb": TARGET_GB,
        "items": num_hot,
        "table_s": [round(each, 2) for each in later_s],
        "plain_s": round(plain_s, 2),
        "ceiling_s": round(ceiling_s, 2),
        "anonymous_mb": round(max(memory), 1) if memory else None,
        "bits_unlike_plain": int(wrong.sum()),
        "bits_compared": wrong.numel(),
        "first_of_process": {
            "table_s": round(first_s, 2),
            "ratio_to_plain": round(plain_s / first_s, 2),
            "share_of_ceiling": round(first_ceiling_s / first_s, 3),
        },
        "first_of_process_from_disk": {
            "items": num_items,
            "table_s": round(cold_s, 2),
            "only_reading_s": round(disk_s, 2),
        },
        "machine": {
            "read_gb_per_s": round(machine.read_rate / 1e9, 2),
            "giga_multiply_adds_per_s": round(machine.product_rate / 1e9, 2),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the maps are written, and removed again")
    parser.add_argument("--items", type=int, default=ITEMS)
    arguments = parser.parse_args()
    if arguments.items < BLOCK:
        parser.error(f"--items must be at least {BLOCK}")
    content = {**measure(arguments.work, arguments.items), **pedigree()}
    path = ROOT / "results" / "benchmarks" / "tables.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
