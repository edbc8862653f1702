"""The command that takes in somebody new: newcomer."""

import json
from pathlib import Path
from typing import Annotated

import typer

from panfit.cli.asking import outfits_in_file
from panfit.cli.options import Changed, Data, Json, Run
from panfit.errors import ConfigError

Outfit = Annotated[list[str] | None, typer.Option(metavar="ID,ID,ID", help="An outfit; repeat the option.")]
FileOf = Annotated[Path | None, typer.Option(metavar="FILE", help="The same from a file, an outfit a line.")]


def newcomer(
    run: Run,
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="The newcomer's file, for --newcomer.")],
    like: Outfit = None,
    dislike: Outfit = None,
    likes: FileOf = None,
    dislikes: FileOf = None,
    since: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="An earlier file, which these likes and dislikes join.")
    ] = None,
    name: Annotated[str, typer.Option(help="What to call the newcomer.")] = "newcomer",
    data: Data = None,
    changed: Changed = False,
    as_json: Json = False,
) -> None:
    """A user from a few likes, without training; goes wherever --newcomer does."""
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it, or name another")
    liked, disliked = _outfits(like, likes), _outfits(dislike, dislikes)
    from panfit.loading import load

    recommender = load(run, data=data, allow_changed=changed)
    earlier = None if since is None else recommender.read_newcomer(since)
    made = recommender.newcomer(liked, disliked, name=name, since=earlier)
    recommender.write_newcomer(made, out)
    users, likeness = recommender.similar_users(made, 3)
    if as_json:
        nearest = [{"id": user, "likeness": float(value)} for user, value in zip(users, likeness, strict=True)]
        counts = {"likes": len(made.likes), "dislikes": len(made.dislikes)}
        print(json.dumps({"newcomer": made.name, **counts, "nearest_users": nearest, "file": str(out)}, indent=1))
        return
    print(f"{made.name}: {len(made.likes)} like(s), {len(made.dislikes)} dislike(s); {out}")
    print("taste nearest to " + ", ".join(f"{user} ({value:.2f})" for user, value in zip(users, likeness, strict=True)))
    print(f"now: panfit recommend {run} --newcomer {out}")


def _outfits(given: list[str] | None, path: Path | None) -> list[tuple[str | None, ...]]:
    named = [tuple(item_id.strip() or None for item_id in outfit.split(",")) for outfit in given or []]
    return [*named, *outfits_in_file(path)]
