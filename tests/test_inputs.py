"""ItemInputs: photos and stored maps behind one door, by item row; and `extract_features`, which makes the maps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panfit.config import Config, TextConfig
from panfit.data.folder import read_dataset, write_dataset
from panfit.errors import ConfigError, DataError, FeatureStoreError
from panfit.features.extract import extract_features
from panfit.features.images import augment, fit_photo, normalize, open_photo, photo_array, photo_paths
from panfit.features.inputs import ItemInputs, KeptMaps, build_inputs
from panfit.model.backbone import build_backbone
from panfit.outfits import Dataset
from tests.photos import tiny_config, with_photos

STORED = {"backbone": {"source": "stored", "store": "maps"}}


@pytest.fixture
def shop(tiny_dataset: Dataset, tmp_path: Path) -> Dataset:
    (tmp_path / "photos").mkdir()
    (tmp_path / "dataset").mkdir()
    return replace(with_photos(tiny_dataset, tmp_path / "photos"), folder=tmp_path / "dataset")


@pytest.fixture
def inputs(shop: Dataset) -> ItemInputs:
    return build_inputs(shop, tiny_config())


def test_photos_come_normalized_by_row(shop: Dataset, inputs: ItemInputs) -> None:
    assert inputs.kind == "images"
    assert inputs.input_shape == (3, 16, 16)
    assert len(inputs) == 72
    rows = np.array([71, 0, 30, 30])
    batch = inputs.batch(rows)
    photos = np.array(photo_array(shop, tiny_config().images)[rows])
    torch.testing.assert_close(batch, normalize(torch.from_numpy(photos)), rtol=0, atol=0)
    assert batch.dtype == torch.float32
    assert inputs.batch(np.array([], dtype=np.int64)).shape == (0, 3, 16, 16)


def test_photos_are_augmented_only_with_a_generator(inputs: ItemInputs) -> None:
    rows = np.arange(40)
    plain = inputs.batch(rows)
    torch.testing.assert_close(inputs.batch(rows), plain, rtol=0, atol=0)
    augmented = inputs.batch(rows, generator=torch.Generator().manual_seed(5))
    photos = torch.from_numpy(np.array(inputs.source[rows]))  # type: ignore[index]
    wanted = normalize(augment(photos, inputs.images, torch.Generator().manual_seed(5)))
    torch.testing.assert_close(augmented, wanted, rtol=0, atol=0)
    assert not torch.equal(augmented, plain)


def test_categories_and_text(shop: Dataset, inputs: ItemInputs) -> None:
    assert inputs.categories.tolist() == [0] * 30 + [1] * 24 + [2] * 18
    assert inputs.categories.dtype == torch.int64
    assert inputs.text is not None
    assert inputs.text.shape == (72, 12)
    assert inputs.text.dtype == torch.float32
    assert build_inputs(shop, tiny_config(text={"source": "none"})).text is None


@pytest.mark.parametrize("rows", [[-1], [72], [[0, 1]]])
def test_rows_beyond_the_catalogue_are_refused(inputs: ItemInputs, rows: list[int]) -> None:
    with pytest.raises(ValueError, match="rows must be"):
        inputs.batch(np.array(rows))


def test_columns_of_differing_length_are_refused(inputs: ItemInputs) -> None:
    with pytest.raises(ValueError, match="differ in length"):
        replace(inputs, categories=inputs.categories[1:])


# ---- stored maps


@pytest.fixture
def extracted(shop: Dataset) -> Dataset:
    extract_features(shop, tiny_config(), name="maps")
    return shop


def test_the_store_holds_the_trunks_maps(extracted: Dataset) -> None:
    config = tiny_config()
    maps = build_inputs(extracted, tiny_config(**STORED))
    backbone = build_backbone(config.backbone, (3, 16, 16), generator=torch.Generator().manual_seed(config.seed)).eval()
    assert maps.kind == "maps"
    assert maps.input_shape == backbone.map_shape
    rows = np.array([50, 3, 3])
    with torch.no_grad():
        wanted = backbone.feature_map(build_inputs(extracted, config).batch(rows))
    batch = maps.batch(rows, generator=torch.Generator())
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch, wanted, rtol=2e-3, atol=2e-3)


def test_maps_need_no_photos(extracted: Dataset) -> None:
    bare = replace(extracted, catalogue=replace(extracted.catalogue, images=(None,) * 72))
    assert len(build_inputs(bare, tiny_config(**STORED))) == 72
    with pytest.raises(DataError, match="72 of 72 items have no photo"):
        build_inputs(bare, tiny_config())


def test_the_manifest_tells_weights_and_preparation_apart(extracted: Dataset) -> None:
    for other in (
        Config.parse({**tiny_config().model_dump(), "seed": 1}),
        tiny_config(images={"size": 24}),
        tiny_config(images={"fit": "pad"}),
    ):
        with pytest.raises(FeatureStoreError, match="another store is there"):
            extract_features(extracted, other, name="maps")
    again = extract_features(extracted, tiny_config(), name="maps")
    assert again.manifest.extractor == "small"
    assert again.manifest.preparation == "16 px, squash"


def test_bad_photos_are_all_told(shop: Dataset) -> None:
    for row in (4, 60):
        (shop.catalogue.image_root / f"{row}.png").write_bytes(b"no photo")
    with pytest.raises(DataError) as caught:
        extract_features(shop, tiny_config(), name="maps")
    assert [Path(problem.file).name for problem in caught.value.problems] == ["4.png", "60.png"]


def test_another_trunks_maps_are_refused(extracted: Dataset) -> None:
    config = tiny_config(backbone={"name": "resnet50", "source": "stored", "store": "maps"})
    with pytest.raises(FeatureStoreError, match=r"made by 'small', but backbone\.name says 'resnet50'"):
        build_inputs(extracted, config)


@pytest.mark.parametrize("name", ["../maps", "a/b", "..", "", ".hidden"])
def test_a_stores_name_does_not_lead_elsewhere(shop: Dataset, name: str) -> None:
    with pytest.raises(FeatureStoreError, match="one plain word"):
        extract_features(shop, tiny_config(), name=name)


def test_maps_of_a_data_set_without_a_folder_or_a_store(shop: Dataset) -> None:
    with pytest.raises(FeatureStoreError, match="in memory"):
        build_inputs(replace(shop, folder=None), tiny_config(**STORED))
    with pytest.raises(FeatureStoreError, match="panfit features"):
        build_inputs(shop, tiny_config(**STORED))
    with pytest.raises(ConfigError, match="from photos"):
        extract_features(shop, tiny_config(**STORED), name="other")


# ---- maps that a frozen trunk keeps in memory


def test_kept_maps_come_mirrored_about_half_the_time_with_a_generator(inputs: ItemInputs) -> None:
    maps = np.arange(72, dtype=np.float16)[:, None, None, None] * np.ones((5, 3, 2), np.float16)
    kept = replace(inputs, source=KeptMaps(maps, -maps))
    assert (kept.kind, kept.input_shape, len(kept)) == ("kept", (5, 3, 2), 72)
    rows = np.array([9, 1, 1, 70])
    np.testing.assert_array_equal(kept.batch(rows).numpy(), maps[rows].astype(np.float32))
    rows = np.tile(np.arange(1, 72), 4)
    values = kept.batch(rows, generator=torch.Generator().manual_seed(3)).numpy()
    np.testing.assert_array_equal(np.abs(values), maps[rows])
    assert 0.4 < (values[:, 0, 0, 0] < 0).mean() < 0.6
    plain = replace(inputs, source=KeptMaps(maps, None))
    np.testing.assert_array_equal(plain.batch(rows, generator=torch.Generator()).numpy(), maps[rows])


def test_maps_are_widened_as_numpy_widens_them(inputs: ItemInputs) -> None:
    rng = np.random.default_rng(3)
    maps, mirrored = (rng.normal(size=(72, 5, 3, 2)).astype(np.float16) for _ in range(2))
    maps[7, 0, 0, 0], maps[8, 0, 0, 0] = 6e-8, np.float16(65504)  # the least and the greatest that float16 has
    kept = replace(inputs, source=KeptMaps(maps, mirrored))
    rows = np.array([8, 70, 7, 7, 0])
    np.testing.assert_array_equal(kept.batch(rows).numpy(), maps[rows].astype(np.float32))
    turned = torch.rand(5, generator=torch.Generator().manual_seed(1)) < 0.5
    slow = np.stack(
        [(mirrored if flip else maps)[row].astype(np.float32) for row, flip in zip(rows, turned, strict=True)]
    )
    np.testing.assert_array_equal(kept.batch(rows, generator=torch.Generator().manual_seed(1)).numpy(), slow)
    assert kept.batch(rows, device="meta").device.type == "meta"


def test_extraction_in_threads_is_extraction_one_by_one(shop: Dataset) -> None:
    store = extract_features(shop, tiny_config(), name="maps", precision="float32")
    generator = torch.Generator().manual_seed(tiny_config().seed)
    backbone = build_backbone(tiny_config().backbone, (3, 16, 16), generator=generator).eval()
    for row, path in enumerate(photo_paths(shop)):
        photo = torch.from_numpy(fit_photo(open_photo(path), 16, "squash"))[None]  # (1, 3, 16, 16)
        with torch.no_grad():
            slow = backbone.feature_map(normalize(photo))[0]  # (C, H, W)
        torch.testing.assert_close(torch.from_numpy(np.array(store.maps[row])).float(), slow, rtol=2e-3, atol=2e-3)


def test_stored_text_stays_in_its_file(shop: Dataset, tmp_path: Path) -> None:
    """Two gigabytes, at Polyvore-630's size; what somebody's own code keeps from being written is copied."""
    vectors = np.random.default_rng(0).random((len(shop.catalogue), 7), dtype=np.float32)
    dataset = read_dataset(write_dataset(replace(shop, text=vectors), tmp_path / "set", source=""))
    assert isinstance(dataset.text, np.memmap)
    config = tiny_config().model_copy(update={"text": TextConfig(source="stored")})
    text = build_inputs(dataset, config).text
    assert text is not None
    assert text.data_ptr() == dataset.text.ctypes.data
    assert np.array_equal(text.numpy(), vectors)
    vectors.flags.writeable = False
    copied = build_inputs(replace(dataset, text=vectors), config).text
    assert copied is not None
    assert np.array_equal(copied.numpy(), vectors)
    assert copied.data_ptr() != vectors.ctypes.data
