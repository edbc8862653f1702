"""New photos and new items: a catalogue item's own photo scores as the item does, whatever the model is fed with; what
is added is an item like any; nothing outside the catalogue is reached by a string."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from panfit.answers import Codes
from panfit.config import Config
from panfit.data.folder import read_dataset, write_dataset
from panfit.encode import ItemCoder
from panfit.errors import CheckpointError, DataError, UnknownIdError
from panfit.features.extract import extract_features
from panfit.features.inputs import ItemInputs, KeptMaps, build_inputs
from panfit.loading import load
from panfit.methods import LEARNED, read_model, shape_of
from panfit.model.checkpoint import save_pretrained
from panfit.model.pan import Pan
from panfit.new_items import NewItem, Wearable
from panfit.outfits import ABSENT, Dataset, IntArray
from panfit.recommend import Recommender
from panfit.scoring import OutfitScorer
from panfit.train.loop import fit
from panfit.unseen import Photo
from tests.oracles import preference
from tests.photos import tiny_config, with_photos

IMAGES_ONLY = tiny_config(
    text={"source": "none"}, model={"code_bits": 24, "user_init_std": 1.0, "encoder_init_std": 0.3}
)
WITH_TITLES = tiny_config(model={"code_bits": 24, "user_init_std": 1.0, "encoder_init_std": 0.3})
STORED = tiny_config(
    text={"source": "none"},
    backbone={"source": "stored", "store": "maps"},
    model={"code_bits": 24, "user_init_std": 1.0, "encoder_init_std": 0.3},
)
OUTFITS = [("top-1", "bottom-2", "shoe-3"), ("top-29", None, "shoe-17"), ("top-1", "bottom-23", "shoe-0")]
"""Of the catalogue."""


@pytest.fixture
def shop(tiny_dataset: Dataset, tmp_path: Path) -> Dataset:
    """The tiny data set with photos and a folder; every title is another."""
    (tmp_path / "photos").mkdir()
    titles = tuple(f"{item_id} in linen" for item_id in tiny_dataset.catalogue.item_ids)
    titled = replace(tiny_dataset, catalogue=replace(tiny_dataset.catalogue, titles=titles))
    return read_dataset(write_dataset(with_photos(titled, tmp_path / "photos"), tmp_path / "data", source="test"))


def make(dataset: Dataset, config: Config) -> Recommender:
    inputs = build_inputs(dataset, config)
    model = Pan(config, shape_of(dataset, inputs), generator=torch.Generator().manual_seed(3)).eval()
    return Recommender(model, dataset, inputs, beta=1.5)


def make_kept(dataset: Dataset) -> Recommender:
    """A frozen trunk's own maps in the photos' place."""
    plain = make(dataset, IMAGES_ONLY)
    with torch.no_grad():
        maps = plain.pan.feature_maps(plain.inputs.batch(np.arange(72))).numpy()
    return Recommender(plain.model, dataset, replace(plain.inputs, source=KeptMaps(maps, None)), beta=1.5)


def make_stored(dataset: Dataset) -> Recommender:
    """Maps of a trunk that the model does not have."""
    extract_features(dataset, tiny_config(), name="maps")
    return make(dataset, STORED)


MAKERS: dict[str, Callable[[Dataset], Recommender]] = {
    "photos": lambda dataset: make(dataset, IMAGES_ONLY),
    "kept maps": make_kept,
    "stored maps": make_stored,
}


@pytest.fixture(params=list(MAKERS))
def recommender(request: pytest.FixtureRequest, shop: Dataset) -> Recommender:
    """A model on images alone, fed in each of the three ways."""
    return MAKERS[request.param](shop)


def coder_of(recommender: Recommender) -> ItemCoder:
    assert isinstance(recommender.scorer, OutfitScorer)
    return recommender.scorer.coder


def file_of(dataset: Dataset, item_id: str) -> Path:
    row = dataset.catalogue.row_of[item_id]
    return dataset.catalogue.image_root / str(dataset.catalogue.images[row])


def as_photos(dataset: Dataset, outfit: Sequence[str | None], *, titled: bool = False) -> list[Wearable]:
    """The items' own photos."""
    worn: list[Wearable] = []
    for item_id in outfit:
        if item_id is None:
            worn.append(None)
            continue
        path = file_of(dataset, item_id)
        title = dataset.catalogue.titles[dataset.catalogue.row_of[item_id]]
        worn.append(Photo(path, title) if titled else path)
    return worn


# ---- photos


def test_an_items_own_photo_scores_as_the_item_does(recommender: Recommender) -> None:
    dataset = recommender.dataset
    wanted = recommender.score("u1", OUTFITS)
    assert len(set(wanted.tolist())) == len(OUTFITS)
    found = recommender.score("u1", [as_photos(dataset, outfit) for outfit in OUTFITS])
    np.testing.assert_array_equal(found, wanted)
    one = recommender.score("u1", as_photos(dataset, OUTFITS[0]))  # no list around a single outfit
    assert one.shape == (1,)
    np.testing.assert_array_equal(one, wanted[:1])
    relaxed = recommender.score("u1", [as_photos(dataset, outfit) for outfit in OUTFITS], codes="relaxed")
    np.testing.assert_allclose(relaxed, recommender.score("u1", OUTFITS, codes="relaxed"), atol=1e-5)
    assert recommender.score("u4", as_photos(dataset, OUTFITS[0])) != one  # u4 sees it otherwise


def test_pictures_in_memory_score_as_their_files(recommender: Recommender) -> None:
    paths = [each for each in as_photos(recommender.dataset, OUTFITS[0]) if isinstance(each, Path)]
    opened = [Image.open(path) for path in paths]
    loaded = [image.copy() for image in opened]
    for pictures in (opened, loaded):
        np.testing.assert_array_equal(recommender.score("u2", pictures), recommender.score("u2", paths))
    for image in opened:
        image.close()


@pytest.mark.parametrize("codes", ["binary", "relaxed"])
def test_photos_stand_beside_items(recommender: Recommender, codes: Codes) -> None:
    top, bottom, _ = as_photos(recommender.dataset, OUTFITS[0])
    mixed = [
        (top, "bottom-2", "shoe-3"),
        ("top-1", "bottom-2", None),
        ("top-1", bottom, "shoe-3"),
        (None, bottom, None),
    ]
    plain = [OUTFITS[0], ("top-1", "bottom-2", None), OUTFITS[0], (None, "bottom-2", None)]
    found = recommender.score("u0", mixed, codes=codes)
    np.testing.assert_allclose(
        found, recommender.score("u0", plain, codes=codes), atol=0 if codes == "binary" else 1e-5
    )
    np.testing.assert_array_equal(recommender.score("u0", [top, "bottom-2", "shoe-3"], codes=codes), found[:1])


def test_a_photo_is_seen_by_its_slots_category(shop: Dataset) -> None:
    recommender = make(shop, IMAGES_ONLY)
    path = file_of(shop, "top-1")
    alone = [recommender.score("u1", outfit) for outfit in ([path, None, None], [None, path, None], [None, None, path])]
    assert len({score.item() for score in alone}) == 3
    together = recommender.score("u1", [[path, None, None], [None, path, None], [None, None, path]])
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_photos_with_titles_score_as_titled_items(shop: Dataset) -> None:
    recommender = make(shop, WITH_TITLES)
    wanted = recommender.score("u1", OUTFITS)
    found = recommender.score("u1", [as_photos(shop, outfit, titled=True) for outfit in OUTFITS])
    np.testing.assert_array_equal(found, wanted)
    other = Photo(file_of(shop, "top-1"), "a velvet ball gown")
    assert recommender.score("u1", [other, "bottom-2", "shoe-3"]) != wanted[:1]


@pytest.mark.parametrize("codes", ["binary", "relaxed"])
def test_without_a_title_images_alone_count(shop: Dataset, codes: Codes) -> None:
    recommender = make(shop, WITH_TITLES)
    coder, binary = coder_of(recommender), codes == "binary"
    viewer = recommender.people.embedding("u1")
    photo, titled = file_of(shop, "top-1"), Photo(file_of(shop, "top-1"), "top-1 in linen")
    outfits: list[Sequence[Wearable]] = [
        (photo, "bottom-2", "shoe-3"),
        (titled, "bottom-2", "shoe-3"),
        (photo, None, None),
        OUTFITS[1],
    ]
    found = recommender.score("u1", outfits, codes=codes)
    rows = recommender.ids.outfit_rows([OUTFITS[0], ("top-1", None, None)])  # (2, S)
    predictor, viewer_code = recommender.pan.predictor, coder.viewer_codes(viewer[None], binary=binary)[0]
    for place, row in ((0, rows[0]), (2, rows[1])):
        codes_of = coder.codes(viewer[None], np.zeros(3, dtype=np.int64), np.maximum(row, 0), binary=binary)
        by_images, _, _ = preference(  # of the items' image codes alone: V = 1
            viewer_code,
            codes_of[:, :1],
            (row != ABSENT).tolist(),
            ("top", "bottom", "shoe"),
            torch.diag(predictor.user_item_weight.detach()),
            torch.diag(predictor.item_item_weight.detach()),
            alpha=1.0,
            scale=predictor.scale,
        )
        assert found[place] == pytest.approx(by_images.item(), abs=1e-5)
    with_text = recommender.score("u1", [OUTFITS[0], OUTFITS[1]], codes=codes)
    np.testing.assert_allclose(found[[1, 3]], with_text, atol=0 if binary else 1e-5)
    assert found[0] != found[1]


def test_a_title_means_nothing_to_a_model_without_text(shop: Dataset) -> None:
    recommender = make(shop, IMAGES_ONLY)
    titled = recommender.score("u1", as_photos(shop, OUTFITS[0], titled=True))
    np.testing.assert_array_equal(titled, recommender.score("u1", OUTFITS[:1]))


def test_a_string_is_never_a_path(shop: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = make(shop, IMAGES_ONLY)
    path = str(file_of(shop, "top-1"))
    monkeypatch.setattr("panfit.features.images.open_photo", lambda *_, **__: pytest.fail("a file was opened"))
    for outfit in ((path, "bottom-2", "shoe-3"), (path.upper(), None, None)):
        with pytest.raises(UnknownIdError, match=r"always an item id; give a photo as pathlib\.Path\("):
            recommender.score("u1", [outfit])
    with pytest.raises(UnknownIdError, match=r"no item 'top-1x'; the nearest: 'top-1'[^.]*$"):
        recommender.score("u1", [("top-1x", None, None)])
    with pytest.raises(TypeError, match=r"a pathlib\.Path or a PIL image, not '"):
        Photo(path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not b'photo'"):
        recommender.score("u1", [(b"photo", None, None)])  # type: ignore[list-item]


def test_bad_photos_are_all_told(shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = make(shop, IMAGES_ONLY)
    good = file_of(shop, "top-1")
    whole = good.read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no photo")
    monkeypatch.setattr("panfit.features.photos.MAX_PHOTO_PIXELS", 5000)
    outfits: list[Sequence[Wearable]] = [
        (tmp_path / "half.png", good, tmp_path / "nowhere.jpg"),
        (good, tmp_path / "text.jpg", Image.new("RGB", (100, 80))),
        (Image.new("L", (0, 4)), None, None),
    ]
    with pytest.raises(DataError, match=r"5 photo\(s\) cannot be scored") as caught:
        recommender.score("u1", outfits)
    told = {problem.file: problem.found for problem in caught.value.problems}
    assert "truncated or damaged" in told[str(tmp_path / "half.png")]
    assert told[str(tmp_path / "nowhere.jpg")] == "no such file"
    assert "no photo" in told[str(tmp_path / "text.jpg")]
    assert told["outfit 2, slot 'shoe'"] == "100 x 80 = 8000 pixels"
    assert told["outfit 3, slot 'top'"] == "0 x 4 pixels"


def test_outfits_of_photos_must_fit_the_slots(shop: Dataset) -> None:
    recommender = make(shop, IMAGES_ONLY)
    path = file_of(shop, "top-1")
    with pytest.raises(DataError, match="3 outfit") as caught:
        recommender.score("u1", [[path, path], (path, "top-2", None), (path, path, path), (None, None, None)])
    assert [problem.row for problem in caught.value.problems] == [1, 2, 4]
    assert "'top-2' of category 'top' in slot 'bottom'" in str(caught.value)
    with pytest.raises(UnknownIdError, match="no user 'u9'"):
        recommender.score("u9", [path, path, path])
    with pytest.raises(ValueError, match="relaxed"):
        recommender.score("u1", [path, path, path], codes="float")  # type: ignore[call-overload]


def test_photos_as_phones_and_shops_have_them(shop: Dataset, tmp_path: Path) -> None:
    recommender = make(shop, IMAGES_ONLY)
    upright = Image.open(file_of(shop, "top-1")).convert("RGB").resize((24, 40))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    clear = upright.convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 24, 10))
    white = upright.copy()
    white.paste((255, 255, 255), (0, 0, 24, 10))
    wanted = recommender.score("u1", [[tmp_path / "upright.png", None, None], [white, None, None]], codes="relaxed")
    assert wanted[0] != wanted[1]
    with Image.open(tmp_path / "turned.png") as turned:
        for same in (tmp_path / "turned.png", turned):
            np.testing.assert_allclose(
                recommender.score("u1", [same, None, None], codes="relaxed"), wanted[:1], atol=1e-6
            )
    found = recommender.score("u1", [clear, None, None], codes="relaxed")
    np.testing.assert_allclose(found, wanted[1:], atol=1e-6)
    with Image.open(tmp_path / "upright.png") as odd:
        odd.format = "EPS"  # its reader starts programs
        with pytest.raises(DataError, match="found a EPS file"):
            recommender.score("u1", [odd, None, None])


def test_a_rival_takes_neither_photos_nor_items(shop: Dataset) -> None:
    config = tiny_config(text={"source": "none"}, model={"code_bits": 24}).model_copy(update={"method": "siamese"})
    inputs = build_inputs(shop, config)
    model = LEARNED["siamese"](config, shape_of(shop, inputs), generator=torch.Generator().manual_seed(3))
    recommender = Recommender(model, shop, inputs)
    with pytest.raises(CheckpointError, match="only PAN"):
        recommender.score("u1", as_photos(shop, OUTFITS[0]))
    with pytest.raises(CheckpointError, match="only PAN"):
        recommender.add_items([NewItem("top-x", "top", file_of(shop, "top-1"))])


# ---- the trunk that made stored maps


def test_stored_maps_need_their_own_trunk(shop: Dataset, tmp_path: Path) -> None:
    other_seed = tiny_config().model_copy(update={"seed": 7})
    extract_features(shop, other_seed, name="maps")
    recommender = make(shop, STORED)
    outfit = as_photos(shop, OUTFITS[0])
    with pytest.raises(
        CheckpointError, match=r"random weights of seed 0\), wanted [0-9a-f]{12}\. .*trunk_weights=FILE"
    ):
        recommender.score("u1", outfit)
    donor = Pan(
        tiny_config(),
        recommender.pan.shape.model_copy(update={"input_shape": (3, 16, 16)}),
        generator=torch.Generator().manual_seed(7),
    )
    from safetensors.torch import save_file

    save_file(donor.backbone.trunk.state_dict(), tmp_path / "trunk.safetensors")
    given = Recommender(
        recommender.model, shop, recommender.inputs, beta=1.5, trunk_weights=tmp_path / "trunk.safetensors"
    )
    np.testing.assert_array_equal(given.score("u1", outfit), given.score("u1", OUTFITS[:1]))
    gone = Recommender(recommender.model, shop, recommender.inputs, trunk_weights=tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError, match=r"no such file.*trunk_weights=FILE"):
        gone.score("u1", outfit)


def test_stored_maps_say_how_photos_were_prepared(shop: Dataset) -> None:
    """The settings of a model on stored maps may name another photo size than the maps were made at."""
    extract_features(shop, tiny_config(images={"size": 24, "fit": "pad"}), name="maps")
    recommender = make(shop, STORED)  # whose own images.size is 16
    found = recommender.score("u1", as_photos(shop, OUTFITS[0]))
    np.testing.assert_array_equal(found, recommender.score("u1", OUTFITS[:1]))


# ---- new items


def news(dataset: Dataset) -> list[NewItem]:
    """The photos and titles of known items under new ids."""
    return [
        NewItem(f"new-{item_id}", item_id.split("-")[0], file_of(dataset, item_id), f"{item_id} in linen")
        for item_id in ("top-1", "shoe-3", "bottom-2")
    ]


@pytest.mark.parametrize("maker", [*MAKERS.values(), lambda dataset: make(dataset, WITH_TITLES)])
def test_new_items_are_items_like_any(shop: Dataset, maker: Callable[[Dataset], Recommender]) -> None:
    recommender = maker(shop)
    before = recommender.score("u1", OUTFITS)
    recommender.withdraw(["shoe-5"])  # stays withdrawn
    everything, _ = recommender.complete("u1", {"top": "top-1"}, top=1000, slots=["shoe"])
    recommender.add_items(news(shop))
    recommender.add_items([])
    np.testing.assert_array_equal(recommender.score("u1", OUTFITS), before)
    new = ("new-top-1", "new-bottom-2", "new-shoe-3")
    found = recommender.score("u1", [new, ("new-top-1", "bottom-2", "shoe-3"), ("top-1", *new[1:])])
    np.testing.assert_array_equal(found, before[[0, 0, 0]])
    np.testing.assert_array_equal(
        recommender.score("u1", [as_photos(recommender.dataset, new, titled=True)]), before[:1]
    )
    # completed with: as often as its twin, and withdrawn
    outfits, scores = recommender.complete("u1", {"top": "new-top-1"}, top=1000, slots=["shoe"])
    assert len(outfits) == len(everything) + 1
    shoes = {outfit[2]: score for outfit, score in zip(outfits, scores, strict=True)}
    assert shoes["new-shoe-3"] == shoes["shoe-3"]
    assert "shoe-5" not in shoes
    recommender.withdraw(["new-shoe-3"])
    assert len(recommender.complete("u1", {"top": "top-1"}, top=1000, slots=["shoe"])[0]) == len(everything)
    composed, _ = recommender.compose("u2", top=5, among=(*new[:2], "shoe-3"))
    assert composed == [("new-top-1", "new-bottom-2", "shoe-3")]
    with pytest.raises(UnknownIdError, match="no item 'new-top-9'; the nearest: 'new-top-1'"):
        recommender.score("u1", [("new-top-9", None, None)])


def test_items_of_before_are_not_encoded_again(shop: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = make(shop, IMAGES_ONLY)
    recommender.score("u1", OUTFITS)
    seen: list[int] = []
    coder = coder_of(recommender)
    encode = coder.codes

    def counted(eyes: Tensor, pair_eyes: IntArray, pair_items: IntArray, *, binary: bool) -> Tensor:
        seen.extend(pair_items.tolist())
        return encode(eyes, pair_eyes, pair_items, binary=binary)

    monkeypatch.setattr(coder, "codes", counted)
    recommender.add_items(news(shop))
    recommender.score("u1", [*OUTFITS, ("new-top-1", "new-bottom-2", "shoe-3")])
    assert seen == [72, 74]


def test_the_larger_catalogue(shop: Dataset) -> None:
    recommender = make(shop, WITH_TITLES)
    recommender.add_items(news(shop)[:1])
    recommender.add_items([NewItem("new-2", "shoe", Image.new("RGB", (9, 9), "red"), "red shoes")])
    dataset, inputs = recommender.dataset, recommender.inputs
    assert dataset.catalogue.item_ids[:72] == shop.catalogue.item_ids
    assert dataset.catalogue.item_ids[72:] == ("new-top-1", "new-2")
    assert dataset.catalogue.titles[72:] == ("top-1 in linen", "red shoes")
    assert dataset.catalogue.image_root / str(dataset.catalogue.images[72]) == file_of(shop, "top-1")
    assert dataset.catalogue.images[73] is None
    assert dataset.checksum != shop.checksum
    assert len(read_dataset(shop.folder or "").catalogue) == 72
    assert inputs.categories.tolist() == [*shop.catalogue.category_rows, 0, 2]
    torch.testing.assert_close(inputs.batch(np.array([72, 1])), inputs.batch(np.array([1, 72])), rtol=0, atol=0)
    assert inputs.text is not None
    torch.testing.assert_close(inputs.text[72], inputs.text[1], rtol=0, atol=0)


def test_bad_new_items_are_all_told_and_none_is_added(shop: Dataset, tmp_path: Path) -> None:
    recommender = make(shop, WITH_TITLES)
    path = file_of(shop, "top-1")
    items = [
        NewItem("top-1", "top", path, "a top"),
        NewItem("new-1", "hat", path, "a hat"),
        NewItem("new-1", "top", path, "a top"),
        NewItem("new-2", "top", tmp_path / "nowhere.png", "a top"),
        NewItem("new-3", "top", path),
        NewItem("", "top", path, "a top"),
        NewItem("new-4", "top", path, text_vector=np.zeros(5, dtype=np.float32)),
        NewItem("new-5", "top", path, text_vector=np.full(12, np.nan, dtype=np.float32)),
        NewItem("new-6", "top", path, "fine"),
    ]
    with pytest.raises(DataError, match=r"8 problem\(s\) with the new items, of which none was added") as caught:
        recommender.add_items(items)
    told = [(problem.file, problem.found) for problem in caught.value.problems]
    assert told == [
        ("new item 'top-1'", "an id that is there already"),
        ("new item 'new-1'", "the category 'hat'"),
        ("new item 'new-1'", "an id that is there already"),
        ("new item ''", "no id"),
        ("new item 'new-3'", "no text"),
        ("new item 'new-4'", "a text vector of shape (5,)"),
        ("new item 'new-5'", "numbers not finite"),
        (str(tmp_path / "nowhere.png"), "no such file"),
    ]
    assert recommender.dataset is shop
    with pytest.raises(UnknownIdError):
        recommender.withdraw(["new-6"])
    with pytest.raises(TypeError, match=r"pathlib\.Path"):
        NewItem("new-7", "top", str(path))  # type: ignore[arg-type]


def test_text_vectors_that_came_with_the_data(shop: Dataset, rng: np.random.Generator) -> None:
    vectors = rng.random((72, 7)).astype(np.float32)
    dataset = replace(shop, text=vectors)
    recommender = make(
        dataset,
        tiny_config(text={"source": "stored"}, model={"code_bits": 24, "user_init_std": 1.0, "encoder_init_std": 0.3}),
    )
    path = file_of(shop, "top-1")
    wanted = recommender.score("u1", OUTFITS[:1])
    found = recommender.score("u1", [Photo(path, text_vector=vectors[1]), "bottom-2", "shoe-3"])
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(DataError, match="a title cannot be turned into one"):
        recommender.score("u1", [Photo(path, "top-1 in linen"), None, None])
    recommender.add_items([NewItem("new", "top", path, "a title to show", vectors[1])])
    np.testing.assert_array_equal(recommender.score("u1", [("new", "bottom-2", "shoe-3")]), wanted)


def test_inputs_of_another_kind_do_not_join(shop: Dataset) -> None:
    inputs = build_inputs(shop, WITH_TITLES)
    category = torch.tensor([0])
    with pytest.raises(ValueError, match=r"added inputs \(1, 3, 16, 15\) uint8"):
        inputs.extended(np.zeros((1, 3, 16, 15), dtype=np.uint8), category, torch.zeros(1, 12))
    with pytest.raises(ValueError, match="float32; wanted"):
        inputs.extended(np.zeros((1, 3, 16, 16), dtype=np.float32), category, torch.zeros(1, 12))
    with pytest.raises(ValueError, match="with text and items without"):
        inputs.extended(np.zeros((1, 3, 16, 16), dtype=np.uint8), category, None)


def test_added_maps_have_no_mirrored_twin() -> None:
    maps = np.arange(1, 5, dtype=np.float16)[:, None, None, None] * np.ones((3, 2, 2), np.float16)  # (4, C, H, W)
    inputs = ItemInputs(KeptMaps(maps[:2], -maps[:2]), torch.tensor([0, 1]), None, tiny_config().images)
    longer = inputs.extended(maps[2:], torch.tensor([1, 0]), None)
    rows = np.tile(np.arange(4), 30)
    values = longer.batch(rows, generator=torch.Generator().manual_seed(3)).numpy()[:, 0, 0, 0]
    np.testing.assert_array_equal(np.abs(values), rows + 1)
    assert (values[rows < 2] < 0).any()
    assert (values[rows >= 2] > 0).all()


# ---- a data set that has changed since


def save_run(recommender: Recommender, folder: Path, **extra: object) -> Path:
    """A run folder as training leaves it."""
    dataset = recommender.dataset
    written = {"beta": 1.5, "checksum": dataset.checksum, "inputs": dict(recommender.inputs.made_by), **extra}
    written = {name: value for name, value in written.items() if value is not None}
    save_pretrained(recommender.pan, folder / "best", user_ids=dataset.user_ids, extra=written)
    (folder / "run.json").write_text(json.dumps({"dataset": str(dataset.folder), "checksum": dataset.checksum}))
    return folder


def later(dataset: Dataset, folder: Path) -> Dataset:
    """The data set without the first item that nobody likes, in a folder of its own."""
    worn = {row for likes in dataset.likes.values() for row in likes.items.ravel().tolist()}
    catalogue = dataset.catalogue
    gone = next(row for row in range(len(catalogue)) if row not in worn)

    def kept(column: tuple[Any, ...]) -> tuple[Any, ...]:
        return column[:gone] + column[gone + 1 :]

    smaller = replace(
        catalogue,
        item_ids=kept(catalogue.item_ids),
        item_categories=kept(catalogue.item_categories),
        images=kept(catalogue.images),
        titles=kept(catalogue.titles),
    )
    likes = {
        split: replace(outfits, items=outfits.items - (outfits.items > gone))
        for split, outfits in dataset.likes.items()
    }
    today = replace(dataset, catalogue=smaller, likes=likes, negatives={}, fitb={})
    return read_dataset(write_dataset(today, folder, source="test"))


@pytest.mark.parametrize("config", [IMAGES_ONLY, WITH_TITLES])
def test_todays_catalogue_is_taken_where_that_is_allowed(shop: Dataset, tmp_path: Path, config: Config) -> None:
    recommender = make(shop, config)
    run = save_run(recommender, tmp_path / "run")
    today = later(shop, tmp_path / "today")
    with pytest.raises(CheckpointError, match=r"found checksum .*allow_changed=True"):
        load(run, data=today)
    loaded = load(run, data=tmp_path / "today", allow_changed=True)
    assert len(loaded.dataset.catalogue) == 71
    np.testing.assert_array_equal(loaded.score("u1", OUTFITS), recommender.score("u1", OUTFITS))
    np.testing.assert_array_equal(load(run, allow_changed=True).score("u1", OUTFITS), recommender.score("u1", OUTFITS))
    renamed = replace(today, user_ids=(*today.user_ids[:-1], "somebody"))
    with pytest.raises(CheckpointError, match=r"users, slots or categories differ"):
        load(run, data=renamed, allow_changed=True)


def test_todays_text_must_be_of_the_same_kind(shop: Dataset, tmp_path: Path, rng: np.random.Generator) -> None:
    auto = tiny_config(text={"source": "auto", "dim": 12})
    today = later(shop, tmp_path / "today")
    untitled = replace(today, catalogue=replace(today.catalogue, titles=(None, *today.catalogue.titles[1:])))
    vectors = rng.random((71, 12)).astype(np.float32)
    by_titles = save_run(make(shop, auto), tmp_path / "by titles")
    with pytest.raises(DataError, match="1 of 71 items have no title"):
        load(by_titles, data=untitled, allow_changed=True)
    hashed = load(by_titles, data=today, allow_changed=True).inputs.text
    found = load(by_titles, data=replace(today, text=vectors), allow_changed=True).inputs.text  # not those vectors
    assert hashed is not None
    assert found is not None
    torch.testing.assert_close(found, hashed, rtol=0, atol=0)
    stored = replace(shop, text=rng.random((72, 5)).astype(np.float32))
    by_vectors = save_run(make(stored, auto), tmp_path / "by vectors")
    with pytest.raises(DataError, match="no text vectors"):
        load(by_vectors, data=today, allow_changed=True)
    with pytest.raises(CheckpointError, match="have length 12, wanted 5"):
        load(by_vectors, data=replace(today, text=vectors), allow_changed=True)
    without = save_run(make(untitled_shop := _without_titles(shop), auto), tmp_path / "without")
    assert load(without, data=today, allow_changed=True).inputs.text is None
    assert untitled_shop.catalogue.titles[0] is None
    # runs of before their text was written down
    silent = save_run(make(shop, auto), tmp_path / "silent", inputs=None)
    with pytest.raises(CheckpointError, match="does not say whether"):
        load(silent, data=today, allow_changed=True)
    silent = save_run(make(stored, auto), tmp_path / "silent vectors", inputs=None)
    with pytest.raises(DataError, match="no text vectors"):
        load(silent, data=today, allow_changed=True)
    silent = save_run(make(shop, WITH_TITLES), tmp_path / "silent titles", inputs=None)
    assert load(silent, data=today, allow_changed=True).inputs.text is not None


def _without_titles(dataset: Dataset) -> Dataset:
    return replace(dataset, catalogue=replace(dataset.catalogue, titles=(None,) * len(dataset.catalogue)))


def test_todays_maps_must_be_made_as_the_trainings_were(shop: Dataset, tmp_path: Path) -> None:
    recommender = make_stored(shop)
    run = save_run(recommender, tmp_path / "run")
    same, other, larger = (later(shop, tmp_path / name) for name in ("same", "other", "larger"))
    extract_features(same, tiny_config(), name="maps")
    extract_features(other, tiny_config().model_copy(update={"seed": 5}), name="maps")
    extract_features(larger, tiny_config(images={"size": 16, "fit": "pad"}), name="maps")
    loaded = load(run, data=same, allow_changed=True)
    np.testing.assert_array_equal(loaded.score("u1", OUTFITS), recommender.score("u1", OUTFITS))
    np.testing.assert_array_equal(loaded.score("u1", as_photos(shop, OUTFITS[0])), recommender.score("u1", OUTFITS[:1]))
    with pytest.raises(
        CheckpointError, match=r"weights: found '[0-9a-f]{64}', wanted '[0-9a-f]{64}'\. Run `panfit feat"
    ):
        load(run, data=other, allow_changed=True)
    with pytest.raises(CheckpointError, match="preparation: found '16 px, pad', wanted '16 px, squash'"):
        load(run, data=larger, allow_changed=True)
    silent = save_run(recommender, tmp_path / "silent", inputs=None)
    assert len(load(silent).inputs) == 72
    with pytest.raises(CheckpointError, match="does not say what made its maps"):
        load(silent, data=same, allow_changed=True)


def test_only_pan_takes_changed_data(shop: Dataset, tmp_path: Path) -> None:
    config = tiny_config(text={"source": "none"}, model={"code_bits": 24}).model_copy(update={"method": "siamese"})
    inputs = build_inputs(shop, config)
    model = LEARNED["siamese"](config, shape_of(shop, inputs), generator=torch.Generator().manual_seed(3))
    save_pretrained(model, tmp_path / "run" / "best", user_ids=shop.user_ids, extra={"checksum": shop.checksum})
    assert load(tmp_path / "run", data=shop).dataset is shop
    with pytest.raises(CheckpointError, match="if the model is PAN"):
        load(tmp_path / "run", data=later(shop, tmp_path / "today"), allow_changed=True)


@pytest.mark.parametrize("method", ["pan", "popularity"])
def test_training_writes_down_what_its_inputs_were_made_by(shop: Dataset, tmp_path: Path, method: str) -> None:
    extract_features(shop, tiny_config(), name="maps")
    config = tiny_config(
        backbone={"frozen": True, "source": "stored", "store": "maps"}, train={"epochs": 1}, text={"source": "auto"}
    ).model_copy(update={"method": method})
    fit(config, shop, tmp_path / "run", progress=False)
    _, info = read_model(tmp_path / "run" / "best")
    assert info.extra["inputs"] == build_inputs(shop, config).made_by
    assert set(info.extra["inputs"]) == {"text", "extractor", "weights", "preparation"}
    assert load(tmp_path / "run").inputs.made_by["text"] == "titles"


def test_what_was_prepared_finds_new_items_too(shop: Dataset) -> None:
    recommender = make(shop, IMAGES_ONLY)
    recommender.prepare(3)
    recommender.complete("u1", {"top": "top-1"}, top=40, slots=["shoe"], search="two-stage")
    recommender.add_items(news(shop))
    outfits, _ = recommender.complete("u1", {"top": "top-1"}, top=40, slots=["shoe"], search="two-stage")
    assert ("top-1", None, "new-shoe-3") in outfits
    assert len(outfits) == 19
