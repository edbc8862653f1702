"""Whatever is asked, together or alone, kept or not: answers are the Recommender's own, to the last bit."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from panfit.answers import Completed, Ranking
from panfit.complete import Unfinished
from panfit.errors import DataError, UnknownIdError
from panfit.explain import Explanation
from panfit.newcomers import Newcomer, User
from panfit.recommend import Recommender
from panfit.serve import engine as engine_module
from panfit.serve.engine import BusyError, Engine
from panfit.serve.kept import Kept
from panfit.serve.queries import (
    Complete,
    Explain,
    Fit,
    Query,
    Ranked,
    Recommend,
    Score,
    ScorePhotos,
    SimilarItems,
    SimilarUsers,
)
from tests.serve.shop_service import USERS, make_recommender, outfit

WAIT_S = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop")


@pytest.fixture
def recommender(folder: Path) -> Recommender:
    return make_recommender(folder)


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.002)


def plain(answer: Any) -> Any:
    """An answer as values that == compares to the last bit."""
    if isinstance(answer, Ranked):
        return answer.outfits, answer.scores.tolist(), answer.general.tolist(), answer.personal.tolist()
    if isinstance(answer, Explanation):
        return answer.to_json()
    if isinstance(answer, Newcomer):
        return answer.name, answer.likes, answer.dislikes, answer.embedding.tolist()
    if isinstance(answer, np.ndarray):
        return answer.tolist()
    if isinstance(answer, Exception):
        return type(answer), str(answer)
    ids, shares = answer
    return ids, shares.tolist()


def drawn_queries(count: int, someone: Newcomer, *, seed: int) -> list[Query]:
    rng = np.random.default_rng(seed)
    photo = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    users: tuple[User, ...] = (*USERS, someone, "nobody at all")
    queries: list[Query] = []
    for _ in range(count):
        user, other = (users[place] for place in rng.integers(0, len(users), 2).tolist())
        top, bottom, shoe = (int(rng.integers(0, most)) for most in (9, 7, 6))
        worn = outfit(top, bottom, shoe)
        given = (("top", str(worn[0])), ("bottom", str(worn[1])))
        choices: list[Query] = [
            Recommend(user, 1 + top),
            Recommend(user, 1 + top, exclude_known=False),
            Recommend(user, 2 + shoe, source="composed"),
            Complete(user, given[: 1 + shoe % 2], 1 + bottom),
            Complete(user, given[:1], 3, repeat=1),
            Complete(user, (("shoe", str(worn[1])),), 3),  # of the wrong slot
            Score(user, (worn, outfit(top, None, shoe))),
            ScorePhotos(user, (photo, worn[1], worn[2])),
            Explain(user, worn, other),
            Fit("new", (worn,)),
            SimilarUsers(user, 1 + shoe),
            SimilarItems(user, str(worn[0]), 1 + shoe),
        ]
        queries.append(choices[int(rng.integers(0, len(choices)))])
    return queries


def answered_alone(query: Query, recommender: Recommender) -> Any:
    try:
        return query.answer(recommender)
    except Exception as error:
        return error


@pytest.mark.parametrize(("batch", "rankings", "answers"), [(1, 0, 0), (5, 1 << 20, 0), (64, 1 << 20, 1 << 20)])
def test_answers_are_those_of_a_loop(
    folder: Path, recommender: Recommender, batch: int, rankings: int, answers: int
) -> None:
    alone = make_recommender(folder)
    for each in (alone, recommender):
        each.compose("ann", 1)  # the trunk sees all items, in the same batches
    someone = recommender.newcomer([outfit(1, 2, 3)], [outfit(4, 5, 1)])
    queries = drawn_queries(36, someone, seed=batch)
    expected = [plain(answered_alone(query, alone)) for query in queries]

    async def ask(engine: Engine) -> tuple[list[Any], list[Any]]:
        together = await asyncio.gather(*(engine.ask(query) for query in queries), return_exceptions=True)
        again = await asyncio.gather(*(engine.ask(query) for query in queries), return_exceptions=True)
        return together, again

    with running(Engine(recommender, batch=batch, rankings_bytes=rankings, answers_bytes=answers)) as engine:
        together, again = asyncio.run(ask(engine))
        assert (engine.kept_bytes > 0) == (rankings > 0)
    assert [plain(answer) for answer in together] == expected
    assert [plain(answer) for answer in again] == expected
    assert any(isinstance(answer, UnknownIdError) for answer in together)
    assert sum(not isinstance(answer, Exception) for answer in together) > 18


@dataclass(frozen=True)
class Blocking(Recommend):
    """Says when it is being answered, and waits until it may be."""

    def answer(self, recommender: Recommender) -> Ranked:
        recommender.begun.set()  # type: ignore[attr-defined]
        assert recommender.may_go.wait(WAIT_S)  # type: ignore[attr-defined]
        return super().answer(recommender)


def block(recommender: Recommender) -> Blocking:
    recommender.begun, recommender.may_go = threading.Event(), threading.Event()  # type: ignore[attr-defined]
    return Blocking("ann", source="composed")


def count_calls(monkeypatch: pytest.MonkeyPatch, recommender: Recommender, name: str) -> list[Any]:
    calls: list[Any] = []
    real = getattr(recommender, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(recommender, name, counted)
    return calls


async def begun(engine: Engine, recommender: Recommender, blocking: Blocking) -> "asyncio.Task[Ranked]":
    task = asyncio.create_task(engine.ask(blocking))
    assert await asyncio.to_thread(recommender.begun.wait, WAIT_S)  # type: ignore[attr-defined]
    return task


async def queued(engine: Engine, query: Query) -> "asyncio.Task[Any]":
    before = engine.num_waiting
    task = asyncio.create_task(engine.ask(query))
    while engine.num_waiting == before:
        await asyncio.sleep(0)
    return task


def test_equal_questions_are_answered_once_and_rankings_are_made_once(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked, completed = (count_calls(monkeypatch, recommender, name) for name in ("rank", "finish"))
    completion = Complete("ann", (("top", "top-0"),), 2)

    async def ask(engine: Engine) -> None:
        blocking = await begun(engine, recommender, block(recommender))
        tasks = [await queued(engine, query) for query in (completion, Recommend("ann", 2), completion)]
        tasks += [await queued(engine, Recommend("ann", 3)), await queued(engine, Recommend("..", 3))]
        before = len(completed)
        recommender.may_go.set()  # type: ignore[attr-defined]
        await blocking
        answers = [await task for task in tasks]
        assert answers[0] is answers[2]
        assert len(ranked) == 2, "ann's, and another's"
        assert await engine.ask(completion) is answers[0]
        assert len(completed) - before == 2, "the blocking one's compose, and the completion"

    with running(Engine(recommender)) as engine:
        asyncio.run(ask(engine))


class Seen:
    """An `Observer` that remembers."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.seconds: list[float] = []

    def batch(self, size: int) -> None:
        self.sizes.append(size)

    def waited(self, seconds: float) -> None:
        self.seconds.append(seconds)


def test_light_completions_are_computed_together_and_mistakes_are_their_own(
    folder: Path, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, seen = make_recommender(folder), Seen()
    for each in (alone, recommender):
        each.compose(["ann", ".."], 1)  # their codes are there, the others' are not
    finished, before = count_calls(monkeypatch, recommender, "finish"), torch.get_num_threads()
    light = [
        Complete(user, (("top", f"top-{top}"), ("shoe", "shoe-3")), 3) for user in ("ann", "..") for top in (0, 3, 4)
    ]
    wrong = Complete("ann", (("shoe", "top-0"), ("top", "top-3")), 3)
    others = [Complete("ann", (("top", "top-0"),), 2), Complete("new-user", (("top", "top-0"), ("shoe", "shoe-3")), 2)]
    queries = [light[0], others[0], wrong, *light[1:], others[1]]

    async def ask(engine: Engine) -> list[Any]:
        blocking = await begun(engine, recommender, block(recommender))
        tasks = [await queued(engine, query) for query in queries]
        recommender.may_go.set()  # type: ignore[attr-defined]
        await blocking
        return await asyncio.gather(*tasks, return_exceptions=True)

    engine = Engine(recommender)
    engine.observer = seen
    with running(engine):
        answers = asyncio.run(ask(engine))
    assert [len(asked) for (asked,) in finished][-3:] == [6, 1, 1]  # before them, whatever held up the engine
    assert isinstance(answers[2], DataError)
    assert [plain(answer) for answer in answers] == [plain(answered_alone(query, alone)) for query in queries]
    assert seen.sizes == [1, 9]
    assert len(seen.seconds) == 10
    assert 0 <= min(seen.seconds) <= max(seen.seconds) < WAIT_S
    assert torch.get_num_threads() == before


def test_what_goes_wrong_together_is_tried_alone(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender.compose(["ann", ".."], 1)
    queries = [Complete(user, (("top", "top-0"), ("shoe", "shoe-3")), 3) for user in ("ann", "..")]
    expected = [plain(query.answer(recommender)) for query in queries]
    real = recommender.finish

    def finish(asked: Sequence[Unfinished]) -> list[Completed]:
        if len(asked) > 1:
            raise OSError("the disk is gone")
        return real(asked)

    monkeypatch.setattr(recommender, "finish", finish)

    async def ask(engine: Engine) -> list[Any]:
        blocking = await begun(engine, recommender, block(recommender))
        tasks = [await queued(engine, query) for query in queries]
        recommender.may_go.set()  # type: ignore[attr-defined]
        await blocking
        return await asyncio.gather(*tasks)

    with running(Engine(recommender)) as engine:
        assert [plain(answer) for answer in asyncio.run(ask(engine))] == expected


def test_questions_of_one_turn_of_the_loop_come_in_one_batch(recommender: Recommender) -> None:
    seen = Seen()
    engine = Engine(recommender, batch=7)
    engine.observer = seen

    async def ask() -> None:
        for _ in range(5):
            await asyncio.gather(*(engine.ask(SimilarUsers("ann", 1 + top)) for top in range(3)))
            engine.forget("ann")
        await asyncio.gather(*(engine.ask(SimilarUsers("ann", 1 + top)) for top in range(16)))

    with running(engine):
        wait_for(lambda: engine.state == "ready")
        asyncio.run(ask())
    assert seen.sizes == [3] * 5 + [7, 7, 2]


def test_whoever_waited_too_long_is_not_answered_any_more(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = count_calls(monkeypatch, recommender, "rank")

    async def ask(engine: Engine) -> None:
        blocking = asyncio.create_task(engine.ask(block(recommender)))
        late = asyncio.create_task(engine.ask(Recommend("ann")))
        found = await asyncio.gather(blocking, late, return_exceptions=True)
        assert [type(each) for each in found] == [BusyError, BusyError]
        recommender.may_go.set()  # type: ignore[attr-defined]

    engine = Engine(recommender, seconds=0.05, batch=1)
    with running(engine):
        wait_for(lambda: engine.state == "ready")
        asyncio.run(ask(engine))
    assert ranked == []


def test_changes_come_in_their_turn_and_nothing_stale_is_answered(folder: Path, recommender: Recommender) -> None:
    other = make_recommender(folder)
    query, completion = Recommend("ann", 4), Complete("ann", (("bottom", "bottom-3"),), 3)
    before = [plain(each.answer(other)) for each in (query, completion)]
    gone = [str(other.recommend("ann", 1)[0][0][0]), str(other.complete("ann", {"bottom": "bottom-3"}, 1)[0][0][0])]
    other.withdraw(gone)
    after = [plain(each.answer(other)) for each in (query, completion)]
    assert before != after

    async def ask(engine: Engine) -> None:
        assert [plain(await engine.ask(query)), plain(await engine.ask(completion))] == before
        blocking = await begun(engine, recommender, block(recommender))
        early = await queued(engine, Recommend("ann", 4, exclude_known=False))
        change = asyncio.create_task(engine.run(lambda recommender: recommender.withdraw(gone)))
        await asyncio.sleep(0)
        late = await queued(engine, Recommend("ann", 5, exclude_known=False))
        recommender.may_go.set()  # type: ignore[attr-defined]
        await asyncio.gather(blocking, change)
        assert any(gone[0] in each for each in (await early).outfits)
        assert not any(gone[0] in each for each in (await late).outfits)
        assert [plain(await engine.ask(query)), plain(await engine.ask(completion))] == after
        with pytest.raises(UnknownIdError, match="no item 'what'"):
            await engine.run(lambda recommender: recommender.withdraw(["what"]))
        await engine.run(lambda recommender: recommender.offer(gone))
        assert [plain(await engine.ask(query)), plain(await engine.ask(completion))] == before

    with running(Engine(recommender)) as engine:
        asyncio.run(ask(engine))


def test_whoever_is_forgotten_leaves_nothing(recommender: Recommender) -> None:
    someone = recommender.newcomer([outfit(1, 2, 3)])

    async def ask(engine: Engine) -> None:
        await engine.ask(Recommend("ann"))
        of_others = engine.kept_bytes
        await engine.ask(Recommend(someone))
        await engine.ask(Explain("ann", outfit(1, 2, 3), someone))
        assert engine.kept_bytes > of_others
        engine.forget(someone)
        assert engine.kept_bytes == of_others

    with running(Engine(recommender)) as engine:
        asyncio.run(ask(engine))


def test_too_many_are_refused_at_once_and_the_cancelled_are_skipped(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = count_calls(monkeypatch, recommender, "rank")

    async def ask(engine: Engine) -> None:
        blocking = await begun(engine, recommender, block(recommender))
        first, second = await queued(engine, Recommend("ann")), await queued(engine, Recommend(".."))
        with pytest.raises(BusyError, match="too many"):
            await engine.ask(Recommend("new-user"))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        recommender.may_go.set()  # type: ignore[attr-defined]
        await blocking
        await second
        assert ranked == [("..",)]

    with running(Engine(recommender, waiting=2)) as engine:
        wait_for(lambda: engine.state == "ready")
        asyncio.run(ask(engine))


def test_who_waits_too_long_is_told(recommender: Recommender) -> None:
    async def ask(engine: Engine) -> None:
        blocking = block(recommender)
        with pytest.raises(BusyError, match=r"within 0\.05 s"):
            await engine.ask(blocking)
        recommender.may_go.set()  # type: ignore[attr-defined]

    with running(Engine(recommender, seconds=0.05)) as engine:
        wait_for(lambda: engine.state == "ready")
        asyncio.run(ask(engine))


def test_stop_answers_what_waits_and_refuses_the_rest(recommender: Recommender) -> None:
    engine = Engine(recommender)
    engine.start()
    engine.start()
    assert sum(thread.name == "engine" for thread in threading.enumerate()) == 1

    async def ask() -> None:
        blocking = await begun(engine, recommender, block(recommender))
        waiting = await queued(engine, Recommend("ann"))
        stopping = asyncio.create_task(asyncio.to_thread(engine.stop))
        while engine.state != "stopped":
            await asyncio.sleep(0)
        with pytest.raises(BusyError, match="stopping"):
            await engine.ask(Recommend(".."))
        recommender.may_go.set()  # type: ignore[attr-defined]
        await stopping
        assert len((await waiting).outfits) == 10
        await blocking

    asyncio.run(ask())
    engine.stop()
    engine.start()
    assert engine.state == "stopped"
    assert not any(thread.name == "engine" for thread in threading.enumerate())


def test_preparing_is_told_and_given_up_when_stopped(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "PATIENCE", 3)
    prepared, may_go, told = threading.Event(), threading.Event(), []

    def prepare(*, progress: Callable[[int, int], None]) -> int:
        progress(3, 22)
        prepared.set()
        assert may_go.wait(WAIT_S)
        progress(4, 22)
        told.append("went on")
        return 1

    monkeypatch.setattr(recommender, "prepare", prepare)
    engine = Engine(recommender)
    assert engine.state == "starting"
    engine.start()
    assert prepared.wait(WAIT_S)
    assert engine.state == "starting"
    assert engine.progress is not None
    assert (engine.progress.done, engine.progress.total) == (3, 22)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    wait_for(lambda: engine.state == "stopped")
    may_go.set()
    stopping.join(WAIT_S)
    assert not stopping.is_alive()
    assert not told


def test_a_failed_preparation_is_told_and_questions_are_answered(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(recommender, "prepare_newcomers", fail)
    with running(Engine(recommender)) as engine:
        wait_for(lambda: engine.state != "starting")
        assert (engine.state, engine.failure) == ("failed", "OSError: the disk is gone")
        assert len(asyncio.run(engine.ask(Recommend("ann", 3))).outfits) == 3


def test_somebodys_first_question_shows_how_far_it_is(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = recommender.rank

    with running(Engine(recommender)) as engine:

        def slow(user: User) -> Ranking:
            assert recommender.progress is not None
            recommender.progress(5, 22)
            seen.append(engine.progress)
            return real(user)

        monkeypatch.setattr(recommender, "rank", slow)
        asyncio.run(engine.ask(Recommend("ann")))
        assert [(work.done, work.total) for work in seen] == [(5, 22)]
        assert engine.progress is None
        assert engine.state == "ready"


def test_what_is_kept_stays_within_its_bound() -> None:
    kept: Kept[str, bytes] = Kept(10, len)
    kept.put("a", b"1234")
    kept.put("b", b"1234")
    assert kept.get("a") == b"1234"
    kept.put("c", b"123456")
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (b"1234", None, b"123456")
    kept.put("d", b"12345678901")
    assert (kept.get("d"), kept.num_bytes, len(kept)) == (None, 10, 2)
    kept.put("a", b"12")
    assert kept.num_bytes == 8
    kept.drop(lambda key: key == "c")
    assert (kept.num_bytes, kept.get("c")) == (2, None)
