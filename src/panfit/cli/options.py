"""The options and arguments that several commands share, so that one word means one thing everywhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that `train` wrote.")]
Data = Annotated[Path | None, typer.Option(help="The dataset folder, if it is not where it was in training.")]
User = Annotated[str | None, typer.Option(help="The user's id.")]
NewcomerFile = Annotated[
    Path | None, typer.Option("--newcomer", metavar="FILE", help="Instead of a user: a file of `panfit newcomer`.")
]
Changed = Annotated[
    bool, typer.Option("--allow-changed", help="Take data that has changed since training, as today's catalogue.")
]
Engine = Annotated[Literal["local", "ray"], typer.Option(help="This machine, or a Ray cluster.")]
RayAddress = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Of a running cluster that shares a file system with us.")
]
