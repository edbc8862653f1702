"""A shop's own tables: what is good is read, and all that is bad is told at once, with its file and line."""

import csv
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from panfit.data.findings import ImportReport
from panfit.data.folder import counts
from panfit.data.table import EVERYBODY, import_table
from panfit.errors import DataError, Problem
from panfit.outfits import ABSENT, SPLITS, Dataset, Slot
from tests.shop import COUNTS, USERS, append, edit, likes_rows, make_shop, read_csv, write_csv


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_shop(tmp_path / "shop")


def problems_of(shop: Path, **options: object) -> list[Problem]:
    with pytest.raises(DataError) as caught:
        import_table(shop, **options)  # type: ignore[arg-type]
    assert all(problem.wanted and problem.remedy for problem in caught.value.problems)
    return list(caught.value.problems)


def the_problem(shop: Path, **options: object) -> Problem:
    problems = problems_of(shop, **options)
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def place(problem: Problem) -> tuple[str, int | None]:
    return Path(problem.file).name, problem.row


def likes_in_words(dataset: Dataset) -> set[tuple[str | None, ...]]:
    return {
        (dataset.user_ids[user], *dataset.catalogue.ids(items), split)
        for split in SPLITS
        for user, items in zip(dataset.likes[split].users.tolist(), dataset.likes[split].items.tolist(), strict=True)
    }


def add_fixed(shop: Path) -> None:
    """negatives.csv (2 a like of val and test), negatives_hard.csv (1 a like), fitb.csv (1 question a test like)."""
    likes = likes_rows()
    liked = {tuple(row[:4]) for row in likes}
    rng = np.random.default_rng(8)
    files: dict[str, list[list[str]]] = {"negatives": [], "negatives_hard": []}
    questions: list[list[str]] = []
    for row in likes:
        user, _, bottom, shoe, split = row
        if split == "train":
            continue
        for name, count in (("negatives", 2), ("negatives_hard", 1)):
            while count:
                drawn = [f"top-{rng.integers(7)}", f"bottom-{rng.integers(6)}", f"shoe-{rng.integers(5)}"]
                if (user, *drawn) not in liked:
                    files[name].append([user, *drawn, split])
                    count -= 1
        if split == "test":
            number = str(len(questions) // 4)
            others = [f"top-{index}" for index in range(7) if f"top-{index}" != row[1]][:3]
            outfits = [[user, top, bottom, shoe] for top in (others[0], row[1], *others[1:])]
            questions += [[*outfit, number, str(int(outfit == row[:4]))] for outfit in outfits]
    for name, rows in files.items():
        write_csv(shop / f"{name}.csv", [["user_id", "top", "bottom", "shoe", "split"], *rows])
    write_csv(shop / "fitb.csv", [["user_id", "top", "bottom", "shoe", "question", "answer"], *questions])


# ---- what is good


def test_a_shop_is_read(shop: Path) -> None:
    report = import_table(shop)
    dataset = report.dataset
    assert (report.skipped, report.notes, report.dropped_outfits) == ((), (), 0)
    assert dataset.name == "shop"
    assert dataset.slots == (Slot("top", "top"), Slot("bottom", "bottom"), Slot("shoe", "shoe"))
    assert dataset.user_ids == USERS
    assert likes_in_words(dataset) == set(map(tuple, likes_rows()))
    assert dataset.catalogue.item_ids[:2] == ("top-0", "top-1")
    assert dataset.catalogue.images[1] == "images/top-1.jpg"
    assert dataset.catalogue.titles[7] == "blue bottom"
    assert dataset.catalogue.image_root == shop
    assert counts(dataset)["negatives"] == {
        "val random": 80,
        "val hard": 80,
        "test random": 120,
        "test hard": 120,
    }
    assert set(dataset.fitb) == {"val", "test"}
    assert import_table(shop, name="mine").dataset.name == "mine"


def test_fixed_tables_are_used_as_they_are(shop: Path) -> None:
    add_fixed(shop)
    dataset = import_table(shop, seed=1).dataset
    catalogue = dataset.catalogue
    for name, kind in (("negatives", "random"), ("negatives_hard", "hard")):
        rows = read_csv(shop / f"{name}.csv")[1:]
        for split in ("val", "test"):
            mine = [row[:4] for row in rows if row[4] == split]
            found = dataset.negatives[split, kind]  # type: ignore[index]
            words = [
                [dataset.user_ids[user], *map(str, catalogue.ids(items))]
                for user, items in zip(found.users.tolist(), found.items.tolist(), strict=True)
            ]
            assert words == mine
    questions = dataset.fitb["test"]
    assert len(questions) == 12
    assert questions.blank.tolist() == [0] * 12
    assert questions.answer.tolist() == [1] * 12
    first = read_csv(shop / "fitb.csv")[1:5]
    assert catalogue.ids(questions.candidates[0].tolist()) == tuple(row[1] for row in first)
    assert len(dataset.fitb["val"]) > 0  # the source brings none: drawn


def test_splits_are_drawn_where_there_are_none(shop: Path) -> None:
    write_csv(shop / "likes.csv", [row[:4] for row in read_csv(shop / "likes.csv")])
    datasets = [import_table(shop, seed=seed).dataset for seed in (0, 0, 1)]
    assert likes_in_words(datasets[0]) == likes_in_words(datasets[1])
    assert likes_in_words(datasets[0]) != likes_in_words(datasets[2])
    for split, wanted in (("train", 7), ("val", 1), ("test", 2)):
        assert np.bincount(datasets[0].likes[split].users).tolist() == [wanted] * 4  # type: ignore[index]


def test_item_disjoint_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shop = make_shop(tmp_path / "shop")
    sizes = {"top": 40, "bottom": 30, "shoe": 20}
    items = [[f"{name}-{index}", name, f"images/{name}-1.jpg"] for name, size in sizes.items() for index in range(size)]
    write_csv(shop / "items.csv", [["item_id", "category", "image"], *items])
    rng = np.random.default_rng(0)
    rows = {
        (f"u{rng.integers(3)}", *(f"{name}-{rng.integers(size)}" for name, size in sizes.items())) for _ in range(900)
    }
    write_csv(shop / "likes.csv", [["user_id", "top", "bottom", "shoe"], *map(list, sorted(rows))])
    with caplog.at_level(logging.WARNING, "panfit"):
        report = import_table(shop, item_disjoint=True)
    worn = [set(report.dataset.likes[split].items.ravel().tolist()) for split in SPLITS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not worn[one] & worn[other]
    num_kept = sum(len(report.dataset.likes[split]) for split in SPLITS)
    assert report.dropped_outfits == len(rows) - num_kept > 0
    assert f"{report.dropped_outfits} of {len(rows)} likes dropped" in caplog.text


def test_item_disjoint_contradicts_a_split_column(shop: Path) -> None:
    assert "item-disjoint" in the_problem(shop, item_disjoint=True).found


def test_fixed_negatives_without_splits_of_the_likes(shop: Path) -> None:
    add_fixed(shop)
    write_csv(shop / "likes.csv", [row[:4] for row in read_csv(shop / "likes.csv")])
    names = [Path(problem.file).name for problem in problems_of(shop)]
    assert names == ["negatives.csv", "negatives_hard.csv", "fitb.csv"]


@pytest.mark.parametrize("header", ["top,bottom,top2", "top,bottom,top", "top 1,bottom,top 2", "upper,lower,upper2"])
def test_two_tops_are_two_slots_of_one_category(shop: Path, header: str) -> None:
    rows: list[list[str]] = []
    for number, (user, top, bottom, _, split) in enumerate(likes_rows()):
        second = "" if number % 3 else f"top-{(int(top[4:]) + 1) % 7}"
        rows += [[user, top, bottom, second, split]] * ([user, top, bottom, second] not in [row[:4] for row in rows])
    write_csv(shop / "likes.csv", [["user_id", *header.split(","), "split"], *rows])
    edit(shop / "items.csv", 19, None)
    lines = [line for line in (shop / "items.csv").read_text().splitlines() if "shoe" not in line]
    (shop / "items.csv").write_text("\n".join(lines) + "\n")
    dataset = import_table(shop).dataset
    assert [slot.category for slot in dataset.slots] == ["top", "bottom", "top"]
    assert len({slot.name for slot in dataset.slots}) == 3
    assert dataset.catalogue.categories == ("top", "bottom")
    assert (dataset.likes["train"].items[:, 2] == ABSENT).sum() > 0
    if header == "top,bottom,top":
        assert [slot.name for slot in dataset.slots] == ["top", "bottom", "top2"]


def test_photos_may_lie_elsewhere(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (shop / "images").rename(tmp_path / "photos" / "images")
    assert len(problems_of(shop)) == sum(COUNTS.values())
    assert import_table(shop, image_root=tmp_path / "photos").dataset.catalogue.image_root == tmp_path / "photos"


# ---- ways to write a table


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_every_way_to_write_a_csv(shop: Path, delimiter: str, newline: str, bom: bytes) -> None:
    before = likes_in_words(import_table(shop).dataset)
    for name in ("items", "likes"):
        rows = read_csv(shop / f"{name}.csv")
        text = newline.join(delimiter.join(f" {cell} " for cell in row) for row in rows)
        text += newline * 2 + delimiter * (len(rows[0]) - 1) + newline  # what spreadsheets leave at the end
        (shop / f"{name}.csv").write_bytes(bom + text.encode())
    dataset = import_table(shop).dataset
    assert likes_in_words(dataset) == before
    assert dataset.catalogue.titles[0] == "blue top"


def test_rows_are_counted_as_an_editor_counts(shop: Path) -> None:
    """Quoted line breaks and blank lines count; a form feed or a line separator inside a title does not."""
    lines = (shop / "items.csv").read_text().splitlines()
    lines[1] = 'top-0,top,images/top-0.png,"two\nlines, and a ""quote"""'
    lines[2] = "top-1,top,images/top-1.jpg,a\u2028b\x0cc\x85d"
    lines[4] = "\n" + lines[4]
    lines.append("top-0,top,images/top-0.png,again")
    (shop / "items.csv").write_text("\n".join(lines), "utf-8")
    problem = the_problem(shop)
    assert place(problem) == ("items.csv", len(lines) + 2)
    assert "which row 2 has already" in problem.found
    edit(shop / "items.csv", len(lines) + 2, None)
    titles = import_table(shop).dataset.catalogue.titles
    assert titles[:2] == ('two\nlines, and a "quote"', "a\u2028b\x0cc\x85d")


def to_parquet(shop: Path, name: str, types: dict[str, pa.DataType]) -> None:
    with (shop / f"{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {
        column: pa.array([row[column] or None for row in rows]).cast(types.get(column, pa.string()))
        for column in rows[0]
    }
    pq.write_table(pa.table(columns), shop / f"{name}.parquet")
    (shop / f"{name}.csv").unlink()


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint16(), pa.float64(), pa.large_string()])
def test_ids_that_are_numbers_stay_texts(shop: Path, kind: pa.DataType) -> None:
    for name in ("items", "likes"):
        text = (shop / f"{name}.csv").read_text().replace("images/top-", "images/TOP-")
        for number, category in enumerate(COUNTS, start=1):
            text = text.replace(f"{category}-", f"{number}0")
        text = text.replace("images/20", "images/bottom-").replace("images/30", "images/shoe-")
        (shop / f"{name}.csv").write_text(text.replace("images/TOP-", "images/top-").replace("u", "7"))
    edit(shop / "likes.csv", 1, "user_id,top,bottom,shoe,split")
    edit(shop / "items.csv", 1, "item_id,category,image,title")
    from_csv = import_table_as_numbers(shop)
    ids = dict.fromkeys(("item_id", "user_id", "top", "bottom", "shoe"), kind)
    to_parquet(shop, "items", {**ids, "category": pa.dictionary(pa.int32(), pa.string())})
    to_parquet(shop, "likes", ids)
    from_parquet = import_table_as_numbers(shop)
    assert from_parquet == from_csv


def import_table_as_numbers(shop: Path) -> set[tuple[str | None, ...]]:
    dataset = import_table(shop).dataset
    assert dataset.user_ids == ("71", "72", "73", "74")
    assert dataset.catalogue.item_ids[:2] == ("100", "101")
    return likes_in_words(dataset)


def test_parquet_rows_count_from_one(shop: Path) -> None:
    append(shop / "likes.csv", "u1,top-99,bottom-1,shoe-1,train")
    to_parquet(shop, "likes", {})
    assert place(the_problem(shop)) == ("likes.parquet", 41)


def test_numbers_with_fractions_are_no_ids(shop: Path) -> None:
    rows = pa.table({"user_id": [1.5, 2.0], "top": ["top-0"] * 2, "bottom": ["bottom-1"] * 2})
    pq.write_table(rows, shop / "likes.parquet")
    (shop / "likes.csv").unlink()
    assert "column 'user_id' of type double" in problems_of(shop)[0].found


# ---- tables that are none


@pytest.mark.parametrize("name", ["items", "likes"])
@pytest.mark.parametrize(
    ("content", "row", "found"),
    [
        (b"", None, "an empty file"),
        (b"\xef\xbb\xbf", None, "an empty file"),
        (b" \r\n\n", None, "an empty file"),
        (b",,\n", None, "no header"),
        ("item_id,user_id".encode("utf-16"), None, "UTF-16"),
        (b"item_id,category,image,title,user_id,top,bottom,shoe\n", None, "a header and no rows"),
        (b"item_id,category,image,user_id,item_id,user_id\n1,2,3,4,5,6\n", 1, "twice"),
        (b'item_id,"category', 1, "no row of a CSV"),
        (b"item_id,cat\xe9gory\n", 1, "byte 0xE9 (byte 4 of cell 2)"),
    ],
)
def test_a_file_that_is_no_table(shop: Path, name: str, content: bytes, row: int | None, found: str) -> None:
    (shop / f"{name}.csv").write_bytes(content)
    problem = the_problem(shop)
    assert place(problem) == (f"{name}.csv", row)
    assert found in problem.found


def test_missing_columns_are_named_beside_those_that_are_there(shop: Path) -> None:
    edit(shop / "items.csv", 1, "id,category,picture,title")
    problem = the_problem(shop)
    assert problem.found == "no column item_id, image (there are: 'id', 'category', 'picture', 'title')"
    assert problem.wanted == "the columns item_id, category, image"


def test_missing_files_are_told_beside_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "Items.xlsx").write_text("")
    problems = problems_of(tmp_path)
    assert [problem.wanted for problem in problems] == ["items.csv or items.parquet", "likes.csv or likes.parquet"]
    assert problems[0].found == "only Items.xlsx"


def test_two_files_of_one_table(shop: Path) -> None:
    (shop / "likes.parquet").write_bytes(b"")
    assert the_problem(shop).found == "likes.csv and likes.parquet"


def test_a_parquet_file_that_is_none(shop: Path) -> None:
    (shop / "likes.csv").rename(shop / "likes.parquet")
    problem = the_problem(shop)
    assert place(problem) == ("likes.parquet", None)
    assert "an unreadable file" in problem.found


@pytest.mark.parametrize("option", ["source", "image_root"])
def test_no_folder(shop: Path, option: str) -> None:
    missing = shop / "missing"
    with pytest.raises(DataError, match="no such folder"):
        import_table(missing) if option == "source" else import_table(shop, image_root=missing)


# ---- rows that are bad, each alone: (spoil, file, line, found)

Spoil = Callable[[Path], object]


def add(file: str, line: str) -> Spoil:
    return lambda shop: append(shop / file, line.replace("SHOP", str(shop)))


def again(file: str, line: int, change: Callable[[str], str], *, at: int | None = None) -> Spoil:
    """Put a changed copy of one line at another line, or at the end."""

    def spoil(shop: Path) -> None:
        text = change((shop / file).read_text().split("\n")[line - 1])
        append(shop / file, text) if at is None else edit(shop / file, at, text)

    return spoil


BAD_ROWS: list[tuple[Spoil, str, int | None, str]] = [
    (add("items.csv", "top-0,top,images/top-1.jpg,x"), "items.csv", 20, "item_id 'top-0', which row 2"),
    (add("items.csv", ",top,images/top-1.jpg,x"), "items.csv", 20, "an empty item_id"),
    (add("items.csv", "hat-1,hat,images/top-1.jpg,x"), "items.csv", 20, "category 'hat'"),
    (add("items.csv", "top-9,,images/top-1.jpg,x"), "items.csv", 20, "an empty category"),
    (add("items.csv", "top-9,Top,images/top-1.jpg,x"), "items.csv", 20, "category 'Top'"),
    (add("items.csv", "top-9,top,,x"), "items.csv", 20, "an empty image"),
    (add("items.csv", "top-9,top,images/no.jpg,x"), "items.csv", 20, "no photo at 'images/no.jpg'"),
    (add("items.csv", "top-9,top,images,x"), "items.csv", 20, "no photo at 'images'"),
    (add("items.csv", "top-9,top,../../etc/x.jpg,x"), "items.csv", 20, "path '../../etc/x.jpg'"),
    (add("items.csv", "top-9,top,a/../../x.jpg,x"), "items.csv", 20, "path 'a/../../x.jpg'"),
    (add("items.csv", "top-9,top,SHOP/images/top-1.jpg,x"), "items.csv", 20, "the photo path"),
    (add("items.csv", "top-9,top,images/top-1.jpg"), "items.csv", 20, "3 cells"),
    (add("items.csv", "top-9,top,images/top-1.jpg,x,y"), "items.csv", 20, "5 cells"),
    (add("items.csv", 'top-9,top,"images"/top-1.jpg,x'), "items.csv", 20, "no row of a CSV"),
    (add("items.csv", "top-9,top,images/top-1.jpg,\0x"), "items.csv", 20, "a zero byte in column 'title'"),
    (add("likes.csv", "u1,top-9,bottom-1,shoe-1,train"), "likes.csv", 42, "top 'top-9'"),
    (add("likes.csv", "u1,bottom-1,bottom-2,shoe-1,train"), "likes.csv", 42, "'bottom-1' of category 'bottom'"),
    (add("likes.csv", ",top-1,bottom-1,shoe-1,train"), "likes.csv", 42, "an empty user_id"),
    (add("likes.csv", "u1,,,,train"), "likes.csv", 42, "an outfit without any item"),
    (add("likes.csv", "u1,,bottom-1,shoe-1,dev"), "likes.csv", 42, "split 'dev'"),
    (add("likes.csv", "u1,,bottom-1,shoe-1,"), "likes.csv", 42, "split ''"),
    (again("likes.csv", 4, lambda line: line), "likes.csv", 42, "the like of row 4"),
    (add("likes.csv", "u9,top-1,bottom-1,shoe-1,test"), "likes.csv", 42, "'u9', who has no train"),
]


@pytest.mark.parametrize(("spoil", "file", "line", "found"), BAD_ROWS, ids=[entry[3] for entry in BAD_ROWS])
def test_a_bad_row_is_told_or_left_out(shop: Path, spoil: Spoil, file: str, line: int | None, found: str) -> None:
    good = likes_in_words(import_table(shop).dataset)
    spoil(shop)
    problem = the_problem(shop)
    assert place(problem) == (file, line)
    assert found in problem.found
    report = import_table(shop, skip_bad=True)
    assert report.skipped[0] == problem
    assert likes_in_words(report.dataset) == good


def test_a_cell_that_is_not_utf8(shop: Path) -> None:
    data = (shop / "items.csv").read_bytes().replace(b"blue shoe", "bleu cœur é".encode() + b" \xe9t\xe9")
    (shop / "items.csv").write_bytes(data)
    problems = problems_of(shop)
    assert [place(problem) for problem in problems[:2]] == [("items.csv", 15), ("items.csv", 16)]
    assert problems[0].found == "byte 0xE9 (byte 15 of column 'title'), which is not UTF-8"


def test_a_quotation_mark_that_is_never_closed_is_no_single_row(shop: Path) -> None:
    edit(shop / "likes.csv", 20, '"u2,top-1,bottom-1,shoe-1,train')
    for skip_bad in (False, True):  # leaving it out would lose half the table
        problem = problems_of(shop, skip_bad=skip_bad)[0]
        assert place(problem) == ("likes.csv", 20)
        assert "lines 20 to 4" in problem.found


# ---- photos


def spoil_photo(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("<html>404 not found</html>")
    elif how == "bomb":
        Image.new("1", (5, 5)).save(path, "PNG")
        header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + path.read_bytes()[24:29]
        png = path.read_bytes()
        path.write_bytes(png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "bomb", "missing"])
@pytest.mark.parametrize("name", ["top-0.png", "top-2.jpg"])
def test_bad_photos(shop: Path, how: str, name: str) -> None:
    spoil_photo(shop / "images" / name, how)
    problem = the_problem(shop)
    assert place(problem) == ("items.csv", 2 if name == "top-0.png" else 4)
    assert name in problem.found
    report = import_table(shop, skip_bad=True)
    assert name[:5] not in report.dataset.catalogue.item_ids
    assert len(report.dataset.catalogue) == 17


@pytest.mark.parametrize("name", ["top-0.png", "top-2.jpg"])
def test_photos_whose_end_is_missing(shop: Path, name: str) -> None:
    """The header says all is well; only the end mark is not there."""
    noise = np.random.default_rng(0).integers(0, 256, (70, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(shop / "images" / name)
    assert len(import_table(shop).dataset.catalogue) == 18
    data = (shop / "images" / name).read_bytes()
    (shop / "images" / name).write_bytes(data[: len(data) * 9 // 10])
    assert "truncated" in the_problem(shop).found


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("L", "jpg"), ("CMYK", "jpg"), ("I;16", "png"), ("P", "png"), ("LA", "png"), ("L", "webp"), ("P", "gif")],
)
def test_unusual_photos_are_good(shop: Path, mode: str, ending: str) -> None:
    Image.new(mode, (20, 30)).save(shop / "images" / f"odd.{ending}")
    append(shop / "items.csv", f"top-9,top,images/odd.{ending},x")
    assert len(import_table(shop).dataset.catalogue) == 19


# ---- slots


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("user_id,when,bottom,shoe,split", "a column 'when' without known items"),
        ("user_id,mixed,bottom,shoe,split", "a column 'mixed' with items of 'bottom', 'top'"),
    ],
)
def test_columns_that_are_no_slots(shop: Path, header: str, found: str) -> None:
    rows = likes_rows()
    for number, row in enumerate(rows):
        row[1] = f"2026-01-{number}" if "when" in header else row[1 + number % 2]
    write_csv(shop / "likes.csv", [header.split(","), *rows])
    problem = problems_of(shop)[0]
    assert problem.found == found
    assert "'bottom', 'shoe', 'top'" in problem.wanted


def test_items_without_their_columns(shop: Path) -> None:
    (shop / "items.csv").write_text("name,price\na,1\n", "utf-8")
    problem = the_problem(shop)
    assert place(problem) == ("items.csv", 1)
    assert "no column item_id, category, image (there are: 'name', 'price')" in problem.found


def test_one_slot_is_no_outfit(shop: Path) -> None:
    write_csv(shop / "likes.csv", [["user_id", "top"], ["u1", "top-1"], ["u1", "top-2"], ["u1", "top-3"]])
    assert the_slots_problem(shop) == "one slot column (top)"


def test_a_column_that_is_empty_throughout_is_noted(shop: Path) -> None:
    rows = read_csv(shop / "likes.csv")
    rows = [[*row[:3], "" if number else "shoe", row[4]] for number, row in enumerate(rows)]
    write_csv(shop / "likes.csv", rows)
    report = import_table(shop, skip_bad=True)  # without shoes, some likes are the same
    assert [problem.found for problem in report.notes] == ["the column 'shoe', empty in every row"]
    assert [slot.name for slot in report.dataset.slots] == ["top", "bottom", "shoe"]
    assert not len(report.dataset.split_items("train")[2])


def test_slots_of_one_category_are_noted(shop: Path) -> None:
    splits = ("val", "train", "val", "train", "test", "train", "test")
    likes = [["u1", f"top-{number}", f"top-{(number + 1) % 7}", split] for number, split in enumerate(splits)]
    write_csv(shop / "likes.csv", [["user_id", "top", "top", "split"], *likes])
    write_csv(shop / "items.csv", [row for row in read_csv(shop / "items.csv") if row[1] in ("category", "top")])
    report = import_table(shop)
    assert [problem.found for problem in report.notes] == ["slots of one category only (top)"]


# ---- without users


def drop_users(path: Path) -> None:
    """Take the column user_id, the first, out of a table."""
    write_csv(path, [row[1:] for row in read_csv(path)])


def test_likes_without_users_are_everybodys(shop: Path) -> None:
    drop_users(shop / "likes.csv")
    report = import_table(shop)
    assert [problem.found for problem in report.notes] == ["no column user_id"]
    assert "'everybody'" in report.notes[0].remedy
    dataset = report.dataset
    assert dataset.user_ids == (EVERYBODY,)
    assert sum(map(len, dataset.likes.values())) == len(read_csv(shop / "likes.csv")) - 1
    assert set(dataset.negatives) == {("val", "random"), ("test", "random")}  # hard ones are likes of others


def test_fixed_tables_of_likes_without_users_need_none_either(shop: Path) -> None:
    add_fixed(shop)
    for name in ("likes", "negatives", "fitb"):
        drop_users(shop / f"{name}.csv")
    dataset = import_table(shop, skip_bad=True).dataset
    assert dataset.user_ids == (EVERYBODY,)
    assert len(dataset.negatives["test", "random"])
    assert len(dataset.fitb["test"])


def test_negatives_without_users_are_refused_beside_likes_with_users(shop: Path) -> None:
    add_fixed(shop)
    drop_users(shop / "negatives.csv")
    problem = problems_of(shop)[0]
    assert place(problem) == ("negatives.csv", 1)
    assert problem.found.startswith("no column user_id")


@pytest.mark.parametrize("name", ["customer", "User_ID"])
def test_users_under_another_name_are_not_taken_for_a_slot(shop: Path, name: str) -> None:
    """Even where their ids are those of items, as numbers often are."""
    rows = read_csv(shop / "likes.csv")[1:]
    write_csv(shop / "likes.csv", [[name, "top", "bottom", "shoe", "split"], *(["shoe-1", *row[1:]] for row in rows)])
    problem = the_problem(shop)
    assert place(problem) == ("likes.csv", 1)
    assert problem.found == f"a column {name!r} with items of 'shoe'"
    assert problem.wanted.startswith("user_id")


def the_slots_problem(shop: Path) -> str:
    return next(problem.found for problem in problems_of(shop) if "slot" in problem.found)


# ---- splits


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_without_likes(shop: Path, split: str) -> None:
    rows = [row for row in read_csv(shop / "likes.csv") if row[4] != split]
    write_csv(shop / "likes.csv", rows)
    for skip_bad in (False, True):
        assert problems_of(shop, skip_bad=skip_bad)[0].found == f"no likes with split {split!r}"


def test_too_few_likes_to_split(shop: Path) -> None:
    write_csv(shop / "likes.csv", [["user_id", "top", "bottom"], ["u1", "top-1", "bottom-1"]])
    (shop / "items.csv").write_text(
        "".join(line for line in (shop / "items.csv").read_text().splitlines(True) if "shoe" not in line)
    )
    assert [problem.found for problem in problems_of(shop)] == [
        "no likes left for split 'val'",
        "no likes left for split 'test'",
    ]


# ---- fixed negatives and questions

BAD_FIXED: list[tuple[Spoil, str, int | None, str]] = [
    (add("negatives.csv", "u9,top-1,bottom-1,shoe-1,val"), "negatives.csv", 42, "'u9', who has no val"),
    (add("negatives.csv", "u1,top-1,bottom-1,hat-1,val"), "negatives.csv", 42, "shoe 'hat-1'"),
    (add("negatives.csv", "u1,top-1,bottom-1,shoe-1,dev"), "negatives.csv", 42, "split 'dev'"),
    (add("negatives.csv", ",".join(likes_rows()[6])), "negatives.csv", 42, "a negative that user 'u1'"),
    (add("negatives_hard.csv", "u1,,,,val"), "negatives_hard.csv", 22, "without any item"),
    (add("fitb.csv", "u1,top-1,bottom-1,shoe-1,99,1"), "fitb.csv", 50, "'99' of 1 candidates"),
    (again("fitb.csv", 4, lambda line: line[:-1] + "1", at=4), "fitb.csv", 2, "with 2 answers"),
    (again("fitb.csv", 3, lambda line: line[:-1] + "0", at=3), "fitb.csv", 2, "with 0 answers"),
    (again("fitb.csv", 4, lambda line: line[:-1] + "no", at=4), "fitb.csv", 2, "the answer 'no'"),
    (lambda s: edit(s / "fitb.csv", 4, None), "fitb.csv", 2, "of 3 candidates"),
    (again("fitb.csv", 2, lambda line: line, at=4), "fitb.csv", 2, "repeated candidate"),
    (again("fitb.csv", 2, lambda line: "u2,top-6" + line[8:], at=4), "fitb.csv", 2, "several users"),
]


@pytest.mark.parametrize(("spoil", "file", "line", "found"), BAD_FIXED, ids=[entry[3] for entry in BAD_FIXED])
def test_bad_negatives_and_questions(shop: Path, spoil: Spoil, file: str, line: int | None, found: str) -> None:
    add_fixed(shop)
    good = counts(import_table(shop).dataset)
    spoil(shop)
    problem = the_problem(shop)
    assert place(problem) == (file, line)
    assert found in problem.found
    report = import_table(shop, skip_bad=True)
    assert report.skipped[0] == problem
    after = counts(report.dataset)
    assert after["negatives"] == good["negatives"]
    assert good["fitb"]["test"] - after["fitb"]["test"] == (file == "fitb.csv" and "99" not in found)


def test_candidates_that_differ_in_two_slots(shop: Path) -> None:
    add_fixed(shop)
    user, top, bottom, shoe, question, answer = read_csv(shop / "fitb.csv")[1]
    edit(
        shop / "fitb.csv",
        2,
        ",".join([user, top, "bottom-0" if bottom != "bottom-0" else "bottom-1", shoe, question, answer]),
    )
    assert "differ in 2 slots" in the_problem(shop).found


def test_a_negatives_table_of_other_slots(shop: Path) -> None:
    add_fixed(shop)
    edit(shop / "negatives.csv", 1, "user_id,top,bottom,hat,split")
    problem = the_problem(shop)
    assert place(problem) == ("negatives.csv", 1)
    assert (problem.found, problem.wanted) == ("the columns top, bottom, hat", "the slots top, bottom, shoe")


def test_slots_of_the_negatives_may_stand_in_another_order(shop: Path) -> None:
    add_fixed(shop)
    before = import_table(shop).dataset.negatives["val", "random"].items
    rows = [[row[4], row[3], row[1], row[2], row[0]] for row in read_csv(shop / "negatives.csv")]
    write_csv(shop / "negatives.csv", rows)
    assert np.array_equal(import_table(shop).dataset.negatives["val", "random"].items, before)


def test_a_user_whom_the_negatives_forget(shop: Path) -> None:
    add_fixed(shop)
    rows = [row for row in read_csv(shop / "negatives.csv") if (row[0], row[4]) != ("u3", "test")]
    write_csv(shop / "negatives.csv", rows)
    problem = the_problem(shop)
    assert problem.found == "no test negatives of user 'u3'"
    dataset = import_table(shop, skip_bad=True).dataset
    for outfits in (dataset.likes["test"], dataset.negatives["test", "random"], dataset.negatives["test", "hard"]):
        assert sorted(set(outfits.users.tolist())) == [0, 1, 3]
    assert sorted(set(dataset.likes["val"].users.tolist())) == [0, 1, 2, 3]


def test_a_few_liked_negatives_are_kept_and_noted(shop: Path) -> None:
    """Hard negatives are other people's likes; real exports carry a few that the user likes too."""
    add_fixed(shop)
    rows = read_csv(shop / "negatives.csv")
    write_csv(shop / "negatives.csv", [*rows, *(row for row in rows[1:] for _ in range(4)), likes_rows()[6]])
    report = import_table(shop)
    assert [place(note) for note in report.notes] == [("negatives.csv", 202)]
    assert counts(report.dataset)["negatives"]["val random"] == 16 * 5 + 1
    left_out = import_table(shop, skip_bad=True)
    assert (len(left_out.skipped), left_out.notes) == (1, ())
    assert counts(left_out.dataset)["negatives"]["val random"] == 16 * 5


# ---- all at once, and what hangs on what


def test_all_problems_of_all_files_at_once(shop: Path) -> None:
    add_fixed(shop)
    spoil_photo(shop / "images" / "top-3.jpg", "text")
    append(shop / "items.csv", "top-1,top,images/top-1.jpg,x")
    append(shop / "likes.csv", "u1,top-77,bottom-78,shoe-1,train")
    append(shop / "negatives.csv", "u1,top-1,bottom-1,shoe-1,never")
    append(shop / "negatives_hard.csv", "short")
    append(shop / "fitb.csv", "u1,top-1,bottom-1,shoe-1,0,1")
    files = [Path(problem.file).name for problem in problems_of(shop)]
    assert sorted(files) == sorted(
        ["items.csv"] * 2 + ["likes.csv"] * 2 + ["negatives.csv", "negatives_hard.csv", "fitb.csv"]
    )


def test_what_hangs_on_a_bad_row_is_left_out_with_it(shop: Path) -> None:
    """A photo is bad, so the item goes, its likes go, a user who liked nothing else in train goes, with all he has."""
    add_fixed(shop)
    rows = read_csv(shop / "likes.csv")
    for row in rows[1:]:
        if row[0] == "u2" and row[4] == "train":
            row[1] = "top-5"
    write_csv(shop / "likes.csv", [*rows])
    spoil_photo(shop / "images" / "top-5.jpg", "truncated")
    problems = [problem for problem in problems_of(shop) if "again" not in problem.found]
    assert [place(problem) for problem in problems] == [("items.csv", 7)]  # the root, not its consequences
    report: ImportReport = import_table(shop, skip_bad=True)
    assert report.dataset.user_ids == ("u1", "u3", "u4")
    assert "top-5" not in report.dataset.catalogue.item_ids
    told = [(Path(problem.file).name, problem.found) for problem in report.skipped]
    assert ("likes.csv", "a val like of user 'u2', who has no train likes") in told
    assert ("negatives.csv", "user 'u2', who has no val likes") in told
    assert any(name == "fitb.csv" and "one of whose rows was left out" in found for name, found in told)


def test_nothing_left(shop: Path) -> None:
    for photo in (shop / "images").iterdir():
        photo.unlink()
    assert problems_of(shop, skip_bad=True)[0].found == "no likes left for split 'train'"
