"""SWEEP: one viewer, many items in the catalogue's order -> packed codes, at the speed of the machine's memory.

Where `ItemCoder` serves many viewers of few items, a sweep serves one viewer of all: maps are read in order, a few at
a time, so that what is done to them is done in the cache; the encoders, whose weights are larger than the cache, see
thousands at a time. Each worker is one thread with one torch thread: that keeps a core's cache to itself. Equations
stay in panfit.model. Never imports train.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.encode import BATCH_PAIRS, ItemCoder, Progress, device_of, evaluating
from panfit.features.store import is_stretch
from panfit.model.attention import IdentityAttention, ItemHalf, ViewerHalf
from panfit.model.hashing import BITS_PER_BYTE, hash_code, pack_codes
from panfit.model.pan import stack_logits
from panfit.model.views import Views, lay_out_one
from panfit.outfits import IntArray

Packed = NDArray[np.uint8]

CACHE_NUMBERS = 5 << 18
"""Numbers of the maps that are worked on at a time: 5 MiB, which stays in a core's share of the cache."""
ENCODED_NUMBERS = 1 << 22
"""Numbers of the features that are encoded at a time: 16 MiB."""
ENCODED_ITEMS = 2048
"""Items that are encoded at a time, at most."""
HALF_BYTES = 1 << 30
"""What no viewer changes (`panfit.model.attention.ItemHalf`) is kept if all items' fit into this; else made again."""


class Sweep:
    """Makes packed codes of many items as one viewer sees them.

    Args:
        coder: whose model, items and beta.
        workers: threads; None: as many as torch uses where `packed` is called.
        cache_numbers: see `CACHE_NUMBERS`.
        encoded_items: see `ENCODED_ITEMS`.
    """

    def __init__(
        self,
        coder: ItemCoder,
        *,
        workers: int | None = None,
        cache_numbers: int = CACHE_NUMBERS,
        encoded_items: int = ENCODED_ITEMS,
    ) -> None:
        self.coder = coder
        self._workers = workers
        channels, height, width = coder.model.backbone.map_shape
        on_cpu = device_of(coder.model).type == "cpu"
        # Items whose maps are worked on at a time; elsewhere there is no such cache to stay in.
        self._step = max(1, cache_numbers // (channels * height * width)) if on_cpu else BATCH_PAIRS
        self._task = max(self._step, min(encoded_items, ENCODED_NUMBERS // coder.model.backbone.head_dim))
        self._halves = _Halves(coder)
        self._threads: tuple[tuple[int, int], ThreadPoolExecutor] | None = None

    def packed(self, viewer: Tensor, items: IntArray, *, progress: Progress | None = None) -> Packed:
        """Packed codes (n, V * D / 8) of items (n,), distinct and rising, as the embedding (D,) sees them.

        The same bits in blocks of any size with any number of workers, but where a logit is zero within rounding.
        """
        coder = self.coder
        packed: list[Packed] = []
        num_threads = torch.get_num_threads()
        tasks = self._tasks(items, num_threads if self._workers is None else self._workers)
        workers = min(num_threads if self._workers is None else self._workers, len(tasks))
        with evaluating(coder.model):
            coder.maps.keep(items, progress=progress)
            eyes = self._eyes(viewer)
            if workers < 2 or device_of(coder.model).type != "cpu":
                for task in tasks:
                    packed.append(self._codes(eyes, task))
                    _tell(progress, packed, items)
                return _joined(packed, self.num_bytes)
            waiting = [self._pool(workers).submit(self._codes, eyes, task) for task in tasks]
            try:
                for codes in waiting:
                    packed.append(codes.result())
                    _tell(progress, packed, items)
            finally:
                for each in waiting:
                    each.cancel()
                wait(waiting)
                torch.set_num_threads(num_threads)  # a worker's 1 is its own, but new threads would start with it too
        return _joined(packed, self.num_bytes)

    def _tasks(self, items: IntArray, workers: int) -> list[IntArray]:
        """Items (n,) -> runs of them, each (t,). The first ones grow, so that workers are not all at the same stage.

        While one encodes, the other works on maps: they want neither the same memory nor Python's lock at once.
        """
        sizes = [max(self._step, self._task * (worker + 1) // workers) for worker in range(workers)]
        ends = np.cumsum(sizes)
        ends = np.concatenate([ends, np.arange(ends[-1] + self._task, len(items) + self._task, self._task)])
        return [part for part in np.split(items, ends[ends < len(items)]) if len(part)]

    def _pool(self, workers: int) -> ThreadPoolExecutor:
        """Threads that stay: each keeps its part of the memory allocator, which new ones would fill anew."""
        made_for = workers, os.getpid()  # a forked process has none of its parent's threads
        if self._threads is None or self._threads[0] != made_for:
            pool = ThreadPoolExecutor(workers, "sweep", initializer=torch.set_num_threads, initargs=(1,))
            self._threads = made_for, pool
        return self._threads[1]

    @property
    def num_bytes(self) -> int:
        """V * D / 8, of one item's code."""
        model = self.coder.model
        return (1 if model.text_encoder is None else 2) * model.config.model.code_bits // BITS_PER_BYTE

    def _eyes(self, viewer: Tensor) -> "_Eyes":
        half = self.coder.model.attention.viewer_half(viewer[None, None], beta=self.coder.beta)
        return _Eyes(half, lay_out_one(viewer, self._step))

    def _codes(self, eyes: "_Eyes", items: IntArray) -> Packed:
        """The packed codes of one task's items (t,) -> (t, V * D / 8)."""
        model, inputs = self.coder.model, self.coder.inputs
        with torch.inference_mode():  # of this thread
            blocks = [items[first : first + self._step] for first in range(0, len(items), self._step)]  # each (n,)
            features = torch.empty(len(items), model.backbone.head_dim, device=device_of(model))  # (t, E)
            maps = torch.empty(self._step, *model.backbone.map_shape, device=device_of(model))  # (step, C, H, W)
            for place, block in zip(range(0, len(items), self._step), blocks, strict=True):
                features[place : place + len(block)] = self._features(eyes, block, maps[: len(block)])
            categories = inputs.categories[torch.from_numpy(items)].to(features.device)  # (t,)
            image_logits = model.image_encoder(features, categories)  # (t, D)
            logits = stack_logits(image_logits, self._halves.text_logits(items, categories))  # (t, V, D)
            return pack_codes(hash_code(logits, binary=True)).flatten(1).cpu().numpy()

    def _features(self, eyes: "_Eyes", items: IntArray, maps: Tensor) -> Tensor:
        """What the image encoder is given of items (n,) -> (n, E); ``maps`` (n, C, H, W) is written to, twice."""
        self.coder.maps.take(items, out=maps)
        half = self._halves.item_half(items, maps)
        views = eyes.views if len(items) == self._step else lay_out_one(eyes.views.users[0, 0], len(items))
        features, _ = self.coder.model.view_features(maps, half, eyes.half, views, alone=True)
        return features


@dataclass(frozen=True, eq=False)
class _Eyes:
    """One viewer, and how he looks at as many items as are worked on at a time."""

    half: ViewerHalf
    views: Views


class _Halves:
    """What no viewer changes of the items seen so far: the item's half of attention, and the text logits."""

    def __init__(self, coder: ItemCoder) -> None:
        self._coder = coder
        self._kept: dict[str, _Rows] = {}
        self._lock = threading.Lock()

    def item_half(self, items: IntArray, maps: Tensor) -> ItemHalf:
        """The halves of items (n,) whose maps are (n, C, H, W)."""
        attention = self._coder.model.attention
        if isinstance(attention, IdentityAttention):
            return attention.item_half(maps)
        channel = self._find("channel", items)
        if channel is not None:
            return ItemHalf(channel, self._find("keys", items))
        half = attention.item_half(maps)
        if half.keys is not None:
            self._keep("keys", items, half.keys)
        self._keep("channel", items, half.channel)  # last: where it is found, the keys are
        return half

    def text_logits(self, items: IntArray, categories: Tensor) -> Tensor | None:
        """Text logits (n, D) of items (n,) in categories (n,); None without text branch."""
        model, text = self._coder.model, self._coder.inputs.text
        logits = self._find("text", items)
        if logits is None:
            rows = None if text is None else text[torch.from_numpy(items)].to(categories.device)  # (n, T)
            logits = model.encode_text(categories, rows)
            if logits is not None:
                self._keep("text", items, logits)
        return logits

    def _find(self, name: str, items: IntArray) -> Tensor | None:
        """(n, ...) what is kept of items (n,), rising, if it is kept of all."""
        rows = self._kept.get(name)
        if rows is None or items[-1] >= len(rows.is_made) or not rows.is_made[items].all():
            return None
        if is_stretch(items):
            return rows.values[items[0] : items[-1] + 1]
        return rows.values[torch.from_numpy(items)]

    def _keep(self, name: str, items: IntArray, values: Tensor) -> None:
        num_items = len(self._coder.inputs)
        if num_items * values[0].numel() * values.element_size() > HALF_BYTES:
            return
        with self._lock:
            if name not in self._kept:
                self._kept[name] = _Rows(values.new_empty(0, *values.shape[1:]), np.zeros(0, dtype=np.bool_))
            rows = self._kept[name] = self._kept[name].of_length(num_items)
        rows.values[torch.from_numpy(items)] = values
        rows.is_made[items] = True


@dataclass(frozen=True, eq=False)
class _Rows:
    """A row (...) for each item, (N, ...), and whether it is there, (N,)."""

    values: Tensor
    is_made: NDArray[np.bool_]

    def of_length(self, num_items: int) -> "_Rows":
        more = num_items - len(self.values)
        if not more:
            return self
        values = self.values.new_empty(num_items, *self.values.shape[1:])  # (N, ...) costs no memory until written
        values[: len(self.values)] = self.values
        return _Rows(values, np.concatenate([self.is_made, np.zeros(more, dtype=np.bool_)]))


def _tell(progress: Progress | None, packed: list[Packed], items: IntArray) -> None:
    if progress is not None:
        progress(sum(map(len, packed)), len(items))


def _joined(packed: list[Packed], num_bytes: int) -> Packed:
    return np.concatenate([np.zeros((0, num_bytes), dtype=np.uint8), *packed])
