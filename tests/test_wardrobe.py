"""The wardrobe world: its dial, its truth, and that nothing leaks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from panfit.data.garments import GARMENTS
from panfit.data.wardrobe import Wardrobe, WardrobeConfig, draw_wardrobe, read_truth
from panfit.data.wardrobe_truth import CATEGORIES, harmony
from panfit.data.wardrobe_world import draw_likes, make_items
from panfit.errors import ConfigError, DataError
from panfit.outfits import ABSENT, SPLITS, Outfits


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Wardrobe:
    return draw_wardrobe(WardrobeConfig.tiny(), tmp_path_factory.mktemp("world") / "wardrobe")


def folder_of(wardrobe: Wardrobe) -> Path:
    assert wardrobe.dataset.folder is not None
    return wardrobe.dataset.folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mean_auc(scores: dict[bool, NDArray[np.float64]], users: dict[bool, NDArray[np.int64]]) -> float:
    """Each user's AUC of likes (True) against negatives (False), then the mean."""
    values = []
    for user in np.unique(users[True]):
        likes, others = (scores[kind][users[kind] == user] for kind in (True, False))
        gaps = likes[:, None] - others[None]  # (likes, others)
        values.append(float((0.5 + 0.5 * np.sign(gaps)).mean()))
    return float(np.mean(values))


# ---- the dial


def ceilings(config: WardrobeConfig) -> dict[str, float]:
    """AUC of the true scorers on test likes against random outfits and against other users' likes."""
    truth, _, splits = make_items(config)
    likes = draw_likes(config, truth, splits)["test"]
    truth = replace(truth, signal=1.0)  # the tastes are there at any signal: do the likes follow them?
    rng = np.random.default_rng(5)
    users = np.repeat(likes.users, 10)
    pools = [np.unique(likes.items[:, slot]) for slot in range(3)]
    strangers = Outfits(users, np.stack([rng.choice(pool, len(users)) for pool in pools], axis=1))
    others = Outfits(users, likes.items[rng.integers(len(likes), size=len(users))])
    result = {}
    for kind, negatives in {"random": strangers, "hard": others}.items():
        for name in ("utility", "general", "personal"):
            score = getattr(truth, name)
            result[f"{name} {kind}"] = mean_auc(
                {True: score(likes), False: score(negatives)}, {True: likes.users, False: negatives.users}
            )
    return result


def test_at_full_signal_the_truth_ranks_likes_first() -> None:
    auc = ceilings(WardrobeConfig.demo(seed=3))
    assert 0.95 < auc["utility random"] < 0.99
    assert 0.85 < auc["utility hard"] < 0.95
    assert 0.7 < auc["general random"] < 0.87  # clearly less
    assert 0.47 < auc["general hard"] < 0.53  # everybody's likes are equally good outfits
    assert auc["utility random"] > auc["personal random"] + 0.01


def test_at_no_signal_there_is_nothing_to_learn() -> None:
    for value in ceilings(WardrobeConfig.demo(signal=0.0, seed=3, likes_per_user=(1, 1, 60))).values():
        assert 0.48 < value < 0.52


def test_at_no_signal_all_outfits_are_worth_the_same(drawn: Wardrobe) -> None:
    silent = replace(drawn.truth, signal=0.0)
    assert not silent.utility(drawn.dataset.likes["train"]).any()


def test_half_the_signal_lies_between() -> None:
    auc = ceilings(WardrobeConfig.demo(signal=0.3, seed=3))
    assert 0.6 < auc["utility random"] < 0.93


# ---- the truth


def test_the_parts_have_unit_spread_and_add_up() -> None:
    truth, _, _ = make_items(WardrobeConfig.study())
    rng = np.random.default_rng(1)
    pools = [np.flatnonzero(truth.categories == row) for row in range(3)]
    outfits = Outfits(
        rng.integers(100, size=8000).astype(np.int64), np.stack([rng.choice(pool, 8000) for pool in pools], axis=1)
    )
    personal, general = truth.personal(outfits), truth.general(outfits)
    assert personal.std() == pytest.approx(1.0, abs=0.06)
    assert general.std() == pytest.approx(1.0, abs=0.06)
    assert abs(np.corrcoef(personal, general)[0, 1]) < 0.06
    np.testing.assert_allclose(truth.utility(outfits), personal + 0.45 * general)


def test_the_personal_part_is_the_sum_of_the_weights_of_what_is_shown(drawn: Wardrobe) -> None:
    truth, likes = drawn.truth, drawn.dataset.likes["train"]
    for row in range(5):
        user, items = int(likes.users[row]), likes.items[row]
        total = 0.0
        for item in items:
            category = int(truth.categories[item])
            for factor, trait in enumerate(GARMENTS[CATEGORIES[category]].factors):
                value = list(trait.values).index(truth.shown(int(item))[trait.name])
                total += float(truth.tastes[user, category, factor, value])
        assert truth.personal(likes)[row] == pytest.approx(total, abs=1e-5)


def test_an_empty_slot_adds_nothing_personal(drawn: Wardrobe) -> None:
    likes = drawn.dataset.likes["train"]
    parts = []
    for slot in range(3):
        items = np.full_like(likes.items, ABSENT)
        items[:, slot] = likes.items[:, slot]
        parts.append(drawn.truth.personal(Outfits(likes.users, items)))
    np.testing.assert_allclose(np.sum(parts, axis=0), drawn.truth.personal(likes), atol=1e-6)


def test_tastes_are_sparse_and_shared_in_groups() -> None:
    truth, _, _ = make_items(WardrobeConfig.study())
    cared = (truth.tastes != 0).any(axis=3)  # (M, 3, F)
    assert set(np.unique(cared.sum(axis=2))) == {1, 2}
    assert np.bincount(truth.groups).tolist() == [9] * 4 + [8] * 8
    same = truth.groups[:, None] == truth.groups[None]
    np.fill_diagonal(same, False)
    flat = cared.reshape(len(cared), -1).astype(float)
    shared = flat @ flat.T / flat.sum(axis=1)[:, None]  # (M, M)
    assert shared[same].mean() > 0.6
    assert shared[same].mean() < 0.95
    assert shared[~same].mean() < 0.35


def test_colors_harmonize_both_ways() -> None:
    np.testing.assert_allclose(harmony(), harmony().T)
    assert harmony().min() < -0.8
    assert harmony().max() == 1.0


def test_regions_show_what_the_user_cares_about(drawn: Wardrobe) -> None:
    truth = drawn.truth
    for user, item in ((0, 3), (4, 50), (5, 92)):
        names = truth.cares(user, item)
        assert 1 <= len(names) <= 2
        union = np.any([truth.factor_region(item, name) for name in names], axis=0)
        np.testing.assert_array_equal(truth.regions(user, item), union)
        assert union.shape == (32, 32)
        assert 0 < union.mean() < 0.9
        larger = truth.regions(user, item, size=128).reshape(32, 4, 32, 4)
        assert (union == larger.any(axis=(1, 3))).mean() > 0.9


# ---- the folder


def test_the_photos_are_what_the_truth_says(drawn: Wardrobe) -> None:
    catalogue = drawn.dataset.catalogue
    for row in (0, 41, 92):
        with Image.open(catalogue.image_root / str(catalogue.images[row])) as photo:
            np.testing.assert_array_equal(np.asarray(photo), np.asarray(drawn.truth.picture(row)))
            assert photo.size == (32, 32)


def test_the_truth_survives_the_disk(drawn: Wardrobe) -> None:
    stored = read_truth(folder_of(drawn))
    assert vars(stored).keys() == vars(drawn.truth).keys()
    for name, value in vars(drawn.truth).items():
        np.testing.assert_array_equal(getattr(stored, name), value)


def test_counts_and_ids(drawn: Wardrobe) -> None:
    dataset = drawn.dataset
    assert (dataset.name, len(dataset.user_ids), len(dataset.catalogue)) == ("wardrobe-tiny", 6, 93)
    assert [len(dataset.likes[split]) for split in SPLITS] == [72, 18, 24]
    assert set(np.bincount(dataset.likes["test"].users)) == {4}
    assert {key: len(outfits) for key, outfits in dataset.negatives.items()} == {
        ("val", "random"): 180,
        ("val", "hard"): 180,
        ("test", "random"): 240,
        ("test", "hard"): 240,
    }
    assert set(dataset.fitb) == {"val", "test"}
    for split in SPLITS:  # nobody likes an outfit twice
        likes = dataset.likes[split]
        assert len(np.unique(np.column_stack([likes.users, likes.items]), axis=0)) == len(likes)
    assert all(title and category for title, category in zip(dataset.catalogue.titles, CATEGORIES, strict=False))


def test_splits_share_no_item(drawn: Wardrobe) -> None:
    worn = [set(drawn.dataset.likes[split].items.ravel().tolist()) for split in SPLITS]
    assert not worn[0] & worn[1]
    assert not worn[0] & worn[2]
    assert not worn[1] & worn[2]


def test_rows_and_photo_names_tell_nothing_about_splits() -> None:
    truth, drawings, splits = make_items(WardrobeConfig.study())
    for place in (np.arange(len(splits)), drawings, truth.poses[:, 2], truth.values[:, 0]):
        assert abs(np.corrcoef(place, splits == 0)[0, 1]) < 0.08


def test_splits_share_no_photo_when_photos_are_shared() -> None:
    config = WardrobeConfig.study(drawings_per_category=40)
    truth, drawings, splits = make_items(config)
    assert len(np.unique(drawings)) == 3 * 40
    assert all(len(np.unique(splits[drawings == drawing])) == 1 for drawing in np.unique(drawings))
    assert all(len(np.unique(truth.values[drawings == drawing], axis=0)) == 1 for drawing in np.unique(drawings))


def test_the_same_config_draws_the_same_files(drawn: Wardrobe, tmp_path: Path) -> None:
    again = draw_wardrobe(WardrobeConfig.tiny(), tmp_path / "again")
    assert again.dataset.checksum == drawn.dataset.checksum
    assert contents(tmp_path / "again") == contents(folder_of(drawn))
    other = draw_wardrobe(WardrobeConfig.tiny(seed=1), tmp_path / "other")
    assert other.dataset.checksum != drawn.dataset.checksum


def test_signal_changes_likes_and_not_pictures() -> None:
    loud, _, _ = make_items(WardrobeConfig.tiny())
    silent, _, _ = make_items(WardrobeConfig.tiny(signal=0))
    for name in ("values", "poses", "tastes", "categories"):
        np.testing.assert_array_equal(getattr(loud, name), getattr(silent, name))


def test_titles_can_be_left_out(tmp_path: Path) -> None:
    bare = draw_wardrobe(WardrobeConfig.tiny(titles=False), tmp_path / "bare")
    assert set(bare.dataset.catalogue.titles) == {None}


def test_progress_counts_every_photo(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    draw_wardrobe(WardrobeConfig.tiny(), tmp_path / "world", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 93) for done in range(1, 94)]


def test_a_killed_drawing_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_wardrobe(WardrobeConfig.tiny(), tmp_path / "world", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(DataError, match="will not overwrite"):
        draw_wardrobe(WardrobeConfig.tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


# ---- what is refused


def test_a_folder_without_a_truth_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no wardrobe world"):
        read_truth(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [("truth.json", "{", "damaged"), ("tastes.npy", "", "damaged"), ("truth.json", None, "another version")],
)
def test_a_damaged_truth_is_named(drawn: Wardrobe, tmp_path: Path, file: str, text: str | None, message: str) -> None:
    where = tmp_path / "truth"
    where.mkdir()
    for path in (folder_of(drawn) / "truth").iterdir():
        (where / path.name).write_bytes(path.read_bytes())
    old = (where / file).read_bytes()
    (where / file).write_bytes(old.replace(b"turtle", b"polo") if text is None else text.encode())
    with pytest.raises(DataError, match=message):
        read_truth(tmp_path)


def test_a_world_too_small_for_its_likes_is_refused() -> None:
    with pytest.raises(ValidationError, match="too few"):
        WardrobeConfig.tiny(items_per_category=(16, 2, 8), likes_per_user=(12, 5, 4))


def test_users_who_like_too_few_distinct_outfits_are_refused() -> None:
    config = WardrobeConfig.tiny(items_per_category=(16, 2, 8), likes_per_user=(12, 4, 4), temperature=0.001, noise=0)
    truth, _, splits = make_items(config)
    with pytest.raises(ConfigError, match="more items, or fewer likes"):
        draw_likes(config, truth, splits)


def test_presets_have_the_sizes_they_name() -> None:
    config = WardrobeConfig.polyvore_630()
    assert 3 * config.items_per_category[0] == 159_729
    assert [round(likes * config.num_users) for likes in config.likes_per_user] == [127_326, 12_565, 23_054]
    assert WardrobeConfig.study().items_per_category == (520, 80, 200)
    assert WardrobeConfig.demo(signal=0.5).signal == 0.5
