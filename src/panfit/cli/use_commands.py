"""The commands that use a trained run: recommend, score."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from panfit.cli.asking import whoever
from panfit.cli.options import Changed, Data, Json, NewcomerFile, Run, User
from panfit.cli.terminal import encoding_bar, print_outfits
from panfit.errors import DataError


def recommend(
    run: Run,
    user: User = None,
    newcomer: NewcomerFile = None,
    top: Annotated[int, typer.Option(min=1, help="How many outfits.")] = 10,
    source: Annotated[
        Literal["known", "composed"], typer.Option(help="From outfits that somebody likes, or new ones.")
    ] = "known",
    data: Data = None,
    changed: Changed = False,
    as_json: Json = False,
) -> None:
    """A user's best outfits."""
    from panfit.loading import load

    recommender = load(run, data=data, allow_changed=changed)
    person = whoever(recommender, user, newcomer)
    with encoding_bar(recommender):
        outfits, scores = recommender.recommend(person, top=top, source=source)
    print_outfits(recommender.dataset, person, outfits, scores, as_json=as_json)


def score(
    run: Run,
    outfit: Annotated[
        list[str] | None, typer.Option(metavar="ID,ID,ID", help="Item ids in slot order; repeat the option.")
    ] = None,
    photo: Annotated[
        list[str] | None, typer.Option(metavar="FILE,FILE,FILE", help="Photos instead of items, in slot order.")
    ] = None,
    user: User = None,
    newcomer: NewcomerFile = None,
    data: Data = None,
    changed: Changed = False,
    as_json: Json = False,
) -> None:
    """How much a user likes given outfits, of the catalogue or of photos."""
    if not outfit and not photo:
        raise DataError("no outfit is given; name one: --outfit ID,ID,ID, or --photo FILE,FILE,FILE")
    from panfit.loading import load

    recommender = load(run, data=data, allow_changed=changed)
    person = whoever(recommender, user, newcomer)
    named = [tuple(item_id.strip() or None for item_id in each.split(",")) for each in outfit or []]
    shown = [tuple(Path(name.strip()) if name.strip() else None for name in each.split(",")) for each in photo or []]
    scores = recommender.score(person, [*named, *shown])
    outfits = [*named, *(tuple(None if file is None else str(file) for file in files) for files in shown)]
    print_outfits(recommender.dataset, person, outfits, scores, as_json=as_json)
