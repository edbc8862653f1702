"""READ: `panfit import ...`, one command for each source that a data set comes from."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from panfit.cli.terminal import progress_bar

importers = typer.Typer(no_args_is_help=True, help="Read a source's files into a dataset folder.")

Out = Annotated[Path, typer.Option(help="The dataset folder to write.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the splits, negatives and questions that are drawn.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out what is bad, and say what.")]
ItemDisjoint = Annotated[bool, typer.Option("--item-disjoint", help="Draw splits that share no item.")]
CopyImages = Annotated[bool, typer.Option("--copy-images", help="Copy the photos into the dataset folder.")]


@importers.command("table")
def import_table(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A folder with items and likes, CSV or Parquet.")],
    out: Out,
    name: Annotated[str | None, typer.Option(help="The data set's name; the source folder's if not given.")] = None,
    images: Annotated[Path | None, typer.Option(help="Where photo paths start; SRC if not given.")] = None,
    skip_bad: SkipBad = False,
    seed: Seed = 0,
    item_disjoint: ItemDisjoint = False,
    copy_images: CopyImages = False,
) -> None:
    """A shop's own tables and photos."""
    from panfit.data.folder import write_dataset
    from panfit.data.table import import_table

    report = import_table(
        source, name=name, seed=seed, image_root=images, skip_bad=skip_bad, item_disjoint=item_disjoint
    )
    folder = write_dataset(report.dataset, out, source=str(source), copy_images=copy_images)
    _print_import(folder, report)


@importers.command("polyvore-u")
def import_polyvore_u(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The released folder.")],
    out: Out,
    subset: Annotated[Literal["630", "519", "53", "32"], typer.Option(help="Which of the four sets.")] = "630",
    images: Annotated[Path | None, typer.Option(help="The folder of photos.")] = None,
    skip_bad: SkipBad = False,
    seed: Seed = 0,
    copy_images: CopyImages = False,
) -> None:
    """Polyvore-630, 519, 53 or 32, as released."""
    from panfit.data.folder import write_dataset
    from panfit.data.polyvore_u import import_polyvore_u

    report = import_polyvore_u(source, subset=subset, images=images, seed=seed, skip_bad=skip_bad)
    folder = write_dataset(report.dataset, out, source=str(source), copy_images=copy_images)
    _print_import(folder, report)


@importers.command("wardrobe")
def import_wardrobe(
    out: Out,
    size: Annotated[
        Literal["demo", "study"], typer.Option(help="demo: 60 users, 1,200 items; study: 100 users, 2,400 items.")
    ] = "demo",
    signal: Annotated[float, typer.Option(min=0.0, max=1.0, help="How much there is to learn; 0: nothing.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn world.")] = 0,
) -> None:
    """A drawn world whose answer is known: tastes, and where every user looks."""
    from panfit.data.folder import counts
    from panfit.data.wardrobe import draw_wardrobe
    from panfit.data.wardrobe_world import WardrobeConfig
    from panfit.present import summary_table

    world = WardrobeConfig.study if size == "study" else WardrobeConfig.benchmark
    with progress_bar("photos") as progress:
        wardrobe = draw_wardrobe(world(name="wardrobe", seed=seed, signal=signal), out, progress=progress)
    Console().print(summary_table({"name": wardrobe.dataset.name, **counts(wardrobe.dataset)}))
    print(out)


def _print_import(folder: Path, report: Any) -> None:
    from panfit.data.folder import counts
    from panfit.present import summary_table

    for kind, problems in (("left out", report.skipped), ("note", report.notes)):
        for problem in problems:
            typer.echo(f"{kind}: {problem}", err=True)
    if report.dropped_outfits:
        typer.echo(f"{report.dropped_outfits} like(s) lie across the splits and were dropped", err=True)
    Console().print(summary_table({"name": report.dataset.name, **counts(report.dataset)}))
    print(f"{folder}" + (f"; {len(report.skipped)} bad thing(s) left out, listed above" if report.skipped else ""))
