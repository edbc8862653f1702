"""LIKES and kill -9: what was acknowledged is there afterwards, whenever the process ended."""

import subprocess
import sys

from panfit.serve.likes import LikesStore

ROUNDS = (1, 8, 23)
"""How many likes a process has acknowledged when it is killed; it goes on meanwhile, so it dies anywhere."""

LIKE = """
import itertools, sys
from panfit.serve.likes import LikesStore
url, newcomer, name = sys.argv[1:]
store = LikesStore(url)
store.open()
for number in itertools.count():
    store.put(newcomer, [(f"{name}-{number}", None)], liked=number % 3 > 0)
    print(f"{name}-{number}", flush=True)
"""


def acknowledged_until_killed(url: str, newcomer: str, name: str, likes: int) -> list[str]:
    process = subprocess.Popen([sys.executable, "-c", LIKE, url, newcomer, name], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(likes)]
    process.kill()  # SIGKILL
    lines += process.stdout.readlines()
    assert process.wait() < 0
    process.stdout.close()
    return [line.strip() for line in lines if line.endswith("\n")]


def test_nothing_acknowledged_is_lost(database: str) -> None:
    store = LikesStore(database)
    store.open()
    newcomer = store.create("Ann").id
    store.close()  # the process that is killed is the only one: nobody else's connection keeps its log
    acknowledged: list[str] = []
    for round_, likes in enumerate(ROUNDS):
        acknowledged += acknowledged_until_killed(database, newcomer, f"round-{round_}", likes)
        assert len(acknowledged) >= sum(ROUNDS[: round_ + 1])
        store.open()
        profile = store.get(newcomer)
        store.close()
        kept = [opinion.outfit[0] for opinion in profile.opinions]
        # A like may be kept whose acknowledgement died with the process: one in each round, and the last of it.
        assert set(acknowledged) <= set(kept)
        assert len(kept) - len(acknowledged) <= round_ + 1
        assert profile.version == 1 + len(kept)
        assert all(
            opinion.liked == (int(str(opinion.outfit[0]).split("-")[-1]) % 3 > 0) for opinion in profile.opinions
        )
