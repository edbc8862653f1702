"""The commands that use a trained run: recommend, score."""

from typing import Annotated

import typer

from panfit.cli.options import Data, Json, Run, User
from panfit.cli.terminal import print_outfits


def recommend(
    run: Run,
    user: User,
    top: Annotated[int, typer.Option(min=1, help="How many outfits.")] = 10,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """A user's best outfits."""
    from panfit.loading import load

    recommender = load(run, data=data)
    outfits, scores = recommender.recommend(user, top=top)
    print_outfits(recommender.dataset, user, outfits, scores, as_json=as_json)


def score(
    run: Run,
    user: User,
    outfit: Annotated[list[str], typer.Option(metavar="ID,ID,ID", help="Item ids in slot order; repeat the option.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """How much a user likes given outfits."""
    from panfit.loading import load

    recommender = load(run, data=data)
    outfits = [tuple(item_id.strip() or None for item_id in each.split(",")) for each in outfit]
    print_outfits(recommender.dataset, user, outfits, recommender.score(user, outfits), as_json=as_json)
