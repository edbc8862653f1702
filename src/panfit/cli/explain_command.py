"""The command that says why: explain."""

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from panfit.cli.asking import whoever
from panfit.cli.options import Changed, Data, Json, NewcomerFile, Run, User
from panfit.cli.terminal import encoding_bar
from panfit.errors import ConfigError

if TYPE_CHECKING:  # it brings torch, which a mistake on the command line does not need
    from panfit.explain import Explanation


def explain(
    run: Run,
    outfit: Annotated[str, typer.Option(metavar="ID,ID,ID", help="Item ids in slot order, nothing where none is.")],
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="The picture; the numbers go into FILE.json.")],
    user: User = None,
    newcomer: NewcomerFile = None,
    against: Annotated[str | None, typer.Option(metavar="USER2", help="A second user, for comparison.")] = None,
    look: Annotated[
        Literal["relative", "absolute"], typer.Option(help="Where more than others look, or where at all.")
    ] = "relative",
    data: Data = None,
    changed: Changed = False,
    as_json: Json = False,
) -> None:
    """Why a user likes an outfit: score parts, where he looks, the best swap."""
    _check_out(out)
    from panfit.figure import explanation_picture, photos_of
    from panfit.loading import load

    recommender = load(run, data=data, allow_changed=changed)
    items = tuple(item_id.strip() or None for item_id in outfit.split(","))
    with encoding_bar(recommender):
        explanation = recommender.explain(whoever(recommender, user, newcomer), items, against=against)
    photos = photos_of(explanation, recommender.dataset.catalogue, recommender.pan.config.images.fit)
    picture = io.BytesIO()
    explanation_picture(explanation, photos, look=look).save(picture, format="PNG")
    told = json.dumps(explanation.to_json(), indent=1)
    _write(out, picture.getvalue())
    _write(out.with_suffix(".json"), (told + "\n").encode())
    if as_json:
        print(told)
    else:
        Console().print(explanation_table(explanation))
        print(f"The picture: {out}; the numbers: {out.with_suffix('.json')}")


def explanation_table(explanation: "Explanation") -> Table:
    """The parts of a score, a column for each user, and the best single swap."""
    both = [explanation] if explanation.against is None else [explanation, explanation.against]
    table = Table(title="why this outfit", title_justify="left", title_style="bold", header_style="bold")
    table.add_column("part")
    for each in both:
        table.add_column(escape(each.user), justify="right")

    def row(name: str, values: list[float], *, style: str = "") -> None:
        table.add_row(name, *(f"{value:+.3f}" for value in values), style=style)

    row("score", [each.score for each in both], style="bold")
    row("general", [each.general for each in both])
    for m, n in explanation.by_pair:
        row(f"  {escape(m)} + {escape(n)}", [each.by_pair[m, n] for each in both], style="dim")
    row("personal", [each.personal for each in both])
    for slot, item_id in zip(explanation.slots, explanation.items, strict=True):
        if item_id is not None:
            row(f"  {escape(slot)} {escape(item_id)}", [each.by_item[slot] for each in both], style="dim")
    table.add_section()
    swaps = [each.swap for each in both]
    table.add_row("best swap", *("none" if swap is None else f"{swap.gain:+.3f}" for swap in swaps))
    if any(swaps):
        table.add_row("  take off", *("" if swap is None else escape(swap.remove) for swap in swaps), style="dim")
        table.add_row("  put on", *("" if swap is None else escape(swap.add) for swap in swaps), style="dim")
    if not explanation.has_attention:
        table.caption, table.caption_justify = str(explanation.to_json()["attention"]), "left"
    return table


def _check_out(out: Path) -> None:
    """Raise ConfigError, before anything is computed, for a picture that could not be written."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the picture is a PNG file; name it so, as in --out {out.stem or 'heat'}.png")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it, or name another")
    if out.is_dir():
        raise ConfigError(f"--out {out}: a folder; name a file in it, as in --out {out / 'heat.png'}")


def _write(path: Path, content: bytes) -> None:
    """Write under another name, then rename; an error names the path that was asked for."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        aside.unlink(missing_ok=True)
