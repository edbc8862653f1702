"""What commands show on a terminal: messages and progress on stderr, results on stdout."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:  # it brings torch, which a mistake on the command line does not need
    from panfit.recommend import Recommender


def stderr() -> Console:
    """The console for whatever is not a result. Made anew, for whoever has redirected stderr since."""
    return Console(stderr=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, as a (done, total) callback."""
    from rich.progress import Progress

    with Progress(console=stderr()) as bars:
        task = bars.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield update


@contextmanager
def encoding_bar(recommender: "Recommender") -> Iterator[None]:
    """Inside, a bar on stderr while many items are encoded for somebody; it goes when it is done."""
    from rich.progress import MofNCompleteColumn, Progress

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=stderr(), transient=True) as bars:
        tasks: list[Any] = []

        def update(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bars.add_task("items, as this user sees them"))
            bars.update(tasks[0], completed=done, total=total)

        recommender.progress = update
        try:
            yield
        finally:
            recommender.progress = None


def print_outfits(dataset: Any, user: Any, outfits: Any, scores: Any, *, as_json: bool) -> None:
    """A user's or newcomer's outfits and their scores, as a table or as one JSON object."""
    from panfit.present import outfit_table

    if as_json:
        rows = [{"items": list(outfit), "score": float(score)} for outfit, score in zip(outfits, scores, strict=True)]
        print(json.dumps({"user": str(user), "outfits": rows}, indent=1))
    else:
        Console().print(outfit_table(dataset, str(user), outfits, scores))
