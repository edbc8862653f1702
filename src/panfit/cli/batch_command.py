"""The command for everybody at once: batch."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from panfit.cli.options import Changed, Data, Engine, Json, RayAddress, Run
from panfit.cli.terminal import stderr
from panfit.errors import DataError
from panfit.exits import EXIT_INTERRUPTED


def batch(
    run: Run,
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    top: Annotated[int, typer.Option(min=1, help="Outfits a user.")] = 10,
    source: Annotated[
        Literal["known", "composed"], typer.Option(help="Outfits that somebody likes, or newly composed ones.")
    ] = "known",
    users: Annotated[Path | None, typer.Option(help="A file of user ids, one a line; everybody if not given.")] = None,
    engine: Engine = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, each with a model of its own. Locally 1, on Ray one a CPU.")
    ] = None,
    ray_address: RayAddress = None,
    block_users: Annotated[int, typer.Option(min=1, help="Users a block: what an interruption can lose.")] = 32,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another file at --out, at the end.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what was begun.")] = False,
    data: Data = None,
    changed: Changed = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Json = False,
) -> None:
    """Every user's best outfits, as a Parquet file. Ctrl-C keeps what is done; the same command goes on."""
    user_ids = None if users is None else _read_users(users)
    from panfit.batch import recommend_all

    done = total = 0
    try:
        with _bar(quiet=quiet) as show:

            def progress(users_done: int, users_total: int) -> None:
                nonlocal done, total
                done, total = users_done, users_total
                show(done, total)

            report = recommend_all(
                run, out, top=top, source=source, users=user_ids, data=data, allow_changed=changed,
                engine=engine, workers=workers, ray_address=ray_address, block_users=block_users,
                overwrite=overwrite, restart=restart, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        if not total:
            raise
        typer.echo(f"interrupted after {done} of {total} users. Run the same command again to go on", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        print(json.dumps({**vars(report), "out": str(report.out)}))
    else:
        already = f", {report.found} of them found done" if report.found else ""
        print(f"{report.out}: {report.rows} outfits for {report.users} users{already}; {report.seconds:.0f} s")


def _read_users(path: Path) -> list[str]:
    """One id a line; empty lines do not count. Raises DataError for what is no text; OSError."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: wanted a UTF-8 text of user ids, one a line: {error}") from None
    return [line.strip() for line in lines if line.strip()]


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with users a second and the time left, as a (done, total) callback."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=stderr(), disable=quiet) as bars:
        task = bars.add_task("users", total=None, speed="")

        def show(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)
            speed = bars.tasks[0].speed  # None until there are two updates; what was found done does not count
            bars.update(task, speed="" if speed is None else f"{speed:.1f} users/s")

        yield show
