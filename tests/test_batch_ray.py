"""The Ray engine makes the local engine's bytes, on a real cluster of two workers, one of them killed on the way."""

import sys
from pathlib import Path

import numpy as np
import pytest

from panfit.batch import recommend_all
from panfit.batch_blocks import Plan, describe
from panfit.batch_parts import Block, has_part
from panfit.batch_ray import WriteBlocks
from panfit.errors import MissingExtraError
from panfit.loading import load
from tests.batch_run import make_run
from tests.ray_drivers import drive, needs_ray

NUM_USERS = 61
WORK = """
run, out, cwd = sys.argv[1:]

if __name__ == "__main__":
    from panfit.batch import recommend_all

    os.chdir(cwd)  # workers work elsewhere: relative paths are ours
    parts = lambda: len(list(Path(out + ".partial").glob("[0-9]*.parquet")))
    threading.Thread(target=watch, args=(parts,), daemon=True).start()
    done = []
    report = recommend_all(
        os.path.relpath(run), os.path.relpath(out), top=3, source="composed", engine="ray", workers=2, block_users=1,
        progress=lambda users, total: done.append(users),
    )
    tell(rows=report.rows, done=done)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("ray"), num_users=NUM_USERS)


@needs_ray
def test_a_killed_worker_loses_nothing_and_changes_nothing(run: Path, tmp_path: Path) -> None:
    out, straight = tmp_path / "recs.parquet", tmp_path / "straight.parquet"
    report = drive(WORK, tmp_path, run, out, tmp_path)
    _, parts_then = report["killed"]
    assert 1 <= parts_then < NUM_USERS, "the worker was not killed in the middle"
    assert report["new"], "no worker took the killed one's place"
    assert report["done"] == list(range(NUM_USERS + 1))
    recommend_all(run, straight, top=3, source="composed")
    assert out.read_bytes() == straight.read_bytes()
    assert not Path(f"{out}.partial").exists()


def test_without_ray_the_extra_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"ray is not installed.*panfit\[ray\]"):
        recommend_all(run, tmp_path / "recs.parquet", engine="ray")


def make_plan(run: Path, folder: Path, **other: str) -> Plan:
    job = describe(load(run), ["u0", "u1", "u2"], source="known", top=2).model_copy(update=other)
    return Plan(str(run), None, False, str(folder), job)


def test_an_actor_writes_parts(run: Path, tmp_path: Path) -> None:
    plan = make_plan(run, tmp_path)
    batch = {"number": np.array([4, 7]), "users": np.array([["u0", "u1"], ["u2", "u5"]])}
    assert WriteBlocks(plan)(batch) == {"number": [4, 7], "failure": ["", ""]}
    assert has_part(tmp_path, plan.job, Block(4, ("u0", "u1")))
    assert has_part(tmp_path, plan.job, Block(7, ("u2", "u5")))
    assert not has_part(tmp_path, plan.job, Block(7, ("u2", "u0")))
    assert len(list(tmp_path.iterdir())) == 2


def test_an_actor_tells_what_went_wrong(run: Path, tmp_path: Path) -> None:
    batch = {"number": np.array([4]), "users": np.array([["u0", "u1"]])}
    (failure,) = WriteBlocks(make_plan(run, tmp_path, model="other"))(batch)["failure"]
    assert "has changed since the batch was started" in failure
    (failure,) = WriteBlocks(make_plan(run, tmp_path / "none"))(batch)["failure"]
    assert "No such file" in failure


def test_a_block_that_actors_die_of_is_given_up(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(run, tmp_path)
    batch = {"number": np.array([4]), "users": np.array([["u0", "u1"]])}

    def die(plan: Plan) -> None:
        raise KeyboardInterrupt  # what nobody catches, as a kill

    monkeypatch.setattr("panfit.batch_ray.open_writer", die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            WriteBlocks(plan)(batch)
    (failure,) = WriteBlocks(plan)(batch)["failure"]
    assert "3 workers died of block 4 (users 'u0' to 'u1')" in failure


def test_a_mistake_is_not_a_death(run: Path, tmp_path: Path) -> None:
    """However often the same command is given, and fails: its workers lived."""
    writer = WriteBlocks(make_plan(run, tmp_path, model="other"))
    batch = {"number": np.array([4]), "users": np.array([["u0", "u1"]])}
    for _ in range(5):
        assert "has changed since" in writer(batch)["failure"][0]
    assert not list(tmp_path.iterdir())
