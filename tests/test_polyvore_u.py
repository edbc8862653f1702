"""The released layout of Polyvore-U, written small and read back: value for value, and with every kind of damage."""

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from panfit.data.folder import read_dataset, write_dataset
from panfit.data.polyvore_u import import_polyvore_u
from panfit.data.unpickle import read_vectors_pickle
from panfit.errors import DataError
from panfit.outfits import Dataset, Outfits
from tests.polyvore_layout import CATEGORIES, Layout, write_layout

KIND = {"random": "nega", "hard": "nega_hard"}


@pytest.fixture
def layout(tmp_path: Path, rng: np.random.Generator) -> Layout:
    return write_layout(tmp_path / "polyvore", rng)


def as_written(dataset: Dataset, outfits: Outfits, layout: Layout) -> NDArray[np.int64]:
    """Rows of the data set -> users and indices as the files write them."""
    index_of = {name: index for listed in layout.names.values() for index, name in enumerate(listed)}
    images = dataset.catalogue.images
    columns = [[-1 if row < 0 else index_of[str(images[row])] for row in column] for column in outfits.items.T]
    users = [int(dataset.user_ids[user]) for user in outfits.users]
    return np.array([users, *columns]).T


@pytest.mark.parametrize("subset", ["630", "519", "53", "32"])
def test_every_set_is_read_as_written(
    tmp_path: Path, rng: np.random.Generator, subset: Literal["630", "519", "53", "32"]
) -> None:
    layout = write_layout(tmp_path / "polyvore", rng, subset=subset)

    dataset = import_polyvore_u(layout.root, subset=subset).dataset

    two_tops = subset in ("519", "32")
    assert [slot.name for slot in dataset.slots] == ["top", *(["top2"] if two_tops else []), "bottom", "shoe"]
    assert [slot.category for slot in dataset.slots] == ["top", *(["top"] if two_tops else []), "bottom", "shoe"]
    assert dataset.catalogue.images == tuple(name for category in CATEGORIES for name in layout.names[category])
    assert dataset.catalogue.image_root == layout.root / "images" / "291x291"
    for split, outfits in dataset.likes.items():
        np.testing.assert_array_equal(as_written(dataset, outfits, layout), layout.tables[f"tuples_{split}_posi"])
    assert set(dataset.negatives) == {(split, kind) for split in ("val", "test") for kind in KIND}
    for (split, kind), outfits in dataset.negatives.items():
        table = layout.tables[f"tuples_{split}_{KIND[kind]}"]
        np.testing.assert_array_equal(as_written(dataset, outfits, layout), table)
    questions = dataset.fitb["test"]
    assert questions.candidates.shape == (20, 4)
    np.testing.assert_array_equal(
        as_written(dataset, questions.filled(), layout),
        layout.tables["fill_in_blank_test"].reshape(20 * 4, -1),
    )
    assert dataset.text is not None
    assert dataset.text.dtype == np.float32
    for row, name in enumerate(dataset.catalogue.images):
        np.testing.assert_array_equal(dataset.text[row], layout.vectors[str(name)])


def test_the_folder_written_from_it_reads_back_and_keeps_no_pickle(layout: Layout, tmp_path: Path) -> None:
    dataset = import_polyvore_u(layout.root).dataset
    folder = write_dataset(dataset, tmp_path / "dataset", source="polyvore-u")
    again = read_dataset(folder)
    assert dataset.text is not None
    np.testing.assert_array_equal(np.load(folder / "text" / "vectors.npy", allow_pickle=False), dataset.text)
    assert again.catalogue.item_ids == dataset.catalogue.item_ids
    np.testing.assert_array_equal(again.fitb["test"].candidates, dataset.fitb["test"].candidates)
    assert not list(folder.rglob("*.pkl"))


def test_missing_negatives_and_questions_are_drawn_with_the_seed(tmp_path: Path, rng: np.random.Generator) -> None:
    missing = ("tuples_val_nega", "tuples_val_nega_hard", "tuples_test_nega_hard", "fill_in_blank_test")
    layout = write_layout(tmp_path / "polyvore", rng, without=missing, num_items=(40, 41, 42))

    first, same, other = (import_polyvore_u(layout.root, seed=seed).dataset for seed in (3, 3, 4))

    assert len(first.negatives["val", "random"]) == 10 * 15
    assert len(first.negatives["test", "hard"]) == 10 * 20
    assert len(first.fitb["test"]) == 20
    np.testing.assert_array_equal(first.negatives["val", "random"].items, same.negatives["val", "random"].items)
    assert not np.array_equal(first.negatives["val", "random"].items, other.negatives["val", "random"].items)
    np.testing.assert_array_equal(
        as_written(first, first.negatives["test", "random"], layout), layout.tables["tuples_test_nega"]
    )


def test_the_tuples_folder_itself_and_another_photo_folder_do_too(layout: Layout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "photos"
    (layout.root / "images" / "291x291").rename(elsewhere)
    dataset = import_polyvore_u(layout.folder, images=elsewhere).dataset
    assert dataset.catalogue.image_root == elsewhere
    assert dataset.text is not None


def test_without_photos_and_text_the_data_set_has_neither(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    layout = write_layout(tmp_path / "polyvore", rng, text_dim=0, photos=False)
    with caplog.at_level(logging.WARNING, logger="panfit"):
        dataset = import_polyvore_u(layout.root).dataset
    assert set(dataset.catalogue.images) == {None}
    assert dataset.text is None
    assert "no photos" in caplog.text


def test_item_ids_are_stems_and_longer_where_stems_repeat(layout: Layout) -> None:
    assert import_polyvore_u(layout.root).dataset.catalogue.item_ids[0] == layout.names["top"][0].removesuffix(".jpg")
    shared, doubled = layout.names["top"][0], layout.names["shoe"][1]
    lines = [shared, *layout.names["bottom"][1:]]
    (layout.folder / "image_list_bottom").write_text("\n".join(lines))
    (layout.folder / "image_list_shoe").write_text("\n".join([doubled, *layout.names["shoe"][1:]]))

    dataset = import_polyvore_u(layout.root).dataset

    ids = dataset.catalogue.item_ids
    stem, double = shared.removesuffix(".jpg"), doubled.removesuffix(".jpg")
    assert ids[0] == f"top-{stem}"
    assert ids[23] == f"bottom-{stem}"
    assert {f"shoe-{double}-1", f"shoe-{double}-2"} <= set(ids)
    assert dataset.text is not None
    np.testing.assert_array_equal(dataset.text[0], dataset.text[23])


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(layout: Layout) -> None:
    before = import_polyvore_u(layout.root).dataset
    for path in layout.folder.iterdir():
        text = path.read_text()
        path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").rstrip().encode())
    after = import_polyvore_u(layout.root).dataset
    assert before.catalogue.item_ids == after.catalogue.item_ids
    np.testing.assert_array_equal(before.likes["train"].items, after.likes["train"].items)
    np.testing.assert_array_equal(before.fitb["test"].candidates, after.fitb["test"].candidates)


def test_released_sizes_are_expected_and_others_noted(layout: Layout) -> None:
    notes = import_polyvore_u(layout.root).notes
    assert [note.found for note in notes] == ["40 likes", "15 likes", "20 likes"]
    assert "127326" in notes[0].wanted


def replace_line(path: Path, line: int, text: str) -> None:
    """Lines count from 1."""
    lines = path.read_text().split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines))


TRAIN, TEST, FITB = "tuples_train_posi", "tuples_test_posi", "fill_in_blank_test"
MISTAKES = [
    (TRAIN, 5, "0,23,1,1", "top index 23", "0 to 22"),
    (TRAIN, 5, "0,1,-1,1", "bottom index -1", "0 to 18"),
    (TRAIN, 5, "-3,1,1,1", "user -3", "a number from 0"),
    (TRAIN, 5, "0,1,1", "3 columns", "4 columns"),
    (TRAIN, 5, "0,1,1,1,1", "5 columns", "4 columns"),
    (TRAIN, 5, "0,one,1,1", "'one'", "an integer"),
    (TRAIN, 5, "0,1.5,1,1", "'1.5'", "an integer"),
    (TRAIN, 5, "0,,1,1", "''", "an integer"),
    (TRAIN, 5, "0,99999999999999999999,1,1", "'99999999999999999999'", "an integer"),
    (TEST, 4, "77,1,1,1", "user 77, who is not in tuples_train_posi", "users with train likes"),
    ("tuples_val_nega", 6, "77,1,1,1", "user 77, who is not in tuples_val_posi", "users with likes in the split"),
    (FITB, 3, "0,1,2,3,0,4,2,3,0,4,5,3,0,6,2,3", "candidates that differ in several slots", "candidates that differ"),
    (FITB, 3, "0,1,2,3,0,1,2,3,0,1,2,3,0,1,2,3", "the same outfit in every place", "candidates that differ"),
    (FITB, 3, "0,1,2,3,0,4,2,3,1,5,2,3,0,6,2,3", "candidates of several users", "one user a line"),
    (FITB, 3, "0,1,2,3,0,4,2,3,0,5,2,3,0,6,2,17", "shoe index 17", "0 to 16"),
    (FITB, 3, "77,1,2,3,77,4,2,3,77,5,2,3,77,6,2,3", "user 77, who is not in tuples_test_posi", "users with test"),
]


@pytest.mark.parametrize(("name", "line", "text", "found", "wanted"), MISTAKES)
def test_a_bad_row_is_named_and_can_be_left_out(
    layout: Layout, name: str, line: int, text: str, found: str, wanted: str
) -> None:
    replace_line(layout.folder / name, line, text)

    with pytest.raises(DataError) as caught:
        import_polyvore_u(layout.root)
    (problem,) = caught.value.problems
    assert (problem.file, problem.row) == (str(layout.folder / name), line)
    assert problem.found == found
    assert problem.wanted.startswith(wanted)
    assert "--skip-bad" in problem.remedy

    report = import_polyvore_u(layout.root, skip_bad=True)
    assert report.skipped == (problem,)
    kept = {
        TRAIN: len(report.dataset.likes["train"]),
        TEST: len(report.dataset.likes["test"]),
        FITB: len(report.dataset.fitb["test"]),
        "tuples_val_nega": len(report.dataset.negatives["val", "random"]),
    }
    assert kept[name] == len(layout.tables[name]) - 1


def test_all_problems_of_all_files_are_told_at_once(layout: Layout) -> None:
    replace_line(layout.folder / TRAIN, 5, "0,23,1,1")
    replace_line(layout.folder / TRAIN, 8, "0,x,1,1")
    replace_line(layout.folder / FITB, 3, "0,1,2,3,0,4,2,3,0,5,2,3,0,6,2,17")
    (layout.root / "images" / "291x291" / layout.names["shoe"][2]).unlink()
    (layout.root / "images" / "291x291" / layout.names["top"][3]).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        import_polyvore_u(layout.root)
    places = {(Path(problem.file).name, problem.row) for problem in caught.value.problems}
    wanted = {(TRAIN, 5), (TRAIN, 8), (FITB, 3), ("image_list_shoe", 3), ("image_list_top", 4)}
    assert places == wanted


def test_what_hangs_on_an_item_that_is_left_out_goes_with_it(layout: Layout) -> None:
    (layout.root / "images" / "291x291" / layout.names["bottom"][4]).unlink()
    report = import_polyvore_u(layout.root, skip_bad=True)
    assert len(report.dataset.catalogue) == 23 + 19 + 17 - 1
    for split, outfits in report.dataset.likes.items():
        table = layout.tables[f"tuples_{split}_posi"]
        kept = table[table[:, 2] != 4]
        np.testing.assert_array_equal(as_written(report.dataset, outfits, layout), kept)
    assert report.dataset.text is not None
    assert len(report.dataset.text) == len(report.dataset.catalogue)
    reasons = {problem.wanted for problem in report.skipped}
    assert reasons == {"a file", "an item that was not left out"}


def test_a_user_without_negatives_is_left_out_of_that_split(layout: Layout) -> None:
    table = layout.tables["tuples_test_nega"]
    lines = [",".join(map(str, row)) for row in table[table[:, 0] != 2].tolist()]
    (layout.folder / "tuples_test_nega").write_text("\n".join(["user,top,bottom,shoe", *lines]))
    with pytest.raises(DataError, match="user 2, who is not in tuples_test_nega"):
        import_polyvore_u(layout.root)
    dataset = import_polyvore_u(layout.root, skip_bad=True).dataset
    two = dataset.user_row("2")
    assert two not in dataset.likes["test"].users
    assert two not in dataset.negatives["test", "hard"].users
    assert two not in dataset.fitb["test"].outfits.users
    assert two in dataset.likes["val"].users


@pytest.mark.parametrize("name", [TRAIN, TEST, "image_list_bottom"])
def test_a_missing_file_is_fatal_even_with_skip_bad(layout: Layout, name: str) -> None:
    (layout.folder / name).unlink()
    with pytest.raises(DataError, match="no such file"):
        import_polyvore_u(layout.root, skip_bad=True)


@pytest.mark.parametrize("contents", ["", "user,top,bottom,shoe\n"])
def test_an_empty_file_is_fatal(layout: Layout, contents: str) -> None:
    (layout.folder / "tuples_val_posi").write_text(contents)
    with pytest.raises(DataError, match="tuples_val_posi"):
        import_polyvore_u(layout.root, skip_bad=True)


def test_the_files_of_another_set_are_told_apart_by_their_header(tmp_path: Path, rng: np.random.Generator) -> None:
    layout = write_layout(tmp_path / "polyvore", rng, subset="519")
    layout.folder.rename(layout.root / "tuples_630")
    with pytest.raises(DataError, match=r"found the header 'user,top,top,bottom,shoe'.*--subset"):
        import_polyvore_u(layout.root)


def test_a_wrong_folder_says_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder tuples_53"):
        import_polyvore_u(tmp_path, subset="53")
    with pytest.raises(DataError, match="no such folder"):
        import_polyvore_u(tmp_path / "nowhere")


# ---- the sentence vectors


def dump(path: Path, value: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "<f2", "<i8", "|u1", "|b1"])
def test_arrays_of_every_protocol_and_number_type_are_read(tmp_path: Path, protocol: int, dtype: str) -> None:
    vectors = {f"{row}.jpg": (np.arange(6) * row % 2).astype(dtype) for row in range(3)}
    read = read_vectors_pickle(dump(tmp_path / "v.pkl", vectors, protocol))
    assert read.keys() == vectors.keys()
    for name, vector in vectors.items():
        np.testing.assert_array_equal(read[name], vector)


def test_what_python_2_and_numpy_1_wrote_is_read(tmp_path: Path) -> None:
    # {'a.jpg': array([1., 2.], dtype=float32)} as Python 2.7 with numpy 1.x pickles it, protocol 2: str, not bytes
    data = np.array([1, 2], "<f4").tobytes()
    pickled = (
        b"\x80\x02}q\x01U\x05a.jpgq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85"
        b"U\x01b\x87Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02f4K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff"
        b"\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + data + b"tbs."
    )
    path = tmp_path / "v.pkl"
    path.write_bytes(pickled)
    np.testing.assert_array_equal(read_vectors_pickle(path)["a.jpg"], np.array([1, 2], np.float32))


class Mischief:
    """Unpickled, it would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_but_arrays_is_unpickled_and_the_class_is_named(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "made"
    path = dump(tmp_path / "v.pkl", {"a.jpg": np.ones(3), "b.jpg": Mischief(target)}, protocol)
    with pytest.raises(DataError, match=r"wants \w+\.mkdir"):
        read_vectors_pickle(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": np.array(["x", None], object)}, "dtype 'O8'"),
        ({"a": np.array(["x"])}, "dtype 'U1'"),
        ({"a": np.zeros(2, [("x", "<f4")])}, "dtype 'V4'"),
        ({"a": np.ma.masked_array([1.0])}, "_mareconstruct"),
        ({"a": np.ones((2, 2))}, r"shape \(2, 2\)"),
        ({"a": np.float64(3)}, r"shape \(\)"),
        ({"a": [1.0, 2.0]}, "a list"),
        ({"a": {"b": np.ones(2)}}, "a dict"),
        ({3: np.ones(2)}, "the key 3"),
        ([np.ones(2)], "found a list"),
        (np.ones(2), "found a "),
        ({1, 2}, "set"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_vectors_pickle(dump(tmp_path / "v.pkl", value))


def test_lies_about_an_array_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.pkl"
    honest = pickle.dumps({"a": np.arange(4, dtype=np.uint8)}, 3)
    assert honest.count(b"K\x04\x85") == 1  # the shape, (4,)
    path.write_bytes(honest.replace(b"K\x04\x85", b"K\xf0\x85"))
    with pytest.raises(DataError, match="240"):
        read_vectors_pickle(path)


def test_every_cut_and_flipped_byte_of_a_pickle_is_an_error_or_plain_arrays(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "v.pkl"
    data = pickle.dumps({"a.jpg": np.ones(3, np.float32), "b.jpg": np.ones(3, np.float32)}, 2)
    damaged = [data[:end] for end in range(0, len(data), 3)]
    for _ in range(60):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    refused = 0
    for contents in damaged:
        path.write_bytes(contents)
        try:
            read = read_vectors_pickle(path)
        except DataError:
            refused += 1
        else:
            assert all(type(vector) is np.ndarray for vector in read.values())
    assert refused >= len(data) // 3


def test_vectors_that_lack_differ_or_are_not_finite_leave_their_items_out(layout: Layout) -> None:
    short, lacking, wild = layout.names["top"][3], layout.names["bottom"][5], layout.names["shoe"][6]
    vectors: dict[str, NDArray[Any]] = {**layout.vectors, short: np.ones(6, np.float32), wild: np.full(7, np.nan)}
    del vectors[lacking]
    dump(layout.root / "sentence_vector" / "semantic.pkl", vectors)
    with pytest.raises(DataError) as caught:
        import_polyvore_u(layout.root)
    places = {(Path(problem.file).name, problem.row) for problem in caught.value.problems}
    assert places == {("image_list_top", 4), ("image_list_bottom", 6), ("image_list_shoe", 7)}
    dataset = import_polyvore_u(layout.root, skip_bad=True).dataset
    assert not {short, lacking, wild} & set(dataset.catalogue.images)
    assert dataset.text is not None
    assert dataset.text.shape == (23 + 19 + 17 - 3, 7)


def test_vectors_of_other_photos_are_refused(layout: Layout) -> None:
    dump(layout.root / "sentence_vector" / "semantic.pkl", {"other.jpg": np.ones(3)})
    with pytest.raises(DataError, match="names none of the items"):
        import_polyvore_u(layout.root)
