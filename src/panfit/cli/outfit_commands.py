"""The commands that make outfits and find what is alike: complete, compose, similar."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from panfit.cli.asking import given_items, ids_in_file, whoever
from panfit.cli.options import Changed, Data, Json, NewcomerFile, Run, User
from panfit.cli.terminal import encoding_bar, print_outfits, progress_bar

if TYPE_CHECKING:  # it brings torch, which a mistake on the command line does not need
    from panfit.recommend import Recommender

Given = Annotated[
    list[str] | None,
    typer.Option("--item", "--with", metavar="SLOT=ID", help="What is worn already; repeat the option."),
]
Slots = Annotated[
    list[str] | None, typer.Option("--slot", metavar="SLOT", help="A slot to fill; every open one if not given.")
]
From = Annotated[
    Path | None, typer.Option("--from", metavar="FILE", help="Only items in this file, an id a line: a wardrobe.")
]
Exclude = Annotated[list[str] | None, typer.Option(metavar="ID", help="An item not to choose; repeat the option.")]
Width = Annotated[int, typer.Option(min=1, help="Partial outfits kept at each step; more finds better ones, slower.")]
Search = Annotated[
    Literal["auto", "exact", "two-stage"],
    typer.Option(help="Encode every candidate for this user, or a shortlist; auto: by what is there."),
]


def prepare(
    run: Run,
    prototypes: Annotated[int, typer.Option(min=1, help="Clusters of users; the mean user comes on top.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Of the clustering.")] = 0,
    data: Data = None,
    changed: Changed = False,
) -> None:
    """Make the tables of a few taste prototypes, for two-stage search in a large catalogue."""
    from panfit.loading import load

    recommender = load(run, data=data, allow_changed=changed)
    tables = _prepare(recommender, prototypes=prototypes, seed=seed)
    print(f"{tables} tables of {len(recommender.dataset.catalogue)} items are ready")


def complete(
    run: Run,
    user: User = None,
    newcomer: NewcomerFile = None,
    item: Given = None,
    slot: Slots = None,
    from_: From = None,
    exclude: Exclude = None,
    top: Annotated[int, typer.Option(min=1, help="How many outfits.")] = 10,
    search: Search = "auto",
    data: Data = None,
    changed: Changed = False,
    as_json: Json = False,
) -> None:
    """The best ways to fill an outfit's open slots."""
    given, among = given_items(item or []), ids_in_file(from_)  # a mistake there is told before torch is loaded
    from panfit.loading import load

    recommender = load(run, data=data, allow_changed=changed)
    person = whoever(recommender, user, newcomer)
    if search == "two-stage":
        _prepare(recommender)
    with encoding_bar(recommender):
        outfits, scores = recommender.complete(
            person, given, top, slots=slot or None, among=among, exclude=exclude or (), search=search
        )
    print_outfits(recommender.dataset, person, outfits, scores, as_json=as_json)


def compose(
    run: Run,
    user: User = None,
    newcomer: NewcomerFile = None,
    item: Given = None,
    slot: Slots = None,
    from_: From = None,
    exclude: Exclude = None,
    top: Annotated[int, typer.Option(min=1, help="How many outfits.")] = 5,
    repeat: Annotated[int, typer.Option(min=1, help="In how many of the outfits an item may appear.")] = 2,
    width: Width = 128,
    search: Search = "auto",
    data: Data = None,
    changed: Changed = False,
    as_json: Json = False,
) -> None:
    """Whole outfits, around given items or from nothing, each item in few of them."""
    given, among = given_items(item or []), ids_in_file(from_)  # a mistake there is told before torch is loaded
    from panfit.loading import load

    recommender = load(run, data=data, allow_changed=changed)
    person = whoever(recommender, user, newcomer)
    if search == "two-stage":
        _prepare(recommender)
    with encoding_bar(recommender):
        outfits, scores = recommender.compose(
            person,
            top,
            given=given,
            slots=slot or None,
            among=among,
            exclude=exclude or (),
            repeat=repeat,
            width=width,
            search=search,
        )
    print_outfits(recommender.dataset, person, outfits, scores, as_json=as_json)


def similar(
    run: Run,
    user: User = None,
    newcomer: NewcomerFile = None,
    item: Annotated[
        str | None, typer.Option(metavar="ID", help="An item: find what looks like it to the user.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    data: Data = None,
    changed: Changed = False,
    as_json: Json = False,
) -> None:
    """Users of like taste; with --item, items that look alike to the user."""
    from panfit.loading import load
    from panfit.present import similar_table

    recommender = load(run, data=data, allow_changed=changed)
    person = whoever(recommender, user, newcomer)
    with encoding_bar(recommender):
        if item is None:
            found, likeness = recommender.similar_users(person, top)
        else:
            found, likeness = recommender.similar_items(person, item, top)
    if as_json:
        kind = "users" if item is None else "items"
        rows = [{"id": name, "likeness": float(value)} for name, value in zip(found, likeness, strict=True)]
        print(json.dumps({"user": str(person), "item": item, kind: rows}, indent=1))
    else:
        title = f"users like {person}" if item is None else f"items like {item}, to {person}"
        Console().print(similar_table(title, found, likeness, dataset=None if item is None else recommender.dataset))


def _prepare(recommender: "Recommender", **options: int) -> int:
    """`Recommender.prepare` under a progress bar."""
    with progress_bar("prototypes") as progress:
        return recommender.prepare(progress=progress, **options)
