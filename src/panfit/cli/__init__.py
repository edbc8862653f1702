"""COMMANDS: a handler parses, calls the library, prints. The verbs are the pipeline's, in its order.

Results go to stdout (as JSON with --json), progress to stderr. Heavy imports happen inside the handlers, so that --help
is quick. What a command's errors and exit statuses mean, and the order of the help: panfit.exits.
"""

import gc
import logging
import os
from collections.abc import Callable
from typing import Annotated

import typer

from panfit.cli import (
    batch_command,
    data_commands,
    explain_command,
    import_commands,
    learn_commands,
    newcomer_command,
    outfit_commands,
    serve_command,
    use_commands,
)
from panfit.cli.terminal import stderr
from panfit.exits import Pipeline

COMMANDS: tuple[Callable[..., None], ...] = (
    data_commands.demo,
    data_commands.check,
    data_commands.features,
    learn_commands.train,
    learn_commands.evaluate,
    learn_commands.reproduce,
    use_commands.recommend,
    use_commands.score,
    outfit_commands.complete,
    outfit_commands.compose,
    outfit_commands.similar,
    newcomer_command.newcomer,
    explain_command.explain,
    outfit_commands.prepare,
    serve_command.serve,
    batch_command.batch,
)
"""A command is called what its function is called, and helps with its docstring."""

COLLECT_AFTER = 10_000
"""New objects after which Python looks for garbage; its own 700 make it look hundreds of times while torch is imported,
a fifth of the time."""

app = typer.Typer(cls=Pipeline, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(import_commands.importers, name="import")
for command in COMMANDS:
    app.command()(command)


@app.callback(invoke_without_command=True)
def panfit(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Personalized outfit recommendation: train, evaluate, recommend and explain."""
    if version:
        from panfit import __version__

        print(f"panfit {__version__}")
        raise typer.Exit()
    logger = logging.getLogger("panfit")
    if not logger.handlers:
        from rich.logging import RichHandler

        logger.addHandler(RichHandler(console=stderr(), show_path=False, show_time=False))
        logger.setLevel(logging.INFO)


def main() -> None:
    """The console entry point."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers
    gc.set_threshold(COLLECT_AFTER)
    app()
