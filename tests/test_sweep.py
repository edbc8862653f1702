"""A sweep gives the bits of encoding each item alone, in blocks of any size, with any number of threads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from panfit import sweep
from panfit.encode import ItemCoder
from panfit.errors import FeatureStoreError
from panfit.features.filling import write_store
from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.features.store import ARRAY_FILE, FeatureStore, Manifest, read_manifest
from panfit.model.hashing import pack_codes
from panfit.model.pan import Pan
from panfit.outfits import IntArray
from panfit.sweep import Sweep
from tests.test_scoring import NUM_ITEMS, OPTIONS, make

EVERY = np.arange(NUM_ITEMS)
QUERY: list[dict[str, dict[str, Any]]] = [
    {"attention": {"user_map": "query", "query_dim": 5}, "backbone": {"head": "mask"}},
]
BETA = 1.7


def eyes_of(model: Pan, user: int = 2) -> Tensor:
    with torch.no_grad():
        return model.eval().user_embeddings(torch.tensor([user]))[0]  # (D,)


def one_by_one(model: Pan, inputs: ItemInputs, viewer: Tensor) -> Tensor:
    """Logits (N, V, D) in float64, every item on its own from photo or map to logit."""
    exact = model.double().eval()
    logits = []
    with torch.no_grad():
        for row in EVERY:
            given = inputs.batch(np.array([row])).double()  # (1, ...)
            maps = given if inputs.input_shape == model.backbone.map_shape else exact.feature_maps(given)
            text = None if inputs.text is None else inputs.text[row : row + 1].double()
            category = inputs.categories[row : row + 1]
            encoding = exact.encode_items(maps, category, text, viewer[None].double(), beta=BETA)
            found = [encoding.image_logits, encoding.text_logits]
            logits.append(torch.stack([each for each in found if each is not None], dim=1))  # (1, V, D)
    model.float()
    return torch.cat(logits)


def check_bits(packed: np.ndarray, logits: Tensor) -> None:
    """Every bit is its logit's sign, unless the logit is zero within float32's rounding."""
    wanted = pack_codes(logits.sign()).flatten(1).numpy()
    assert packed.shape == wanted.shape
    assert packed.dtype == np.uint8
    differ = np.unpackbits(packed ^ wanted, axis=1, bitorder="little").astype(bool)  # (N, V * D)
    sure = logits.abs().flatten(1).numpy() > 2e-5 * logits.abs().mean().item()
    assert sure.mean() > 0.95, "a check of hardly anything"
    assert not (differ & sure).any()


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("options", OPTIONS + QUERY)
def test_bits_are_those_of_each_item_alone(options: dict[str, dict[str, Any]], text: bool) -> None:
    model, inputs = make(options, text=text)
    viewer = eyes_of(model)
    logits = one_by_one(model, inputs, viewer)
    assert len(np.unique(pack_codes(logits.sign()).flatten(1).numpy(), axis=0)) > NUM_ITEMS // 4
    numbers = int(np.prod(model.backbone.map_shape))
    for step, encoded, workers in [(1, 1, 1), (3, 8, 1), (5, 10, 3), (NUM_ITEMS, NUM_ITEMS, 2), (2, 7, 2)]:
        coder = ItemCoder(model, inputs, beta=BETA)
        swept = Sweep(coder, workers=workers, cache_numbers=step * numbers, encoded_items=encoded)
        check_bits(swept.packed(viewer, EVERY), logits)
        check_bits(swept.packed(viewer, EVERY), logits)  # from what was kept


def stored(tmp_path: Path, model: Pan, inputs: ItemInputs, *, block_items: int = 4) -> ItemInputs:
    """The same items as float16 maps in a feature store."""
    with torch.no_grad():
        maps = model.eval().feature_maps(inputs.batch(EVERY)).half().numpy()  # (N, C, H, W)
    manifest = Manifest(
        extractor="small",
        dataset="tests",
        dataset_checksum="",
        items="",
        shape=maps.shape,
        dtype="float16",
        block_items=block_items,
    )

    def encode(rows: IntArray) -> np.ndarray:
        return np.asarray(maps[rows])

    write_store(tmp_path / "maps", manifest=manifest, encode=encode)
    array = np.load(tmp_path / "maps" / ARRAY_FILE, mmap_mode="r")
    store = FeatureStore(tmp_path / "maps", read_manifest(tmp_path / "maps"), array)
    return ItemInputs(store, inputs.categories, inputs.text, inputs.images)


def test_stored_and_kept_maps(tmp_path: Path) -> None:
    model, inputs = make()
    viewer = eyes_of(model)
    of_store = stored(tmp_path, model, inputs)
    assert isinstance(of_store.source, FeatureStore)
    logits = one_by_one(model, of_store, viewer)
    kept = ItemInputs(KeptMaps(np.array(of_store.source.maps), None), inputs.categories, inputs.text, inputs.images)
    for given in (of_store, kept):
        numbers = int(np.prod(given.input_shape))
        swept = Sweep(ItemCoder(model, given, beta=BETA), workers=2, cache_numbers=3 * numbers, encoded_items=7)
        check_bits(swept.packed(viewer, EVERY), logits)
        some = np.array([0, 1, 2, 5, 9, 10, 21])
        check_bits(swept.packed(viewer, some), logits[torch.from_numpy(some)])


def test_a_damaged_map_is_told_from_a_thread_too(tmp_path: Path) -> None:
    model, inputs = make()
    of_store = stored(tmp_path, model, inputs)
    path = tmp_path / "maps" / ARRAY_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    swept = Sweep(ItemCoder(model, of_store), workers=2, encoded_items=7, cache_numbers=1)
    before = torch.get_num_threads()
    with pytest.raises(FeatureStoreError, match="items 20 to 21 do not match their checksum"):
        swept.packed(eyes_of(model), EVERY)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("half_bytes", [1 << 30, 0])
def test_what_no_viewer_changes_is_made_once(half_bytes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, inputs = make()
    of_store = stored(tmp_path, model, inputs)
    monkeypatch.setattr(sweep, "HALF_BYTES", half_bytes)
    halves, texts = [], []
    item_half, encode_text = model.attention.item_half, model.encode_text

    def counted_half(maps: Tensor) -> Any:
        halves.append(len(maps))
        return item_half(maps)

    def counted_text(categories: Tensor, text: Tensor | None) -> Tensor | None:
        texts.append(len(categories))
        return encode_text(categories, text)

    monkeypatch.setattr(model.attention, "item_half", counted_half)
    monkeypatch.setattr(model, "encode_text", counted_text)
    swept = Sweep(ItemCoder(model, of_store), workers=1, encoded_items=9, cache_numbers=1)
    found = [swept.packed(eyes_of(model, user), EVERY) for user in (1, 4)]
    times = 1 if half_bytes else 2
    assert sum(halves) == sum(texts) == times * NUM_ITEMS
    assert (found[0] != found[1]).any()
    fresh = Sweep(ItemCoder(model, of_store), workers=1, encoded_items=9, cache_numbers=1)
    np.testing.assert_array_equal(fresh.packed(eyes_of(model, 4), EVERY), found[1])


def test_progress_and_no_items() -> None:
    model, inputs = make()
    told: list[tuple[int, int]] = []
    swept = Sweep(ItemCoder(model, inputs), workers=2, encoded_items=8, cache_numbers=1)
    swept.packed(eyes_of(model), EVERY, progress=lambda done, total: told.append((done, total)))
    trunk, codes = [(NUM_ITEMS, NUM_ITEMS)], [(done, NUM_ITEMS) for done in (4, 12, 20, NUM_ITEMS)]  # out of step
    assert told == trunk + codes
    assert swept.packed(eyes_of(model), EVERY[:0]).shape == (0, 6)


def test_leaves_model_and_threads_as_they_were() -> None:
    model, inputs = make({"model": {"code_norm": "batch", "dropout": 0.3}})
    viewer = eyes_of(model)
    model.train()
    before = torch.get_num_threads()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    swept = Sweep(ItemCoder(model, inputs), workers=2, encoded_items=8, cache_numbers=1)
    first = swept.packed(viewer, EVERY)
    assert model.training
    np.testing.assert_array_equal(swept.packed(viewer, EVERY), first)  # no dropout
    assert torch.get_num_threads() == before
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=0)
