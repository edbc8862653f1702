"""A batch says what the recommender says, user by user; the same bytes however the work is divided or interrupted."""

import errno
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from panfit import batch_blocks, batch_local, batch_parts
from panfit.baselines.siamese import SiameseNet
from panfit.batch import recommend_all
from panfit.batch_blocks import Plan
from panfit.batch_parts import Block, partial_folder
from panfit.data.folder import read_dataset
from panfit.errors import CheckpointError, DataError, PanfitError, UnknownIdError
from panfit.features.inputs import ItemInputs, KeptMaps
from panfit.loading import load
from panfit.recommend import Recommender
from tests.batch_run import NUM_USERS, make_run
from tests.rivals import build


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("batch"))


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of top 4, straight through."""
    out = tmp_path_factory.mktemp("whole") / "recs.parquet"
    recommend_all(run, out, top=4, block_users=NUM_USERS)
    return out.read_bytes()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "recs.parquet"


def stop_after(users: int) -> Callable[[int, int], None]:
    """A progress that interrupts as Ctrl-C does, once so many users are done."""

    def progress(done: int, total: int) -> None:
        if done >= users:
            raise KeyboardInterrupt

    return progress


def interrupt(run: Path, out: Path, *, users: int = 4, block_users: int = 2, **options: Any) -> Path:
    """Begin top 4 and stop; returns the folder of parts."""
    with pytest.raises(KeyboardInterrupt):
        recommend_all(run, out, top=4, block_users=block_users, progress=stop_after(users), **options)
    assert not out.exists()
    return partial_folder(out)


def parts(folder: Path) -> dict[str, int]:
    """The parts that are there, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.glob("*.parquet"))}


# ---- what the file says


@pytest.mark.parametrize("source", ["known", "composed"])
def test_a_row_is_what_the_recommender_says(run: Path, out: Path, source: Any) -> None:
    report = recommend_all(run, out, top=20, source=source, block_users=3)
    recommender = load(run)
    likes = pq.read_table(run.parent / "data" / "outfits.parquet").to_pylist()
    expected: list[dict[str, Any]] = []
    for user in recommender.dataset.user_ids:
        outfits, scores = recommender.recommend(user, top=20, source=source)
        assert len(outfits) == 20
        for rank, (outfit, score) in enumerate(zip(outfits, scores, strict=True), start=1):
            ids = [like["outfit_id"] for like in likes if like["items"] == list(outfit)]
            expected.append(
                {
                    "user_id": user,
                    "rank": rank,
                    "outfit_id": ids[0] if ids else None,
                    "items": list(outfit),
                    "score": pytest.approx(score, abs=1e-5),
                }
            )
    found = pq.read_table(out)
    assert found.to_pylist() == expected
    assert report.rows == len(expected) == 20 * NUM_USERS
    assert (report.users, report.found, report.out) == (NUM_USERS, 0, out)
    known = [row for row in expected if row["outfit_id"] is not None]
    assert len(known) == len(expected) if source == "known" else len(known) < len(expected)
    assert any(None in row["items"] for row in expected) == (source == "known")
    assert not partial_folder(out).exists()


def test_the_metadata_says_of_what_the_file_is(run: Path, out: Path) -> None:
    recommend_all(run, out, top=2)
    job = json.loads(pq.read_schema(out).metadata[b"panfit"])
    dataset = read_dataset(run.parent / "data")
    assert (job["slots"], job["dataset_checksum"], job["dataset"]) == (
        ["top", "bottom", "shoe"],
        dataset.checksum,
        "corner",
    )
    assert (job["top"], job["source"], job["users"], job["method"]) == (2, "known", NUM_USERS, "pan")
    recommender = load(run)
    assert job["model"] == batch_blocks.model_hash(recommender)
    with torch.no_grad():
        next(iter(recommender.pan.parameters())).view(-1)[0] += 1
    assert job["model"] != batch_blocks.model_hash(recommender)


def test_fewer_candidates_than_asked_for(run: Path, out: Path) -> None:
    report = recommend_all(run, out, top=1000, users=["u4"])
    assert 0 < report.rows == len(load(run).recommend("u4", top=1000)[0]) < 1000


def test_users_are_asked_about_once_in_the_data_sets_order(run: Path, out: Path) -> None:
    report = recommend_all(run, out, top=1, users=["u9", "u10", "u2", "u9"])
    assert report.users == 3
    assert pq.read_table(out)["user_id"].to_pylist() == ["u2", "u9", "u10"]


def test_withdrawn_items_are_not_in_it_and_make_it_another_file(run: Path, out: Path, tmp_path: Path) -> None:
    recommender = load(run)
    recommend_all(recommender, out, top=3)
    gone = pq.read_table(out)["items"].to_pylist()[0][0]
    recommender.withdraw([gone])
    with pytest.raises(DataError, match="another file is there"):
        recommend_all(recommender, out, top=3)
    recommend_all(recommender, tmp_path / "other", top=3)
    assert gone not in {item for items in pq.read_table(tmp_path / "other")["items"].to_pylist() for item in items}


# ---- the same bytes


@pytest.mark.parametrize("block_users", [1, 3, 50])
def test_the_size_of_the_blocks_changes_nothing(run: Path, out: Path, whole: bytes, block_users: int) -> None:
    recommend_all(run, out, top=4, block_users=block_users)
    assert out.read_bytes() == whole


def test_threads_and_what_a_recommender_did_before_change_nothing(
    run: Path, out: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = load(run)
    recommender.score("u5", [("top-7", "bottom-3", "shoe-2")])
    recommender.recommend("u2", exclude_known=False)
    threads: list[int] = []
    real = Recommender.recommend

    def answered(self: Recommender, *arguments: Any, **options: Any) -> Any:
        threads.append(torch.get_num_threads())
        return real(self, *arguments, **options)

    monkeypatch.setattr(Recommender, "recommend", answered)
    torch.set_num_threads(2)
    try:
        recommend_all(recommender, out, top=4, block_users=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(threads) == {1}
    assert out.read_bytes() == whole


def test_each_user_is_encoded_afresh(run: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # u3 sees as u2 does and knows other outfits: with u2's codes at hand, only a few of his would be made, in another
    # matrix product, whose rounding could differ from what a worker gets that begins with him.
    encoded: list[int] = []
    real = batch_blocks.BlockWriter._answer

    def answered(self: batch_blocks.BlockWriter, user: str, **options: Any) -> Any:
        coder: Any = self._recommender.scorer.coder  # type: ignore[union-attr]
        if "sorted_codes" not in vars(coder):
            real_codes = coder.sorted_codes

            def counted(eyes: Any, pair_eyes: Any, pair_items: Any, **kinds: Any) -> Any:
                encoded.append(len(pair_items))
                return real_codes(eyes, pair_eyes, pair_items, **kinds)

            monkeypatch.setattr(coder, "sorted_codes", counted)
        before = len(encoded)
        found = real(self, user, **options)
        assert sum(encoded[before:]) > 20, f"{user} found his codes made"
        return found

    monkeypatch.setattr(batch_blocks.BlockWriter, "_answer", answered)
    recommend_all(run, out, top=4, block_users=4)
    assert encoded


def test_row_groups_do_not_follow_the_blocks(run: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_parts, "GROUP_ROWS", 7)
    recommend_all(run, out, top=4, block_users=4)
    groups = pq.ParquetFile(out).metadata
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [7] * 6 + [2]
    first = out.read_bytes()
    out.unlink()
    recommend_all(run, out, top=4, block_users=1)
    assert out.read_bytes() == first


def test_several_processes_one_of_them_killed_make_the_same(run: Path, out: Path, whole: bytes) -> None:
    killed: list[int] = []

    def progress(done: int, total: int) -> None:
        if 0 < done < total and not killed:
            victim = multiprocessing.active_children()[0]
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)

    report = recommend_all(run, out, top=4, block_users=1, workers=2, progress=progress)
    assert killed
    assert report.found == 0
    assert out.read_bytes() == whole
    assert multiprocessing.active_children() == []


# ---- interrupted and gone on with


def test_interrupted_and_gone_on_with_is_straight_through(run: Path, out: Path, whole: bytes) -> None:
    folder = interrupt(run, out)
    before = parts(folder)
    assert list(before) == ["000000.parquet", "000001.parquet"]
    interrupt(run, out, users=6)
    assert before.items() <= parts(folder).items()  # what is done is not done again
    told: list[tuple[int, int]] = []
    report = recommend_all(run, out, top=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, NUM_USERS) for done in (6, 8, 10, 11)]  # blocks stay as they were begun
    assert report.found == 6
    assert out.read_bytes() == whole
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("how", ["cut", "flipped", "foreign", "other users"])
def test_a_damaged_part_is_made_again(run: Path, out: Path, whole: bytes, tmp_path: Path, how: str) -> None:
    folder = interrupt(run, out)
    part = folder / "000001.parquet"
    content = bytearray(part.read_bytes())
    if how == "cut":
        part.write_bytes(content[:-9])
    elif how == "flipped":
        content[content.index(b"top-")] ^= 1
        part.write_bytes(content)
    elif how == "foreign":
        recommend_all(run, tmp_path / "other", top=3, users=["u2", "u3"])
        part.write_bytes((tmp_path / "other").read_bytes())
    else:
        part.write_bytes((folder / "000000.parquet").read_bytes())
    report = recommend_all(run, out, top=4)
    assert report.found == 2
    assert out.read_bytes() == whole


def test_what_a_kill_left_is_swept(run: Path, out: Path, whole: bytes) -> None:
    folder = partial_folder(out)
    folder.mkdir()
    (folder / ".manifest.json.123").write_bytes(b"{")
    recommend_all(run, out, top=4)
    assert out.read_bytes() == whole
    assert not folder.exists()
    folder.mkdir()  # killed after the file was there, and before the parts were gone
    (folder / "000000.parquet").write_bytes(whole)
    assert recommend_all(run, out, top=4).found == NUM_USERS
    assert not folder.exists()


def test_another_batch_does_not_go_on_with_these_parts(run: Path, out: Path) -> None:
    folder = interrupt(run, out)
    before = parts(folder)
    with pytest.raises(DataError, match=r"differ in top: 4 there, 3 here\. Throw them away .*--restart"):
        recommend_all(run, out, top=3)
    with pytest.raises(DataError, match="differ in users: 11 there, 1 here; user_ids"):
        recommend_all(run, out, top=4, users=["u1"])
    recommender = load(run)
    with torch.no_grad():
        next(iter(recommender.pan.parameters())).view(-1)[0] += 1
    with pytest.raises(DataError, match="differ in model"):
        recommend_all(recommender, out, top=4)
    assert parts(folder) == before
    report = recommend_all(run, out, top=3, restart=True)
    assert (report.found, report.rows) == (0, 3 * NUM_USERS)


def test_a_folder_of_other_things_is_left_alone(run: Path, out: Path) -> None:
    folder = partial_folder(out)
    folder.mkdir()
    (folder / "letter.txt").write_text("mine", "utf-8")
    for restart in (False, True):
        with pytest.raises(DataError, match="wanted an empty folder or a batch's parts"):
            recommend_all(run, out, restart=restart)
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_a_finished_file_stays_and_another_is_replaced_only_when_asked(run: Path, out: Path, whole: bytes) -> None:
    recommend_all(run, out, top=4)
    written = out.stat().st_mtime_ns
    report = recommend_all(run, out, top=4)
    assert (report.found, report.rows) == (NUM_USERS, 4 * NUM_USERS)
    assert out.stat().st_mtime_ns == written
    with pytest.raises(DataError, match="--overwrite"):
        recommend_all(run, out, top=2)
    assert out.read_bytes() == whole
    with pytest.raises(KeyboardInterrupt):
        recommend_all(run, out, top=2, overwrite=True, block_users=2, progress=stop_after(2))
    assert out.read_bytes() == whole  # until the new one is whole
    assert recommend_all(run, out, top=2, overwrite=True).found == 2
    assert pq.read_metadata(out).num_rows == 2 * NUM_USERS
    out.write_text("a letter", "utf-8")
    with pytest.raises(DataError, match="another file is there"):
        recommend_all(run, out, top=2)


def test_two_batches_do_not_fill_one_folder(run: Path, out: Path) -> None:
    with (
        batch_parts.held(partial_folder(out)),
        pytest.raises(DataError, match="another batch is filling it now"),
    ):
        recommend_all(run, out)


def test_a_full_disk_loses_nothing(run: Path, out: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 4:  # the manifest and two parts have been written
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="the disk is full: make room and run again"):
        recommend_all(run, out, top=4, block_users=2)
    assert not [path for path in partial_folder(out).iterdir() if path.name.startswith(".")]
    assert recommend_all(run, out, top=4).found == 4
    assert out.read_bytes() == whole


# ---- mistakes


def test_all_unknown_users_are_named(run: Path, out: Path) -> None:
    with pytest.raises(UnknownIdError, match=r"'corner' lacks 2 of the 3 users: 'ann', 'bob'$"):
        recommend_all(run, out, users=["ann", "u3", "bob"])
    with pytest.raises(DataError, match="nobody"):
        recommend_all(run, out, users=[])
    with pytest.raises(TypeError):
        recommend_all(run, out, users="u3")
    assert list(out.parent.iterdir()) == []


def test_places_where_no_file_can_be(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        recommend_all(run, tmp_path / "none" / "recs.parquet")
    with pytest.raises(DataError, match="a folder is there"):
        recommend_all(run, tmp_path)


def test_refuses_what_makes_no_sense(run: Path, out: Path) -> None:
    below: list[dict[str, Any]] = [{"top": 0}, {"block_users": 0}, {"workers": 0}]
    for options in below:
        with pytest.raises(ValueError, match="at least 1"):
            recommend_all(run, out, **options)
    recommender = load(run)
    elsewhere: list[dict[str, Any]] = [{"workers": 2}, {"engine": "ray"}, {"data": run}]
    for options in elsewhere:
        with pytest.raises(ValueError, match="name the run folder"):
            recommend_all(recommender, out, **options)


def test_a_rival_recommends_what_is_known_and_composes_nothing(run: Path, out: Path) -> None:
    dataset = read_dataset(run.parent / "data")
    slots = tuple((slot.name, slot.category) for slot in dataset.slots)
    model = build(SiameseNet, "siamese", slots, text_dim=None).float().eval()
    maps = torch.rand(len(dataset.catalogue), *model.shape.input_shape, generator=torch.Generator().manual_seed(1))
    inputs = ItemInputs(
        KeptMaps(maps.numpy(), None),
        torch.from_numpy(dataset.catalogue.category_rows.copy()),
        None,
        model.config.images,
    )
    recommender = Recommender(model, dataset, inputs)
    recommend_all(recommender, out, top=2)
    rows = pq.read_table(out).to_pylist()
    outfits, _ = recommender.recommend("u7", top=2)
    assert [tuple(row["items"]) for row in rows if row["user_id"] == "u7"] == outfits
    with pytest.raises(CheckpointError, match="SiameseNet"):
        recommend_all(recommender, out, source="composed")


# ---- workers that fail


class Deadly(Plan):
    """A plan that kills whoever receives it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def make_plan(run: Path, folder: Path, kind: type[Plan] = Plan, **other: Any) -> Plan:
    recommender = load(run)
    job = batch_blocks.describe(recommender, ["u0", "u1"], source="known", top=2).model_copy(update=other)
    return kind(str(run), None, False, str(folder), job)


def test_a_block_that_workers_die_of_stops_the_batch(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_local, "TRIES", 1)
    plan = make_plan(run, tmp_path, Deadly)
    with pytest.raises(PanfitError, match=r"died of block 5 \(users 'u0' to 'u1'\)"):
        list(batch_local.write_apart(plan, [Block(5, ("u0", "u1"))], workers=1))
    assert multiprocessing.active_children() == []


def test_a_worker_with_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="changed since the batch was started"):
        batch_blocks.open_writer(make_plan(run, tmp_path, model="other"))


def test_what_a_worker_cannot_do_is_told(run: Path, tmp_path: Path) -> None:
    plan = make_plan(run, tmp_path / "none")
    with pytest.raises(PanfitError, match=r"none/\.000000.*No such file.*it goes on"):
        list(batch_local.write_apart(plan, [Block(0, ("u0", "u1"))], workers=1))
