"""ENCODE: items, as somebody sees them -> codes, in bounded memory. The trunk runs once on each item.

Who looks is an embedding f_u (PAN Eq. 1), not a row of the model: users of the model, newcomers and taste prototypes
are encoded alike. Never imports train.
"""

import ctypes
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.features.store import FeatureStore, is_stretch
from panfit.model.hashing import hash_code
from panfit.model.pan import Pan
from panfit.outfits import ABSENT, IntArray

FloatArray = NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with (items done, items in all), where the trunk has to run once for its part and again for the codes'."""
MapDtype = Literal["auto", "float32", "float16"]

BATCH_ITEMS = 64
"""Items whose map the trunk computes at a time."""
BATCH_PAIRS = 512
"""(item, viewer) pairs encoded at a time: each needs its map gathered."""
FLOAT32_MAP_BYTES = 2 << 30
"""Kept maps beyond this size are kept as float16."""


class ItemCoder:
    """Encodes items as given eyes see them, with a model that stays as it is.

    The maps of the items seen are kept, so a coder belongs to one state of the model's weights: after a training step,
    make a new one. The model is put into evaluation mode for each call, and back.

    Args:
        model: on any device.
        inputs: the items. Photos, or stored maps; or the maps of this model's own trunk, which is then not run again.
        beta: of the relaxed codes tanh(beta x) (decision D7): as trained.
        batch_items: items the trunk sees at a time.
        batch_pairs: (item, viewer) pairs encoded at a time.
        map_dtype: how kept maps are stored; "auto": float32, or float16 where that would take more than 2 GiB.

    Raises:
        ValueError: inputs of another shape than the model's.
    """

    def __init__(
        self,
        model: Pan,
        inputs: ItemInputs,
        *,
        beta: float = 1.0,
        batch_items: int = BATCH_ITEMS,
        batch_pairs: int = BATCH_PAIRS,
        map_dtype: MapDtype = "auto",
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.beta = beta
        self.maps = ItemMaps(model, inputs, batch_items=batch_items, dtype=map_dtype)
        self._batch_pairs = batch_pairs

    def extend(self, inputs: ItemInputs) -> None:
        """Take inputs that have more items behind those known so far (`ItemInputs.extended`); all that is kept stays.

        Raises:
            ValueError: fewer items than before, or of another shape.
        """
        self.maps.extend(inputs)
        self.inputs = inputs

    def fingerprint(self) -> str:
        """What tells this coder's binary codes from another's: of all weights and settings that make them.

        The user table is left out: who looks is given as an embedding. So are paths, and beta, except where the user's
        relaxed code is what attention is given (decision D1).
        """
        model, config = self.model, self.model.config
        steep = config.attention.kind != "none" and config.attention.user_input == "code"
        told = {
            "attention": config.attention.model_dump(mode="json"),
            "model": config.model.model_dump(mode="json"),
            "backbone": config.backbone.model_dump(mode="json", exclude={"weights", "store"}),
            "trunk": model.trunk_config,
            "shape": model.shape.model_dump(mode="json", exclude={"num_users", "num_items"}),
            "maps": self.maps.dtype,
            "beta": self.beta if steep else None,
        }
        digest = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(model.state_dict().items()):
            if name != "beta" and not name.startswith("user_encoder."):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def codes(self, eyes: Tensor, pair_eyes: IntArray, pair_items: IntArray, *, binary: bool) -> Tensor:
        """Codes (P, V, D) of the items (P,), each as seen by the pair of eyes beside it.

        Args:
            eyes: (U, D) embeddings f_u.
            pair_eyes: (P,) rows of ``eyes``.
            pair_items: (P,) item rows, in any order.
            binary: codes in {-1, +1}, or relaxed ones.
        """
        with evaluating(self.model):
            order = np.lexsort((pair_eyes, pair_items))  # (P,) by item: a block of pairs then needs few maps
            (codes,) = self.sorted_codes(eyes, pair_eyes[order], pair_items[order], kinds=(binary,))  # (P, V, D)
            return codes[torch.from_numpy(np.argsort(order)).to(codes.device)]

    def sorted_codes(
        self, eyes: Tensor, pair_eyes: IntArray, pair_items: IntArray, *, kinds: Sequence[bool]
    ) -> list[Tensor]:
        """`codes` of pairs that come sorted by item; for each kind, binary where True, and encoded once for all."""
        model = self.model
        blocks: list[list[Tensor]] = [[] for _ in kinds]
        with evaluating(model):
            self.maps.keep(np.unique(pair_items))
            for first in range(0, len(pair_items), self._batch_pairs):
                block = slice(first, first + self._batch_pairs)
                distinct, of_pair = np.unique(pair_items[block], return_inverse=True)  # (n,), (p,)
                rows = torch.from_numpy(distinct)  # (n,)
                encoding = model.encode_pairs(
                    self.maps.take(distinct),  # (n, C, H, W)
                    self.inputs.categories[rows].to(device_of(model)),
                    None if self.inputs.text is None else self.inputs.text[rows].to(device_of(model)),
                    pair_items=to_device(of_pair, model),
                    user_embedding=eyes.index_select(0, to_device(pair_eyes[block], model)),
                    beta=self.beta,
                )
                for codes, binary in zip(blocks, kinds, strict=True):
                    codes.append(model.item_codes(encoding, beta=self.beta, binary=binary))  # (p, V, D)
        return [torch.cat(codes) for codes in blocks]

    def viewer_codes(self, eyes: Tensor, *, binary: bool) -> Tensor:
        """Embeddings (U, D) -> the viewers' own codes b_u (U, D)."""
        with torch.inference_mode():
            return hash_code(eyes, beta=self.beta, binary=binary)


class ItemMaps:
    """Maps of the items seen so far, each computed once. Stored maps are not kept a second time."""

    def __init__(self, model: Pan, inputs: ItemInputs, *, batch_items: int = BATCH_ITEMS, dtype: str = "auto") -> None:
        self._model, self._inputs, self._batch_items = model, inputs, batch_items
        map_shape = model.backbone.map_shape
        self._are_maps = _are_maps(model, inputs)
        if dtype == "auto":
            num_bytes = 4 * len(inputs) * int(np.prod(map_shape))
            dtype = "float32" if num_bytes <= FLOAT32_MAP_BYTES else "float16"
        self._maps = torch.empty(0, *map_shape, dtype={"float32": torch.float32, "float16": torch.float16}[dtype])
        self._place = np.full(len(inputs), ABSENT, dtype=np.int64)  # (N,) row of ``_maps``, -1 where there is none yet
        self._lent: tuple[FeatureStore, Tensor] | None = None  # a store, and its file as a tensor

    @property
    def dtype(self) -> str:
        """What maps that the trunk made are kept as; "" where the inputs are maps."""
        return "" if self._are_maps else str(self._maps.dtype).removeprefix("torch.")

    def extend(self, inputs: ItemInputs) -> None:
        """See `ItemCoder.extend`."""
        more = len(inputs) - len(self._inputs)
        if more < 0 or _are_maps(self._model, inputs) != self._are_maps:
            raise ValueError(f"{len(inputs)} inputs of {inputs.input_shape} do not go on from {len(self._inputs)}")
        self._inputs = inputs
        self._place = np.concatenate([self._place, np.full(more, ABSENT, dtype=np.int64)])

    def keep(self, items: IntArray, *, progress: Progress | None = None) -> None:
        """Run the trunk on those of the items (n,), distinct, that it has not seen."""
        if self._are_maps:
            return
        new = items[self._place[items] == ABSENT]
        if not len(new):
            return
        old = len(self._maps)
        maps = self._maps.new_empty(old + len(new), *self._maps.shape[1:])  # (n, C, H, W)
        maps[:old] = self._maps
        for first in range(0, len(new), self._batch_items):
            rows = new[first : first + self._batch_items]
            inputs = self._inputs.batch(rows).to(device_of(self._model))
            maps[old + first : old + first + len(rows)] = self._model.feature_maps(inputs)
            if progress is not None:
                progress(first + len(rows), len(new))
        self._maps = maps
        self._place[new] = old + np.arange(len(new))

    @property
    def num_items(self) -> int:
        """N."""
        return len(self._inputs)

    @property
    def num_bytes(self) -> int:
        """Of all items' maps, once they are kept; 0 where the inputs are maps."""
        one = int(np.prod(self._maps.shape[1:])) * self._maps.element_size()
        return 0 if self._are_maps else len(self._inputs) * one

    @property
    def is_whole(self) -> bool:
        """Whether every item's map is kept."""
        return bool((self._place != ABSENT).all())

    def as_bytes(self) -> NDArray[np.uint8]:
        """(N, b) all maps' bytes, in the items' order."""
        maps: NDArray[Any] = self._maps[torch.from_numpy(self._place)].numpy()  # (N, C, H, W)
        return maps.reshape(len(maps), -1).view(np.uint8)

    def put(self, items: IntArray, rows: NDArray[np.uint8]) -> None:
        """Keep maps that were made before: items (n,), their maps' bytes (n, b). Those of all items are not copied."""
        dtype, shape = self.dtype, self._maps.shape[1:]
        maps = torch.from_numpy(np.asarray(rows).view(dtype).reshape(len(rows), *shape))  # (n, C, H, W)
        if len(items) == len(self._inputs):
            self._maps, self._place = maps, np.argsort(items)
            return
        new = self._place[items] == ABSENT  # (n,)
        old = len(self._maps)
        self._maps = torch.cat([self._maps, maps[torch.from_numpy(new)]])
        self._place[items[new]] = old + np.arange(int(new.sum()))

    def take(self, items: IntArray, *, out: Tensor | None = None) -> Tensor:
        """Maps (n, C, H, W) float32 of items (n,) that were kept, on the model's device; in ``out`` if it is given."""
        maps = self._stored(items) if self._are_maps else self._maps[torch.from_numpy(self._place[items])]
        return maps.to(device_of(self._model), torch.float32) if out is None else out.copy_(maps)

    def _stored(self, items: IntArray) -> Tensor:
        """Maps (n, C, H, W) of items (n,) as they are stored: torch widens float16 far faster than numpy."""
        source = self._inputs.source
        if isinstance(source, FeatureStore) and is_stretch(items) and items[-1] < len(source):
            first, last = int(items[0]), int(items[-1])
            source.verify_rows(first, last)
            if self._lent is None or self._lent[0] is not source:
                self._lent = source, _borrowed(source.maps)
            return self._lent[1][first : last + 1]
        if isinstance(source, FeatureStore | KeptMaps):
            return torch.from_numpy(self._inputs.raw(items))
        return self._inputs.batch(items)


def _borrowed(rows: NDArray[Any]) -> Tensor:
    """A tensor on the memory of ``rows``, which must outlive it. Only to be read.

    torch.from_numpy warns of read-only memory, such as a memory map's; a copy of it would cost as much as the reading.
    """
    memory = (ctypes.c_uint8 * rows.nbytes).from_address(rows.ctypes.data)
    return torch.frombuffer(memory, dtype=getattr(torch, rows.dtype.name)).view(rows.shape)


def _are_maps(model: Pan, inputs: ItemInputs) -> bool:
    """Whether inputs are the trunk's maps; if they are not even what it takes, ValueError.

    A frozen trunk's maps can take the photos' place; the model itself still says that it takes photos.
    """
    if inputs.input_shape == model.backbone.map_shape:
        return True
    if inputs.input_shape != model.shape.input_shape:
        raise ValueError(f"inputs of shape {inputs.input_shape} for a model of {model.shape.input_shape}")
    return False


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode and records no gradients; after, each of its modules is as before."""
    was_training = [module for module in _modules(model) if module.training]
    try:
        if was_training:  # else there is nothing to do, and a trunk has many modules
            model.eval()
        with torch.inference_mode():
            yield
    finally:
        for module in was_training:
            module.training = True


def _modules(model: nn.Module) -> list[nn.Module]:
    """All of a model's modules, some perhaps twice: `nn.Module.modules` makes a name for each, which takes long."""
    found = [model]
    for module in found:  # it grows
        found += [child for child in module._modules.values() if child is not None]
    return found


def to_device(rows: IntArray, model: nn.Module) -> Tensor:
    """Rows (...) as a tensor where the model is."""
    return torch.from_numpy(np.ascontiguousarray(rows)).to(device_of(model))


def device_of(model: nn.Module) -> torch.device:
    """Where the model computes."""
    return next(model.parameters()).device
