"""The commands that learn and measure: train, evaluate, reproduce."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from panfit.cli.options import Data, Json, Run


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml")],
    data: Annotated[Path, typer.Option(help="The dataset folder.")],
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay over a setting.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    devices: Annotated[
        int, typer.Option(min=1, help="Processes that train together here: on a GPU each, or on the CPU.")
    ] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Json = False,
) -> None:
    """Train on a data set. Ctrl-C saves; --resume goes on exactly."""
    from panfit.config import Config
    from panfit.data.folder import read_dataset

    settings = Config.read(config, set_ or ())  # mistakes in the config and the data are told before torch is loaded
    dataset = read_dataset(data)
    from panfit.train.loop import fit
    from panfit.train.processes import Place

    report = fit(settings, dataset, out, resume=resume, progress=not quiet, devices=devices)
    if Place.here().rank > 0:  # torchrun started several of this command: one of them tells
        return
    if as_json:
        print(json.dumps({**vars(report), "run": str(report.run)}))
    else:
        best = f"validation {settings.train.select} {report.best:.4f} after epoch {report.best_epoch + 1}"
        print(f"{report.run}: {report.epochs} epochs in {report.seconds:.0f} s; best {best}")


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
    from panfit.loading import load
    from panfit.present import comparison_table, result_table

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
