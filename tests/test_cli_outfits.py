"""`panfit complete`, `compose` and `similar`: what they print is what the library says; mistakes are one message."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import panfit
from panfit.answers import Answer
from panfit.data.wardrobe import WardrobeConfig, draw_wardrobe
from panfit.ids import OutfitIds
from tests.test_cli import SETTINGS, call


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wardrobe and a run on it."""
    folder = tmp_path_factory.mktemp("outfits")
    draw_wardrobe(WardrobeConfig.tiny(), folder / "data")
    (folder / "config.toml").write_text(SETTINGS, "utf-8")
    call("train", folder / "config.toml", "--data", folder / "data", "--out", folder / "run", "--quiet")
    return folder


@pytest.fixture(scope="module")
def recommender(world: Path) -> panfit.Recommender:
    return panfit.load(world / "run")


def outfits_of(stdout: str) -> list[tuple[OutfitIds, float]]:
    return [(tuple(row["items"]), row["score"]) for row in json.loads(stdout)["outfits"]]


def assert_same(stdout: str, answer: Answer) -> None:
    found = outfits_of(stdout)
    assert [items for items, _ in found] == answer[0]
    assert [score for _, score in found] == pytest.approx(answer[1].tolist())


def test_complete_prints_what_the_library_says(world: Path, recommender: panfit.Recommender) -> None:
    user = recommender.dataset.user_ids[1]
    top, bottom, _ = recommender.dataset.catalogue.ids(recommender.dataset.likes["test"].items[0].tolist())
    given = {"top": str(top), "bottom": str(bottom)}
    answer = recommender.complete(user, given, 3)
    outfits = answer[0]
    options = ["--user", user, "--item", f"top={top}", "--item", f"bottom = {bottom}", "--top", "3"]
    stdout, _ = call("complete", world / "run", *options, "--json")
    assert_same(stdout, answer)
    stdout, _ = call("complete", world / "run", *options)
    assert f"outfits for {user}" in stdout
    assert str(outfits[0][2]) in stdout
    stdout, _ = call("complete", world / "run", *options, "--exclude", str(outfits[0][2]), "--json")
    assert outfits_of(stdout)[0][0] == outfits[1]
    stdout, _ = call("complete", world / "run", "--user", user, "--with", f"top={top}", "--slot", "shoe", "--json")
    assert all(items[1] is None for items, _ in outfits_of(stdout))
    assert len(outfits_of(stdout)) == 10


def test_a_users_table_is_made_once_for_all_commands(world: Path, recommender: panfit.Recommender) -> None:
    user = recommender.dataset.user_ids[3]
    given = f"shoe={recommender.dataset.catalogue.ids(recommender.dataset.likes['test'].items[0].tolist())[2]}"
    before = set((world / "run" / "codes").rglob("*.safetensors"))
    first, _ = call("complete", world / "run", "--user", user, "--item", given, "--json")
    written = set((world / "run" / "codes").rglob("*.safetensors")) - before
    assert written
    inodes = {path: path.stat().st_ino for path in written}
    again, _ = call("complete", world / "run", "--user", user, "--item", given, "--json")
    assert again == first
    assert {path: path.stat().st_ino for path in written} == inodes  # not written again
    (table,) = (path for path in written if path.name != "items.safetensors")
    table.write_bytes(table.read_bytes()[:-1] + b"?")
    _, stderr = call("complete", world / "run", "--user", user, "--item", given, status=2)
    assert "Remove it, it is made again" in stderr
    table.unlink()
    assert call("complete", world / "run", "--user", user, "--item", given, "--json")[0] == first


def test_a_catalogue_that_has_changed_is_taken_where_asked(world: Path, recommender: panfit.Recommender) -> None:
    today = world / "today"
    if not today.exists():
        dataset = recommender.dataset
        likes = {**dataset.likes, "test": dataset.likes["test"].take(np.arange(3))}
        panfit.write_dataset(dataclasses.replace(dataset, likes=likes, negatives={}, fitb={}), today, source="test")
    user = recommender.dataset.user_ids[0]
    _, stderr = call("recommend", world / "run", "--user", user, "--data", today, status=2)
    assert "--allow-changed" in stderr
    stdout, _ = call("recommend", world / "run", "--user", user, "--data", today, "--allow-changed", "--json")
    assert outfits_of(stdout)


def test_photos_are_scored_from_the_command_line(world: Path, recommender: panfit.Recommender) -> None:
    catalogue, user = recommender.dataset.catalogue, recommender.dataset.user_ids[0]
    rows = recommender.dataset.likes["test"].items[0].tolist()
    files = [str(catalogue.image_root / str(catalogue.images[row])) for row in rows]
    stdout, _ = call("score", world / "run", "--user", user, "--photo", ",".join(files), "--json")
    ((items, value),) = outfits_of(stdout)
    assert items == tuple(files)
    assert value == pytest.approx(float(recommender.score(user, [[Path(file) for file in files]])[0]))
    shown, _ = call("score", world / "run", "--user", user, "--photo", f"{files[0]},,{files[2]}")
    assert "outfits for" in shown
    _, stderr = call("score", world / "run", "--user", user, status=2)
    assert "no outfit is given" in stderr
    _, stderr = call("score", world / "run", "--user", user, "--photo", f"{world}/config.toml,,", status=2)
    assert "config.toml" in stderr


def test_compose_from_ones_own_wardrobe(world: Path, recommender: panfit.Recommender, tmp_path: Path) -> None:
    user = recommender.dataset.user_ids[0]
    mine = [str(item) for row in recommender.dataset.likes["train"].items[:4].tolist() for item in
            recommender.dataset.catalogue.ids(row)]  # fmt: skip
    (tmp_path / "wardrobe.txt").write_text("# mine\n\n" + "\n".join(f" {item} " for item in mine) + "\n", "utf-8")
    answer = recommender.compose(user, 4, among=mine, repeat=1)
    options = ["--user", user, "--from", str(tmp_path / "wardrobe.txt"), "--top", "4", "--repeat", "1"]
    stdout, _ = call("compose", world / "run", *options, "--json")
    assert_same(stdout, answer)
    assert {item for items, _ in outfits_of(stdout) for item in items} <= set(mine)
    stdout, _ = call("compose", world / "run", "--user", user, "--json")
    assert len(outfits_of(stdout)) == 5


def test_prepared_prototypes_and_two_stages(world: Path, recommender: panfit.Recommender) -> None:
    stdout, _ = call("prepare", world / "run", "--prototypes", "2")
    assert "3 tables of 93 items" in stdout
    user = recommender.dataset.user_ids[0]
    exact, _ = call("compose", world / "run", "--user", user, "--search", "exact", "--json")
    narrowed, _ = call("compose", world / "run", "--user", user, "--search", "two-stage", "--json")
    assert narrowed == exact  # so few items are all on the shortlist


def test_similar_users_and_items(world: Path, recommender: panfit.Recommender) -> None:
    user, item = recommender.dataset.user_ids[2], recommender.dataset.catalogue.item_ids[5]
    stdout, _ = call("similar", world / "run", "--user", user, "--top", "3", "--json")
    ids, likeness = recommender.similar_users(user, 3)
    found = json.loads(stdout)["users"]
    assert [(row["id"], row["likeness"]) for row in found] == list(zip(ids, likeness.tolist(), strict=True))
    stdout, _ = call("similar", world / "run", "--user", user, "--item", item, "--json")
    ids, likeness = recommender.similar_items(user, item)
    found = json.loads(stdout)["items"]
    assert [(row["id"], row["likeness"]) for row in found] == list(zip(ids, likeness.tolist(), strict=True))
    stdout, _ = call("similar", world / "run", "--user", user, "--item", item)
    assert f"items like {item}, to {user}" in stdout
    assert ids[0] in stdout
    assert "users like" in call("similar", world / "run", "--user", user)[0]


def test_a_newcomer_goes_wherever_a_user_does(world: Path, recommender: panfit.Recommender, tmp_path: Path) -> None:
    rows = recommender.dataset.likes["train"].items[:4].tolist()
    outfits = [",".join(map(str, recommender.dataset.catalogue.ids(row))) for row in rows]
    (tmp_path / "likes.txt").write_text("# liked\n" + "\n".join(outfits[1:3]) + "\n", "utf-8")
    me = tmp_path / "me.json"
    options = ["--like", outfits[0], "--likes", str(tmp_path / "likes.txt"), "--dislike", outfits[3], "--name", "ann"]
    stdout, _ = call("newcomer", world / "run", *options, "--out", me)
    assert "ann: 3 like(s), 1 dislike(s)" in stdout
    made = recommender.newcomer([outfit.split(",") for outfit in outfits[:3]], [outfits[3].split(",")], name="ann")
    stdout, _ = call("recommend", world / "run", "--newcomer", me, "--top", "4", "--json")
    assert json.loads(stdout)["user"] == "ann"
    assert_same(stdout, recommender.recommend(made, 4))
    assert not {",".join(map(str, items)) for items, _ in outfits_of(stdout)} & set(outfits)
    stdout, _ = call("recommend", world / "run", "--newcomer", me, "--source", "composed", "--json")
    assert_same(stdout, recommender.recommend(made, source="composed"))
    stdout, _ = call("score", world / "run", "--newcomer", me, "--outfit", outfits[0], "--json")
    assert outfits_of(stdout)[0][1] == pytest.approx(float(recommender.score(made, [outfits[0].split(",")])[0]))
    later = tmp_path / "later.json"
    stdout, _ = call("newcomer", world / "run", "--since", me, "--like", outfits[0], "--out", later, "--json")
    told = json.loads(stdout)
    assert (told["newcomer"], told["likes"], told["dislikes"]) == ("ann", 3, 1)
    assert len(told["nearest_users"]) == 3
    stdout, _ = call("newcomer", world / "run", "--out", tmp_path / "nobody.json", "--json")  # nothing known
    assert json.loads(stdout)["likes"] == 0
    for arguments, message in (
        (["--like", outfits[0], "--dislike", outfits[0], "--out", str(later)], "both liked and disliked"),
        (["--like", "top-1,what", "--out", str(later)], "1 outfit(s) do not fit the slots"),
        (["--like", outfits[0], "--out", str(tmp_path / "nowhere" / "me.json")], "there is no folder"),
        (["--since", str(world / "config.toml"), "--out", str(later)], "damaged"),
    ):
        assert message in " ".join(call("newcomer", world / "run", *arguments, status=2)[1].split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["complete", "--item", "top=t"], "name whom to ask about: --user ID, or --newcomer FILE"),
        (["complete", "--user", "nobody", "--item", "top=t"], "has no user 'nobody'"),
        (["complete", "--user", "u1", "--item", "topt"], "--item: found 'topt'; wanted SLOT=ID"),
        (["complete", "--user", "u1", "--item", "top=a", "--item", "top=b"], "'top=b', a second item for the slot"),
        (["complete", "--user", "u1", "--item", "hat=t"], "has no slot 'hat'; its slots: top, bottom, shoe"),
        (["complete", "--user", "u1", "--item", "top=t"], "has no item 't'"),
        (["compose", "--user", "u1", "--from", "nowhere.txt"], "nowhere.txt: No such file"),
        (["compose", "--user", "u1", "--from", "empty.txt"], "empty.txt: names no item"),
        (["compose", "--user", "u1", "--from", "bytes.txt"], "bytes.txt: not a text file"),
        (["similar", "--user", "u1", "--newcomer", "me.json"], "not both"),
    ],
)
def test_mistakes_are_one_message(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n\n", "utf-8")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    stdout, stderr = call(arguments[0], world / "run", *arguments[1:], status=2)
    assert message in " ".join(stderr.split())
    assert "Traceback" not in stderr
    assert stdout == ""
