"""COMMANDS: a handler parses, calls the library, prints. The verbs are the pipeline's, in its order.

Results go to stdout (as JSON with --json), progress to stderr. Heavy imports happen inside the handlers, so that --help
is quick. What a command's errors and exit statuses mean: panfit.exits.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from panfit.exits import EXIT_MISTAKE, Pipeline

app = typer.Typer(cls=Pipeline, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
importers = typer.Typer(no_args_is_help=True, help="Read a source's files into a dataset folder.")
app.add_typer(importers, name="import")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that `train` wrote.")]
Data = Annotated[Path | None, typer.Option(help="The dataset folder, if it is not where it was in training.")]
User = Annotated[str, typer.Option(help="The user's id.")]
Out = Annotated[Path, typer.Option(help="The dataset folder to write.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the splits, negatives and questions that are drawn.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out what is bad, and say what.")]
ItemDisjoint = Annotated[bool, typer.Option("--item-disjoint", help="Draw splits that share no item.")]
CopyImages = Annotated[bool, typer.Option("--copy-images", help="Copy the photos into the dataset folder.")]


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

        logger.addHandler(RichHandler(console=_stderr(), show_path=False, show_time=False))
        logger.setLevel(logging.INFO)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for everything the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn world and of training.")] = 0,
) -> None:
    """Draw a wardrobe world, train, evaluate, write an HTML report. Minutes on a laptop."""
    from panfit.demo import run_demo

    report = run_demo(out, seed=seed, console=_stderr())
    print(f"The report: {report}")


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
    with _progress("photos") as progress:
        wardrobe = draw_wardrobe(world(name="wardrobe", seed=seed, signal=signal), out, progress=progress)
    Console().print(summary_table({"name": wardrobe.dataset.name, **counts(wardrobe.dataset)}))
    print(out)


@app.command()
def check(dataset: Annotated[Path, typer.Argument(metavar="DATASET")], as_json: Json = False) -> None:
    """Validate and describe a dataset folder: every problem at once."""
    from panfit.data.check import check_dataset
    from panfit.present import summary_table

    report = check_dataset(dataset)
    if as_json:
        problems = [vars(problem) for problem in report.problems]
        print(json.dumps({"problems": problems, "summary": report.summary}, indent=1, default=str))
    else:
        Console().print(summary_table(report.summary))
        for problem in report.problems:
            print(problem)
        print(f"{len(report.problems)} problem(s)" if report.problems else "no problems")
    if report.problems:
        raise typer.Exit(EXIT_MISTAKE)


@app.command()
def features(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET")],
    backbone: Annotated[Literal["small", "alexnet", "resnet50", "hf"], typer.Option(help="The trunk.")],
    weights: Annotated[Path | None, typer.Option(help="A file of pre-trained weights.")] = None,
    hf_model: Annotated[str | None, typer.Option(help="For hf: a local folder or a hub name.")] = None,
    name: Annotated[str | None, typer.Option(help="The store's name; the trunk's if not given.")] = None,
    size: Annotated[int, typer.Option(help="Side of the trunk's input, pixels.")] = 224,
    seed: Annotated[int, typer.Option(min=0, help="Of random weights, where none are given.")] = 0,
) -> None:
    """Store a frozen trunk's feature maps of every photo."""
    from panfit.config import Config
    from panfit.data.folder import read_dataset

    trunk = {"name": backbone, "hf_model": hf_model, "weights": None if weights is None else str(weights)}
    config = Config.parse({"seed": seed, "images": {"size": size}, "backbone": trunk}, "panfit features")
    data = read_dataset(dataset)
    from panfit.features.extract import extract_features

    with _progress("photos") as progress:
        store = extract_features(data, config, name=name or backbone, progress=progress)
    print(f"{store.folder}: {' x '.join(map(str, store.manifest.shape))}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml")],
    data: Annotated[Path, typer.Option(help="The dataset folder.")],
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay over a setting.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Json = False,
) -> None:
    """Train on a data set. Ctrl-C saves; --resume goes on exactly."""
    from panfit.config import Config
    from panfit.data.folder import read_dataset

    settings = Config.read(config, set_ or ())  # mistakes in the config and the data are told before torch is loaded
    dataset = read_dataset(data)
    from panfit.train.loop import fit

    report = fit(settings, dataset, out, resume=resume, progress=not quiet)
    if as_json:
        print(json.dumps({**vars(report), "run": str(report.run)}))
    else:
        best = f"validation {settings.train.select} {report.best:.4f} after epoch {report.best_epoch + 1}"
        print(f"{report.run}: {report.epochs} epochs in {report.seconds:.0f} s; best {best}")


@app.command()
def evaluate(
    run: Run,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Whose likes.")] = "test",
    negatives: Annotated[Literal["random", "hard"], typer.Option(help="Random outfits, or others' likes.")] = "random",
    against: Annotated[Path | None, typer.Option(metavar="RUN_B", help="Compare with another run, paired.")] = None,
    data: Data = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the result, with per-user values, to a file.")] = None,
    as_json: Json = False,
) -> None:
    """FITB, AUC and NDCG: binary and relaxed codes, 95 % intervals."""
    from panfit.evaluate import compare, evaluate
    from panfit.files import write_aside
    from panfit.present import comparison_table, result_table
    from panfit.recommend import load

    runs = [run] if against is None else [run, against]
    recommenders = [load(each, data=data) for each in runs]
    results = [
        evaluate(each.scorer, each.dataset, split=split, negatives=negatives, seed=seed) for each in recommenders
    ]
    shown = results[0].to_json(per_user=False)
    comparison = None
    if against is not None:
        comparison = compare(results[0], results[1], seed=seed)
        shown |= {"against": results[1].to_json(per_user=False), "difference": comparison.to_json()}
    if out is not None:
        write_aside(out, json.dumps(shown | results[0].to_json(), indent=1) + "\n")
    if as_json:
        print(json.dumps(shown, indent=1))
        return
    Console().print(result_table(results, [str(each) for each in runs]))
    if comparison is not None:
        Console().print(comparison_table(comparison))


@app.command()
def reproduce(
    table: Annotated[Literal["table1", "table2"], typer.Argument(help="The rivals, or the ablation.")],
    data: Annotated[Path, typer.Option(help="The dataset folder.")],
    out: Annotated[Path, typer.Option(help="The folder for runs, results and the page.")],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row.")] = 5,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER", help="paper, paper/519, paper/visual, small, or a folder; by the data if not given."
        ),
    ] = None,
    rows: Annotated[str | None, typer.Option(metavar="A,B,C", help="Only these rows.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay over every row.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Tiny and short, to see that everything runs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    as_json: Json = False,
) -> None:
    """The paper's Table 1 or 2 on your data, beside the paper's numbers. Run it again to go on."""
    from panfit.data.folder import read_dataset

    dataset = read_dataset(data)  # a mistake in the data is told before torch is loaded
    from panfit.present import reproduction_table
    from panfit.reproduce.run import reproduce

    chosen = None if rows is None else [name.strip() for name in rows.split(",")]
    made = reproduce(
        table, dataset, out, seeds=seeds, recipe=recipe, rows=chosen, overrides=set_ or (), smoke=smoke,
        progress=not quiet,
    )  # fmt: skip
    if as_json:
        print(json.dumps({**made.report.to_json(), "html": str(made.html), "markdown": str(made.markdown)}, indent=1))
    else:
        Console().print(reproduction_table(made.report))
        print(f"The page: {made.html}")


@app.command()
def recommend(
    run: Run,
    user: User,
    top: Annotated[int, typer.Option(min=1, help="How many outfits.")] = 10,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """A user's best outfits."""
    from panfit.recommend import load

    recommender = load(run, data=data)
    outfits, scores = recommender.recommend(user, top=top)
    _print_outfits(recommender.dataset, user, outfits, scores, as_json=as_json)


@app.command()
def score(
    run: Run,
    user: User,
    outfit: Annotated[list[str], typer.Option(metavar="ID,ID,ID", help="Item ids in slot order; repeat the option.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """How much a user likes given outfits."""
    from panfit.recommend import load

    recommender = load(run, data=data)
    outfits = [tuple(item_id.strip() or None for item_id in each.split(",")) for each in outfit]
    _print_outfits(recommender.dataset, user, outfits, recommender.score(user, outfits), as_json=as_json)


def main() -> None:
    """The console entry point."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers
    app()


def _stderr() -> Console:
    return Console(stderr=True)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, as a (done, total) callback."""
    from rich.progress import Progress

    with Progress(console=_stderr()) as bars:
        task = bars.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield update


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


def _print_outfits(dataset: Any, user: str, outfits: Any, scores: Any, *, as_json: bool) -> None:
    from panfit.present import outfit_table

    if as_json:
        rows = [{"items": list(outfit), "score": float(score)} for outfit, score in zip(outfits, scores, strict=True)]
        print(json.dumps({"user": user, "outfits": rows}, indent=1))
    else:
        Console().print(outfit_table(dataset, user, outfits, scores))
