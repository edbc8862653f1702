"""DEMO: a drawn wardrobe, the paper's ablation in small, and one HTML report on both (`panfit demo`).

    OUT/wardrobe/     the drawn world, a dataset folder whose answer is known
    OUT/runs/         trunk: trained end to end once; none, ul, ul-hn, pan: the ablation, on the trunk's stored maps
    OUT/results.json  every number of the report
    OUT/report.html   opens offline

The four recipes of the ablation differ in values only. What the report says of the truth comes from the world, never
from the model.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import save_file

from panfit.charts import require_matplotlib
from panfit.config import Config
from panfit.data.staging import refuse_foreign
from panfit.data.wardrobe import WardrobeConfig, draw_wardrobe
from panfit.demo_story import Measured, Recipe, Story, make_report
from panfit.evaluate import PlainScorer, Result, Scorer, evaluate
from panfit.features.extract import extract_features
from panfit.files import write_aside
from panfit.loading import load
from panfit.model.checkpoint import from_pretrained
from panfit.outfits import KINDS, Dataset, Kind
from panfit.pedigree import pedigree
from panfit.report import render
from panfit.train.loop import fit

STORE = "demo"
"""The name of the feature store that the ablation learns from."""


Values = dict[str, dict[str, object]]
"""Section -> key -> value."""

NO_ATTENTION: Values = {"attention": {"kind": "none"}}
USER_LOSS: Values = {"loss": {"lambda_user": 0.1}}
HARD_NEGATIVES: Values = {"negatives": {"hard_ratio": 0.25}}

RECIPES = (
    Recipe("none", "hashing and Eq. 4 alone", NO_ATTENTION),
    Recipe("UL", "+ user-specific loss", NO_ATTENTION | USER_LOSS),
    Recipe("UL + HN", "+ user-aware hard negatives", NO_ATTENTION | USER_LOSS | HARD_NEGATIVES),
    Recipe("UL + HN + AN", "+ personalized attention: PAN", USER_LOSS | HARD_NEGATIVES),
)
"""The paper's Table 2, in its order."""


def world_config(*, seed: int) -> WardrobeConfig:
    """The demo's world: fewer tastes and more garments than the usual one, so that minutes are enough to learn them."""
    return WardrobeConfig.benchmark(seed=seed)


def trunk_config() -> Config:
    """The first stage: a small trunk, trained end to end. configs/demo.toml says the same, and why."""
    values: dict[str, Any] = {
        "images": {"size": 64, "flip": False},
        "text": {"source": "none"},
        "backbone": {"name": "small", "width": 16, "statistics": True, "attributes": 32, "head": "flatten"},
        "attention": {"kind": "none", "gate": "mean", "reduction": 4},
        "model": {
            "code_bits": 128,
            "image_hidden": 256,
            "dropout": 0.2,
            "input_dropout": 0.2,
            "feature_norm": "batch",
            "code_norm": "batch",
            "encoder_init_std": 0.0,
        },
        "negatives": {"per_like": 4, "source": "batch", "hard_ratio": 0.0, "choose": "random", "k_ratio": 0.5},
        "loss": {"lambda_user": 0.0},
        "optimizer": {
            "name": "adamw",
            "user": 0.03,
            "trunk": 1e-3,
            "attention": 3e-3,
            "image_encoder": 3e-3,
            "predictor": 3e-3,
            "weight_decay": 0.1,
            "schedule": "cosine",
            "warmup_steps": 20,
        },
        "pretrain": {"epochs": 14, "batch_size": 32, "learning_rate": 3e-3, "weight_decay": 0.05},
        "train": {"epochs": 1, "batch_size": 64, "beta": "constant", "straight_through_from": 0.0},
    }
    return Config.parse(values, "the demo's recipe")


def stored_config(trunk: Config, *, epochs: int = 6) -> Config:
    """What the ablation's recipes share: the trunk's recipe on its stored maps, in larger batches."""
    return overlaid(
        trunk,
        {
            "backbone": {"source": "stored", "store": STORE},
            "attention": {"kind": "pan"},
            "optimizer": {"weight_decay": 3.0},
            "pretrain": {"epochs": 0},
            "train": {"epochs": epochs, "batch_size": 128},
        },
    )


def overlaid(config: Config, changes: Mapping[str, Mapping[str, Any]], *, seed: int | None = None) -> Config:
    """A config with some values of some sections changed, and the seed, if one is given."""
    values = config.model_dump() | ({} if seed is None else {"seed": seed})
    for section, settings in changes.items():
        values[section] |= settings
    return Config.parse(values, "the demo's recipe")


def run_demo(
    out: str | Path,
    *,
    seed: int = 0,
    world: WardrobeConfig | None = None,
    trunk: Config | None = None,
    shared: Config | None = None,
    console: Console | None = None,
) -> Path:
    """Draw, train, measure, report.

    Args:
        out: the folder for everything; may hold an older demo, which is replaced.
        seed: of the world and of training.
        world: the wardrobe to draw, instead of the demo's.
        trunk: the recipe of the first stage, instead of the demo's.
        shared: what the ablation's recipes share, instead of the demo's.
        console: where progress is shown; nowhere if None.

    Returns:
        the report's path.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: something else is at ``out``.
    """
    require_matplotlib()  # before minutes are spent
    out = Path(out)
    refuse_foreign(out, marker="wardrobe/dataset.json")
    shutil.rmtree(out / "runs", ignore_errors=True)
    world = world or world_config(seed=seed)
    trunk = trunk or overlaid(trunk_config(), {}, seed=seed)
    shared = shared or stored_config(trunk)
    clock = Stopwatch(console)

    with clock.time("drawing the wardrobe"):
        wardrobe = draw_wardrobe(world, out / "wardrobe")
    with clock.time("training the trunk, end to end"):
        fit(trunk, wardrobe.dataset, out / "runs" / "trunk", progress=console is not None)
    with clock.time("storing its feature maps"):
        store_maps(wardrobe.dataset, trunk, out / "runs" / "trunk")
    trained = []
    for recipe in RECIPES:
        with clock.time(f"training {recipe.name}"):
            run = out / "runs" / recipe.folder
            fit(overlaid(shared, recipe.changes), wardrobe.dataset, run, progress=console is not None)
            trained.append(load(run, data=wardrobe.dataset))
    with clock.time("measuring"):
        measured = [
            Measured(recipe, _evaluate(recommender.scorer, wardrobe.dataset), _curve(out / "runs" / recipe.folder))
            for recipe, recommender in zip(RECIPES, trained, strict=True)
        ]
        ceiling = _evaluate(PlainScorer(wardrobe.truth.utility), wardrobe.dataset)
    with clock.time("writing the report"):
        story = Story(
            wardrobe,
            measured,
            ceiling,
            trained[-1],
            config=overlaid(shared, RECIPES[-1].changes),
            seconds=clock.seconds,
        )
        page = render(make_report(story, seed=seed))
        write_aside(out / "results.json", json.dumps(_numbers(measured, ceiling, clock.seconds), indent=1) + "\n")
        write_aside(out / "report.html", page)
    return out / "report.html"


def store_maps(dataset: Dataset, config: Config, run: Path) -> None:
    """The maps of a run's best trunk, as a feature store of the data set (the second regime of D4)."""
    model, _ = from_pretrained(run / "best")
    weights = run / "trunk.safetensors"
    save_file(model.backbone.trunk.state_dict(), weights)
    extract_features(dataset, overlaid(config, {"backbone": {"weights": str(weights)}}), name=STORE)


def _evaluate(scorer: Scorer, dataset: Dataset) -> dict[Kind, Result]:
    return {kind: evaluate(scorer, dataset, negatives=kind) for kind in KINDS}


def _curve(run: Path) -> tuple[list[float], list[float]]:
    """Epochs, counted from 1, and the validation AUC of the binary codes after each."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    validated = [line for line in lines if "val" in line]
    return [line["epoch"] + 1 for line in validated], [line["val"]["auc"] for line in validated]


def _numbers(
    measured: Sequence[Measured], ceiling: Mapping[Kind, Result], seconds: Mapping[str, float]
) -> dict[str, Any]:
    def short(results: Mapping[Kind, Result]) -> dict[str, Any]:
        return {kind: result.to_json(per_user=False) for kind, result in results.items()}

    return {
        "recipes": {each.recipe.name: short(each.results) for each in measured},
        "ceiling": short(ceiling),
        "seconds": dict(seconds),
        **pedigree(),
    }


class Stopwatch:
    """Says on the console what is being done, and remembers how long each thing took."""

    def __init__(self, console: Console | None) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console

    @contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Times the block."""
        if self._console is not None:
            self._console.print(f"[bold]{what} ...")
        start = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - start
