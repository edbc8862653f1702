"""The commands that make, check and prepare data: demo, check, features."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from panfit.cli import serve_command
from panfit.cli.options import Engine, Json, RayAddress
from panfit.cli.terminal import progress_bar, stderr
from panfit.exits import EXIT_MISTAKE


def demo(
    out: Annotated[Path, typer.Option(help="The folder for everything the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn world and of training.")] = 0,
    serve: Annotated[bool, typer.Option("--serve", help="Then serve it, as `panfit serve` does.")] = False,
) -> None:
    """Draw a wardrobe world, train, evaluate, write an HTML report. Minutes on a laptop."""
    if serve:
        serve_command.require_extra()  # before minutes are spent
    from panfit.demo import run_demo

    report = run_demo(out, seed=seed, console=stderr())
    print(f"The report: {report}", flush=True)
    if serve:
        run, trunk_weights = serve_command.demo_run(out)
        serve_command.serve(run, port=serve_command.PORT, trunk_weights=trunk_weights)


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


def features(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET")],
    backbone: Annotated[Literal["small", "alexnet", "resnet50", "hf"], typer.Option(help="The trunk.")],
    weights: Annotated[Path | None, typer.Option(help="A file of pre-trained weights.")] = None,
    hf_model: Annotated[str | None, typer.Option(help="For hf: a local folder or a hub name.")] = None,
    name: Annotated[str | None, typer.Option(help="The store's name; the trunk's if not given.")] = None,
    size: Annotated[int, typer.Option(help="Side of the trunk's input, pixels.")] = 224,
    seed: Annotated[int, typer.Option(min=0, help="Of random weights, where none are given.")] = 0,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where the trunk runs; auto: on a GPU where there is one.")
    ] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bf16"], typer.Option(help="The trunk's arithmetic; auto: bf16 where it is fast.")
    ] = "auto",
    engine: Engine = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="On Ray: actors, each with a trunk of its own; one a CPU if not given.")
    ] = None,
    ray_address: RayAddress = None,
) -> None:
    """Store a frozen trunk's feature maps of every photo. Ctrl-C keeps what is done; the same command goes on."""
    from panfit.config import Config
    from panfit.data.folder import read_dataset

    trunk = {"name": backbone, "hf_model": hf_model, "weights": None if weights is None else str(weights)}
    config = Config.parse({"seed": seed, "images": {"size": size}, "backbone": trunk}, "panfit features")
    data = read_dataset(dataset)
    from panfit.arithmetic import device_named
    from panfit.features.extract import extract_features

    elsewhere, where = None, str(device)
    if engine == "ray":
        from panfit.features_ray import filler_on_ray

        where = "cpu" if device == "auto" else where  # a GPU of this machine says nothing of the cluster's
        elsewhere = filler_on_ray(data, config, device=where, workers=workers, address=ray_address)
    else:
        where = str(device_named(device))
    with progress_bar("photos") as progress:
        store = extract_features(
            data, config, name=name or backbone, device=where, precision=precision, elsewhere=elsewhere,
            progress=progress,
        )  # fmt: skip
    print(f"{store.folder}: {' x '.join(map(str, store.manifest.shape))}")
