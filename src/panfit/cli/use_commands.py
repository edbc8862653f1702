"""The commands that use a trained run: recommend, score."""

from typing import Annotated, Literal

import typer

from panfit.cli.asking import whoever
from panfit.cli.options import Changed, Data, Json, NewcomerFile, Run, User
from panfit.cli.terminal import print_outfits


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
    outfits, scores = recommender.recommend(person, top=top, source=source)
    print_outfits(recommender.dataset, person, outfits, scores, as_json=as_json)


def score(
    run: Run,
    outfit: Annotated[list[str], typer.Option(metavar="ID,ID,ID", help="Item ids in slot order; repeat the option.")],
    user: User = None,
    newcomer: NewcomerFile = None,
    data: Data = None,
    changed: Changed = False,
    as_json: Json = False,
) -> None:
    """How much a user likes given outfits."""
    from panfit.loading import load

    recommender = load(run, data=data, allow_changed=changed)
    outfits = [tuple(item_id.strip() or None for item_id in each.split(",")) for each in outfit]
    person = whoever(recommender, user, newcomer)
    print_outfits(recommender.dataset, person, outfits, recommender.score(person, outfits), as_json=as_json)
