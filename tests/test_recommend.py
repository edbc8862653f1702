"""recommend() equals scoring everything and sorting; ids are checked; a run loads again, and only with its own data."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from panfit.answers import Codes
from panfit.codes import CodeTables
from panfit.config import Config
from panfit.data.folder import read_dataset, write_dataset
from panfit.encode import Progress
from panfit.errors import CheckpointError, DataError, UnknownIdError
from panfit.features.inputs import ItemInputs
from panfit.loading import load
from panfit.model.checkpoint import save_pretrained
from panfit.model.pan import Pan, PanShape
from panfit.outfits import ABSENT, Dataset, IntArray, Outfits
from panfit.recommend import Recommender
from panfit.sweep import Packed

CONFIG = Config.parse(
    {
        "images": {"size": 16},
        "text": {"source": "none"},
        "backbone": {"width": 4},
        "model": {"code_bits": 24, "image_hidden": 11, "user_init_std": 1.0, "encoder_init_std": 0.3},
    }
)


def make_model(dataset: Dataset) -> Pan:
    shape = PanShape(
        num_users=len(dataset.user_ids),
        slots=tuple((slot.name, slot.category) for slot in dataset.slots),
        categories=dataset.catalogue.categories,
        text_dim=None,
        input_shape=(3, 16, 16),
    )
    return Pan(CONFIG, shape, generator=torch.Generator().manual_seed(3)).eval()


def draw_photos(dataset: Dataset) -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (len(dataset.catalogue), 3, 16, 16), dtype=np.uint8)


@pytest.fixture
def dataset(tiny_dataset: Dataset) -> Dataset:
    """The tiny data set, where two test outfits lack their shoes and u0 also likes in val what it likes in train."""
    train, val, test = (tiny_dataset.likes[split] for split in ("train", "val", "test"))
    items = test.items.copy()
    items[:2, 2] = ABSENT
    again = Outfits(np.append(val.users, 0), np.vstack([val.items, train.items[:1]]))
    likes = {"train": train, "val": again, "test": Outfits(test.users, items)}
    return dataclasses.replace(tiny_dataset, likes=likes)  # type: ignore[arg-type]


@pytest.fixture
def recommender(dataset: Dataset) -> Recommender:
    inputs = ItemInputs(
        draw_photos(dataset), torch.from_numpy(dataset.catalogue.category_rows.copy()), None, CONFIG.images
    )
    return Recommender(make_model(dataset), dataset, inputs, beta=1.5)


@pytest.mark.parametrize("codes", ["binary", "relaxed"])
def test_recommend_is_scoring_and_sorting(recommender: Recommender, dataset: Dataset, codes: Codes) -> None:
    everything = [dataset.catalogue.ids(row) for split in dataset.likes for row in dataset.likes[split].items.tolist()]
    known = {dataset.catalogue.ids(row) for row in dataset.likes["train"].items[dataset.likes["train"].users == 1]}
    expected = [outfit for outfit in dict.fromkeys(everything) if outfit not in known]
    scores = recommender.score("u1", expected, codes=codes)
    order = np.argsort(-scores, kind="stable")
    outfits, found = recommender.recommend("u1", top=1000, codes=codes)
    assert outfits == [expected[place] for place in order]
    np.testing.assert_array_equal(found, scores[order])
    assert any(None in outfit for outfit in outfits)
    few, few_scores = recommender.recommend("u1", top=4, codes=codes)
    assert few == outfits[:4]
    np.testing.assert_array_equal(few_scores, found[:4])


def test_scores_equal_the_scorer(recommender: Recommender, dataset: Dataset) -> None:
    likes = dataset.likes["test"]
    relaxed, binary = recommender.scorer.both(likes)
    for user in range(5):
        rows = likes.users == user
        outfits = [dataset.catalogue.ids(row) for row in likes.items[rows].tolist()]
        np.testing.assert_allclose(recommender.score(f"u{user}", outfits), binary[rows], atol=2e-5)
        np.testing.assert_allclose(recommender.score(f"u{user}", outfits, codes="relaxed"), relaxed[rows], atol=2e-5)


def test_score_parts_add_up(recommender: Recommender, dataset: Dataset) -> None:
    outfits = [dataset.catalogue.ids(row) for row in dataset.likes["test"].items.tolist()]  # two of them without shoes
    for user in ("u2", recommender.newcomer(outfits[:2])):
        general, personal = recommender.score_parts(user, outfits)
        np.testing.assert_allclose(general + personal, recommender.score(user, outfits), atol=1e-5)
        alone = [explained.personal for explained in (recommender.explain(user, outfit) for outfit in outfits[:3])]
        np.testing.assert_allclose(personal[:3], alone, atol=1e-5)
        assert min(np.ptp(general), np.ptp(personal)) > 1e-3
    general, personal = recommender.score_parts("u2", [])
    assert (general.shape, personal.shape) == ((0,), (0,))
    with pytest.raises(DataError, match="do not fit"):
        recommender.score_parts("u2", [("top-1", "bottom-2")])
    with pytest.raises(UnknownIdError, match="no user 'u9'"):
        recommender.score_parts("u9", outfits)


def test_a_ranking_serves_any_question_about_known_outfits(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panfit.recommend.LOOKED_AT", 1)  # several looks, where much is left out
    ranking = recommender.rank("u1")
    assert ranking.nbytes == 12 * len(recommender.candidates)
    for withdrawn in ([], ["top-1", "bottom-0"], ["top-0", "top-2"]):
        recommender.withdraw(withdrawn)
        for top, exclude_known in ((1, True), (4, False), (1000, True)):
            found, scores = recommender.choose("u1", ranking, top, exclude_known=exclude_known)
            expected, expected_scores = recommender.recommend("u1", top, exclude_known=exclude_known)
            everything = recommender.recommend(
                "u1", 1000, among=map(recommender.dataset.catalogue.ids, by_rows(recommender))
            )
            if exclude_known:
                assert found == everything[0][:top]
            assert found == expected
            np.testing.assert_array_equal(scores, expected_scores)
    assert not any({"top-0", "top-1", "top-2", "bottom-0"} & set(outfit) for outfit in found)
    with pytest.raises(UnknownIdError, match="no user 'u9'"):
        recommender.rank("u9")


def by_rows(recommender: Recommender) -> list[list[int]]:
    rows: list[list[int]] = recommender.candidates.tolist()
    return rows


def test_known_likes_are_left_out_or_not(recommender: Recommender, dataset: Dataset) -> None:
    known = dataset.catalogue.ids(dataset.likes["train"].items[0].tolist())  # of u0
    assert known not in recommender.recommend("u0", top=1000)[0]
    assert known in recommender.recommend("u0", top=1000, exclude_known=False)[0]
    assert known in recommender.recommend("u1", top=1000)[0]
    liked_in_test = dataset.catalogue.ids(dataset.likes["test"].items[0].tolist())
    assert liked_in_test in recommender.recommend("u0", top=1000)[0]  # a test like is there to be found


def test_among(recommender: Recommender) -> None:
    given = [("top-1", "bottom-2", "shoe-3"), ("top-4", None, "shoe-3"), ("top-1", "bottom-2", "shoe-3")]
    outfits, scores = recommender.recommend("u3", among=given)
    assert sorted(outfits, key=str) == sorted(set(given), key=str)
    np.testing.assert_array_equal(scores, np.sort(recommender.score("u3", given[:2]))[::-1])
    assert recommender.recommend("u3", among=[])[0] == []


def test_ties_stay_in_the_candidates_order(recommender: Recommender) -> None:
    with torch.no_grad():
        for weight in recommender.pan.predictor.parameters():
            weight.zero_()
    outfits, scores = recommender.recommend("u2", top=6, exclude_known=False)
    assert np.ptp(scores) == 0
    assert outfits == [recommender.dataset.catalogue.ids(row) for row in recommender.candidates[:6].tolist()]


def test_a_batch_of_users_equals_a_loop(recommender: Recommender) -> None:
    users = ["u4", "u0", "u4"]
    outfits, scores = recommender.recommend(users, top=3)
    assert len(outfits) == len(scores) == 3
    for user, some, values in zip(users, outfits, scores, strict=True):
        alone, alone_values = recommender.recommend(user, top=3)
        assert some == alone
        np.testing.assert_array_equal(values, alone_values)


def test_codes_are_made_once(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = CodeTables._make

    def counted(self: CodeTables, viewer: Tensor, items: IntArray, progress: Progress | None) -> Packed:
        made.append(len(items))
        return real(self, viewer, items, progress)

    monkeypatch.setattr(CodeTables, "_make", counted)
    recommender.score("u0", [("top-1", "bottom-2", "shoe-3")])
    assert made == [3]
    recommender.score("u0", [("top-0", "bottom-2", "shoe-3"), ("top-1", "bottom-2", "shoe-3")])
    assert made == [3, 1]
    first = recommender.recommend("u0", top=50)
    num_made = sum(made)
    again = recommender.recommend("u0", top=50)
    assert sum(made) == num_made
    assert first[0] == again[0]
    np.testing.assert_array_equal(first[1], again[1])


def test_unknown_ids_name_the_nearest(recommender: Recommender) -> None:
    with pytest.raises(UnknownIdError, match=r"no user 'u9'; the nearest: 'u\d'"):
        recommender.recommend("u9")
    with pytest.raises(UnknownIdError, match="no user 'u9'"):
        recommender.recommend(["u0", "u9"])
    with pytest.raises(UnknownIdError, match=r"no item 'botom-2'; the nearest: 'bottom-2'"):
        recommender.score("u0", [("top-1", "botom-2", "shoe-3")])
    with pytest.raises(UnknownIdError, match=r"no user 'somebody'$"):
        recommender.score("somebody", [])


def test_outfits_that_do_not_fit_are_all_told(recommender: Recommender) -> None:
    outfits = [
        ("bottom-2", "bottom-2", "shoe-3"),
        ("top-1", "bottom-2", "shoe-3"),
        ("top-1", "bottom-2"),
        (None, None, None),
        "top-1,bottom-2,shoe-3",
    ]
    with pytest.raises(DataError, match="4 outfit") as caught:
        recommender.score("u0", outfits)
    assert [problem.row for problem in caught.value.problems] == [1, 3, 4, 5]
    assert "'bottom-2' of category 'bottom' in slot 'top'" in str(caught.value)


def test_refuses_what_makes_no_sense(recommender: Recommender) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        recommender.recommend("u0", top=0)
    with pytest.raises(ValueError, match="relaxed"):
        recommender.score("u0", [("top-1", None, None)], codes="float")  # type: ignore[call-overload]


@pytest.fixture
def run(dataset: Dataset, tmp_path: Path) -> Path:
    """A run folder as training leaves it, and its data set's folder with photos."""
    (tmp_path / "photos").mkdir()
    images = []
    for item_id, photo in zip(dataset.catalogue.item_ids, draw_photos(dataset), strict=True):
        images.append(f"{item_id}.png")
        Image.fromarray(photo.transpose(1, 2, 0)).save(tmp_path / "photos" / images[-1])
    catalogue = dataclasses.replace(dataset.catalogue, images=tuple(images), image_root=tmp_path / "photos")
    folder = write_dataset(dataclasses.replace(dataset, catalogue=catalogue), tmp_path / "data", source="test")
    written = read_dataset(folder)
    record = {"dataset": str(folder), "name": written.name, "checksum": written.checksum, "seed": 0}
    run = tmp_path / "run"
    extra = {"beta": 1.5, "checksum": written.checksum}
    save_pretrained(make_model(written), run / "best", user_ids=written.user_ids, extra=extra)
    (run / "run.json").write_text(json.dumps(record))
    return run


def test_load_gives_the_same_recommender(run: Path, recommender: Recommender) -> None:
    loaded = load(run)
    outfits, scores = loaded.recommend("u1", top=7, codes="relaxed")
    expected, expected_scores = recommender.recommend("u1", top=7, codes="relaxed")
    assert outfits == expected
    np.testing.assert_allclose(scores, expected_scores, atol=2e-5)
    assert load(str(run / "best")).recommend("u1", top=7, codes="relaxed")[0] == expected


def test_load_finds_a_moved_data_set(run: Path) -> None:
    expected = load(run).recommend("u1")[0]
    moved = run / "moved"
    shutil.copytree(run.parent / "data", moved)
    shutil.rmtree(run.parent / "data")
    with pytest.raises(DataError, match=r"no longer in .*--data"):
        load(run)
    assert load(run, data=moved).recommend("u1")[0] == expected
    assert load(run, data=read_dataset(moved)).recommend("u1")[0] == expected
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"dataset": "moved"}))  # relative to the run
    assert load(run).recommend("u1")[0] == expected
    (run / "run.json").write_text(json.dumps(record | {"dataset": None}))
    with pytest.raises(DataError, match="does not say where"):
        load(run)


def test_load_refuses_other_data(run: Path) -> None:
    dataset = read_dataset(run.parent / "data")
    with pytest.raises(CheckpointError, match="found checksum other, wanted"):
        load(run, data=dataclasses.replace(dataset, checksum="other"))
    renamed = dataclasses.replace(dataset, user_ids=(*dataset.user_ids[:-1], "somebody"))
    with pytest.raises(CheckpointError, match="users, slots or categories differ"):
        load(run, data=renamed)


def test_load_names_what_is_missing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such run folder"):
        load(tmp_path / "nowhere")
    (run / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json: damaged"):
        load(run)
    shutil.rmtree(run / "best")
    with pytest.raises(CheckpointError, match="no best checkpoint"):
        load(run)
