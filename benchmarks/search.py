"""Completing an outfit among packed codes: `CodeIndex` against a float32 matmul over unpacked codes and topk.

Both give the same ten items (checked here for every query; plain loops check the index in the tests). One query at a
time, tables ready, in turns; the ratio is of the medians of CPU seconds, with one torch thread and one of faiss's.
Queries are `completion_query`'s: a user and the other items of an outfit under Eq. 4 with trained-like weights.

    .venv/bin/python benchmarks/search.py               writes results/benchmarks/search*.json, one for each case
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.config import ModelConfig
from panfit.model.predictor import Predictor
from panfit.pedigree import peak_mb, pedigree
from panfit.search import CodeIndex, Found

ROOT = Path(__file__).resolve().parent.parent
TOP, QUERIES, WARM_UP = 10, 40, 3
TARGET_RATIO, TARGET_MS = 6.0, 5.0
"""Times faster than plain, and milliseconds a query, among a million items of 128 bits."""


@dataclass(frozen=True)
class Case:
    """One table and filter.

    Attributes:
        name: of the result file.
        num_items: n.
        code_bits: D.
        num_modalities: V.
        num_forbidden: items that must not be found.
        target: times faster than plain; None where nothing was promised.
    """

    name: str
    num_items: int
    code_bits: int = 128
    num_modalities: int = 1
    num_forbidden: int = 0
    target: float | None = None

    def __str__(self) -> str:
        bits = f"{self.num_modalities} x {self.code_bits}" if self.num_modalities > 1 else f"{self.code_bits}"
        forbidden = f", {self.num_forbidden:,} of them forbidden" if self.num_forbidden else ""
        return f"completion among {self.num_items:,} items of {bits} bits{forbidden}: best {TOP}, one query at a time"


CASES = (
    Case("search", 1_000_000, target=TARGET_RATIO),
    Case("search-two-modalities", 100_000, code_bits=512, num_modalities=2),
    Case("search-half-forbidden", 1_000_000, num_forbidden=500_000),
    Case("search-ten-forbidden", 1_000_000, num_forbidden=10),
)


def draw_queries(case: Case, generator: torch.Generator) -> NDArray[np.float32]:
    """(Q, V D) completion queries: the last of three slots is open, weights differ from bit to bit."""
    config = ModelConfig(code_bits=case.code_bits, score_scale=10.0)
    predictor = Predictor(config, torch.ones(3, 3, dtype=torch.bool).triu(1)).requires_grad_(False)
    for weight in (predictor.user_item_weight, predictor.item_item_weight):
        weight.copy_(1 + torch.randn(weight.shape, generator=generator) / 2)

    def signs(*shape: int) -> Tensor:
        return torch.randint(2, shape, generator=generator) * 2.0 - 1

    users = signs(QUERIES, case.code_bits)  # (Q, D)
    items = signs(QUERIES, 3, case.num_modalities, case.code_bits)  # (Q, S, V, D)
    query, _ = predictor.completion_query(users, items, torch.ones(QUERIES, 3, dtype=torch.bool), 2)
    return query.flatten(1).numpy()


def seconds(search: Callable[[], Found]) -> tuple[float, float, Found]:
    """CPU and wall-clock seconds of one search, and what it found."""
    start, start_cpu = time.perf_counter(), time.process_time()
    found = search()
    return time.process_time() - start_cpu, time.perf_counter() - start, found


def measure(case: Case) -> dict[str, Any]:
    """One case's result."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    num_bits = case.num_modalities * case.code_bits
    packed = rng.integers(0, 256, (case.num_items, num_bits // 8), dtype=np.uint8)  # (n, V D / 8)
    queries = draw_queries(case, generator)  # (Q, V D)
    allowed, bias = None, None
    if case.num_forbidden:
        allowed = np.ones(case.num_items, dtype=np.bool_)  # (n,)
        allowed[rng.permutation(case.num_items)[: case.num_forbidden]] = False
        bias = torch.where(torch.from_numpy(allowed), 0.0, -torch.inf)  # (n,) plain's filter, ready as its table is
    start = time.process_time()
    index = CodeIndex(packed)
    build_s = time.process_time() - start
    fast_peak_mb = peak_mb()
    codes = torch.from_numpy(np.unpackbits(packed, axis=1, bitorder="little")).float().mul_(2).sub_(1)  # (n, V D)

    def fast(query: NDArray[np.float32]) -> Found:
        return index.search(query[None], TOP, allowed=allowed)

    def plain(query: NDArray[np.float32]) -> Found:
        scores = codes @ torch.from_numpy(query)  # (n,)
        best = torch.topk(scores if bias is None else scores + bias, TOP)
        return Found(best.indices.numpy()[None], best.values.double().numpy()[None])

    times = []
    for query in queries:
        fast_cpu_s, fast_wall_s, found = seconds(partial(fast, query))
        plain_cpu_s, plain_wall_s, wanted = seconds(partial(plain, query))
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4)
        # float32 may swap rows whose scores agree to its last digit.
        assert set(found.rows[0].tolist()) == set(wanted.rows[0].tolist()), "the two ways differ"
        times.append((fast_cpu_s, fast_wall_s, plain_cpu_s, plain_wall_s))
    fast_ms, fast_wall_ms, plain_ms, plain_wall_ms = (
        statistics.median(column[WARM_UP:]) * 1e3 for column in zip(*times, strict=True)
    )
    return {
        "case": str(case),
        "ratio_to_plain": round(plain_ms / fast_ms, 2),
        "share_of_ceiling": None,
        "target": case.target,
        "fast_ms": round(fast_ms, 3),
        "plain_ms": round(plain_ms, 3),
        "fast_wall_ms": round(fast_wall_ms, 3),
        "plain_wall_ms": round(plain_wall_ms, 3),
        "target_ms": None if case.target is None else TARGET_MS,
        "build_s": round(build_s, 3),
        "queries": QUERIES,
        "fast_peak_mb": fast_peak_mb,
        **pedigree(),
    }


def main() -> None:
    for case in CASES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process of its own: peak memory is a process's
            content = pool.apply(measure, (case,))
        path = ROOT / "results" / "benchmarks" / f"{case.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
