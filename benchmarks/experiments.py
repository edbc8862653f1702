"""Run again what results/*.json came from: the paper's tables, what decides whether attention works, the headlines.

    make experiments                                            everything that has no result file yet
    .venv/bin/python benchmarks/experiments.py closet --seeds 0 1 2        one study
    .venv/bin/python benchmarks/experiments.py table1-closet options-wardrobe

Each run trains in its own folder under --work and resumes there; each evaluation leaves one result file under --results
and is skipped when that file is there. `make results` turns the files into tables.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from panfit.config import Config
from panfit.data.folder import read_dataset, write_dataset
from panfit.data.table import import_table
from panfit.data.wardrobe import draw_wardrobe
from panfit.data.wardrobe_truth import read_truth
from panfit.data.wardrobe_world import WardrobeConfig
from panfit.evaluate import PlainScorer, evaluate
from panfit.features.inputs import build_inputs
from panfit.files import write_aside
from panfit.model.checkpoint import from_pretrained
from panfit.outfits import KINDS, Dataset
from panfit.reproduce.recipe import fingerprint, read_trunk
from panfit.reproduce.rows import TABLE_NAMES, TableName
from panfit.reproduce.run import reproduce
from panfit.reproduce.training import train_run
from panfit.results import write_result
from panfit.scoring import OutfitScorer
from panfit.train.loop import fit
from panfit.train.pretrain import TRUNK_FILE
from panfit.train.run_folder import CONFIG_FILE
from panfit.train.state import STATE_FILE

ROOT = Path(__file__).resolve().parent.parent
log = logging.getLogger("panfit")


@dataclass(frozen=True)
class Recipe:
    """One row of a study.

    Attributes:
        name: the row's name in files and tables.
        config: a config file under configs/.
        changes: ``section.key=value`` settings laid over it.
        model: what the result file calls the model.
    """

    name: str
    config: str
    changes: tuple[str, ...] = ()
    model: str = "pan"


SOFT, HARD_AT_END, HARD = (f"train.straight_through_from={share}" for share in (1.0, 0.67, 0.0))
PLAIN, BALANCED = (f"model.code_norm={norm}" for norm in ("none", "batch"))
BITS_128, BITS_256, BITS_512 = (f"model.code_bits={bits}" for bits in (128, 256, 512))
BEFORE = ("model.code_bits=256", "negatives.per_like=4", "negatives.hard_ratio=0.0", "optimizer.attention=0.003")
WARDROBE_BEFORE = (
    "attention.gate=mean",
    "negatives.per_like=4",
    "negatives.hard_ratio=0.0",
    "optimizer.attention=0.003",
)
CLOSET_WITHOUT = {  # what each part of the closet's recipe is worth, and what it was before
    "closet.256_bits": BEFORE,
    "closet.256_bits.without_attention": (*BEFORE, "attention.kind=none"),
    "closet.without_text": ("text.source=none",),
    "closet.without_attention": ("attention.kind=none",),
    "closet.without_user_loss": ("loss.lambda_user=0.0",),
    "closet.without_pretraining": ("pretrain.epochs=0", "backbone.frozen=false"),
    "closet.without_mined_negatives": ("negatives.hard_ratio=0.0",),
}
OPTIONS = {  # what decides whether attention works: each row is the small recipe's PAN but for these
    "options.base": (),
    "options.gate.sigmoid": ("attention.gate=sigmoid",),
    "options.gate.double": ("attention.gate=double",),
    "options.gate.residual": ("attention.gate=residual",),
    "options.gate.softmax": ("attention.gate=softmax",),
    "options.map.scalar": ("attention.user_map=scalar",),
    "options.map.query": ("attention.user_map=query",),
    "options.input.code": ("attention.user_input=code",),
    "options.rate.0001": ("optimizer.attention=0.001",),
    "options.rate.003": ("optimizer.attention=0.003",),
    "options.rate.1": ("optimizer.attention=0.1",),
    "options.user.std.1": ("model.user_init_std=0.1",),
    "options.user.rate.003": ("optimizer.user=0.003",),
    "options.hn.none": ("negatives.hard_ratio=0.0",),
    "options.hn.half": ("negatives.hard_ratio=0.5",),
    "options.hn.personal": ("negatives.compare=personal",),
    "options.hn.any": ("negatives.choose=any",),
    "options.hn.near.2": ("negatives.choose=random", "negatives.k_ratio=0.2"),
    "options.hn.near.5": ("negatives.choose=random", "negatives.k_ratio=0.5"),
    "options.hn.nearest": ("negatives.choose=nearest",),
    "options.hn.loss": ("negatives.choose=loss", "negatives.k_ratio=0.2"),
    "options.hn.warmup.5": ("negatives.warmup_epochs=5",),
    "options.ul.none": ("loss.lambda_user=0.0",),
    "options.ul.paper": ("loss.lambda_user=0.1",),
    "options.ul.1": ("loss.lambda_user=1.0",),
    "options.additions.attention_alone": ("loss.lambda_user=0.0", "negatives.hard_ratio=0.0"),
    "options.negatives.1": ("negatives.per_like=1",),
    "options.negatives.10": ("negatives.per_like=10",),
    "options.codes.soft": ("train.straight_through_from=1.0",),
    "options.codes.soft.sqrt_beta": ("train.straight_through_from=1.0", "train.beta=sqrt"),
    "options.codes.soft.late_beta": ("train.straight_through_from=1.0", "train.beta=late"),
    "options.codes.soft.penalty": ("train.straight_through_from=1.0", "loss.lambda_quantization=0.1"),
    "options.bits.64": ("model.code_bits=64",),
    "options.bits.256": ("model.code_bits=256",),
    "options.head.mask": ("backbone.head=mask",),
    "options.head.flatten": ("backbone.head=flatten",),
    "options.head.mask.no_attention": ("backbone.head=mask", "attention.kind=none"),
    "options.head.flatten.no_attention": ("backbone.head=flatten", "attention.kind=none"),
    "options.text.none": ("text.source=none",),
    "options.text.none.no_attention": ("text.source=none", "attention.kind=none"),
}
PAPERS_OWN = (  # the paper's and FHN's training (configs/paper) on the small trunk, in 30 epochs instead of 100
    "negatives.per_like=1", "negatives.source=split", "negatives.hard_ratio=0.5", "negatives.choose=loss",
    "loss.lambda_user=0.1", "loss.lambda_vse=0.1", "attention.gate=sigmoid",
    "model.code_norm=none", "model.feature_norm=none", "model.dropout=0.5", "model.input_dropout=0.5",
    "model.encoder_init_std=0.01", "optimizer.name=sgd", "optimizer.user=10.0", "optimizer.attention=0.1",
    "optimizer.image_encoder=0.01", "optimizer.text_encoder=0.01", "optimizer.predictor=0.1",
    "optimizer.weight_decay=1e-6", "optimizer.schedule=fhn", "optimizer.warmup_steps=0",
    "train.beta=sqrt", "train.straight_through_from=1.0", "train.batch_size=64", "train.epochs=30",
)  # fmt: skip
PAPERS = {
    "options.paper": PAPERS_OWN,
    "options.paper.fhn": (*PAPERS_OWN, "negatives.hard_ratio=0.0", "loss.lambda_user=0.0", "attention.kind=none"),
}
SAME = (  # the rows of this study differ in codes alone
    "attention.kind=none",
    "loss.lambda_user=0.0",
    "negatives.per_like=4",
    "negatives.hard_ratio=0.0",
    "train.epochs=10",
)
CODES = {  # how much do binary codes lose, and which recipe loses least?
    "codes.soft": (SOFT, PLAIN, BITS_128),
    "codes.soft.sqrt_beta": (SOFT, PLAIN, BITS_128, "train.beta=sqrt"),
    "codes.soft.late_beta": (SOFT, PLAIN, BITS_128, "train.beta=late"),
    "codes.soft.penalty": (SOFT, PLAIN, BITS_128, "loss.lambda_quantization=0.1"),
    "codes.soft.balanced": (SOFT, BALANCED, BITS_128),
    "codes.soft.balanced.512": (SOFT, BALANCED, BITS_512),
    "codes.hard_at_end.balanced": (HARD_AT_END, BALANCED, BITS_128),
    "codes.hard": (HARD, PLAIN, BITS_128),
    "codes.hard.balanced": (HARD, BALANCED, BITS_128),
    "codes.hard.balanced.256": (HARD, BALANCED, BITS_256),
    "codes.hard.balanced.512": (HARD, BALANCED, BITS_512),
}


def run(recipe: Recipe, dataset: Dataset, *, seed: int, work: Path, results: Path, trunk: Path | None = None) -> None:
    """Train (or resume, or skip) one recipe with one seed, and evaluate it on test, random and hard."""
    wanted = [results / dataset.name / f"{recipe.model}-{recipe.name}-seed{seed}-{kind}.json" for kind in KINDS]
    if all(path.exists() for path in wanted):
        return
    changes = [*recipe.changes, f"seed={seed}"]
    if trunk is not None:
        changes += ["pretrain.epochs=0", f"backbone.weights={trunk}"]
    config = Config.read(ROOT / "configs" / recipe.config, changes)
    folder = work / dataset.name / f"{recipe.name}-seed{seed}"
    log.warning("%s", folder)
    resume = (folder / STATE_FILE).exists() or (folder / CONFIG_FILE).exists()
    report = fit(config, dataset, folder, resume=resume, progress=False)
    model, info = from_pretrained(folder / "best")
    scorer = OutfitScorer(model, build_inputs(dataset, config), beta=float(info.extra["beta"]))
    shown = config
    if trunk is not None:  # a result file names no path of the machine it was made on
        weights = trunk.relative_to(work).as_posix()
        shown = config.model_copy(update={"backbone": config.backbone.model_copy(update={"weights": weights})})
    for kind in KINDS:
        result = evaluate(scorer, dataset, split="test", negatives=kind)
        path = write_result(
            results, result, model=recipe.model, recipe=recipe.name, seed=seed, config=shown, seconds=report.seconds
        )
        log.warning("%s: FITB %.4f AUC %.4f NDCG %.4f", path.name, result.fitb, result.auc, result.ndcg)


def table(name: TableName, dataset: Dataset, *, work: Path, results: Path, seeds: int) -> None:
    """One of the paper's tables, by `panfit reproduce`; its result files join the others."""
    out = work / "tables" / dataset.name
    reproduce(name, dataset, out, seeds=seeds, progress=False)
    for path in (out / "results" / dataset.name).glob(f"*-{name}.small-*.json"):
        (results / dataset.name).mkdir(parents=True, exist_ok=True)
        write_aside(results / dataset.name / path.name, path.read_text("utf-8"))


def option(row: str, changes: Sequence[str], dataset: Dataset, *, seed: int, work: Path, results: Path) -> None:
    """One row of the study of options: the small recipe's PAN, changed, on the tables' trunk; skipped if it is done."""
    folder = ROOT / "configs" / "small"
    trunk = read_trunk(folder)
    config = Config.read(folder / "table2-ul_hn_an.toml", [*changes, f"seed={seed}"])
    belongs = fingerprint(config, dataset, trunk)
    paths = [results / dataset.name / f"pan-{row}-seed{seed}-{kind}.json" for kind in KINDS]
    if all(path.exists() and json.loads(path.read_text("utf-8")).get("fingerprint") == belongs for path in paths):
        return
    log.warning("%s, seed %d, on %s", row, seed, dataset.name)
    out = work / "tables" / dataset.name
    found = train_run(config, dataset, out, belongs, trunk=trunk, kinds=KINDS, progress=False)
    extra = {"fingerprint": belongs, **found.extra}
    for result in found.results:
        write_result(
            results, result, model="pan", recipe=row, seed=seed, config=config, seconds=found.seconds, extra=extra
        )
        log.warning("%s: FITB %.4f AUC %.4f NDCG %.4f", result.negatives, result.fitb, result.auc, result.ndcg)


def pretrained(dataset: Dataset, config_name: str, *, work: Path) -> Path:
    """One pre-trained trunk that all rows of a code study share, so that they differ in their codes alone."""
    config = Config.read(ROOT / "configs" / config_name, ["train.epochs=1", "seed=0"])
    folder = work / dataset.name / "trunk"
    if not (folder / TRUNK_FILE).exists():
        fit(config, dataset, folder, resume=(folder / CONFIG_FILE).exists(), progress=False)
    return folder / TRUNK_FILE


def closet(source: Path, work: Path) -> Dataset:
    """The closet, imported once."""
    folder = work / "data" / "closet"
    if not folder.exists():
        write_dataset(import_table(source).dataset, folder, source=f"table {source.name}")
    return read_dataset(folder)


def wardrobe(work: Path, *, signal: float = 1.0) -> Dataset:
    """The wardrobe world, drawn once; with signal 0 a world in which there is nothing to learn."""
    settings = WardrobeConfig.benchmark(name="wardrobe")
    if not signal:  # more users and test likes, so that chance is known to a hundredth
        changes = {"name": "wardrobe-signal0", "signal": 0.0, "num_users": 200, "likes_per_user": (20.0, 5.0, 40.0)}
        settings = settings.model_copy(update=changes)
    folder = work / "data" / settings.name
    if not folder.exists():
        draw_wardrobe(settings, folder)
    return read_dataset(folder)


def ceiling(dataset: Dataset, results: Path) -> None:
    """What the true utilities reach in a wardrobe world."""
    assert dataset.folder is not None
    truth = read_truth(dataset.folder)
    for kind in KINDS:
        result = evaluate(PlainScorer(truth.utility), dataset, split="test", negatives=kind)
        write_result(results, result, model="ceiling", recipe="truth", seed=0, config=None, seconds=0.0)


def studies(names: list[str], source: Path, work: Path, results: Path, seeds: list[int]) -> Iterator[str]:
    """The studies asked for, one after the other; yields each one's name when it is done."""
    for name in names:
        if name.startswith(("table1-", "table2-")):
            which, _, of_dataset = name.partition("-")
            dataset = closet(source, work) if of_dataset == "closet" else wardrobe(work)
            table(TABLES_BY_NAME[which], dataset, work=work, results=results, seeds=TABLE_SEEDS)
        elif name.startswith("options-"):
            dataset = closet(source, work) if name == "options-closet" else wardrobe(work)
            for seed in range(OPTION_SEEDS):
                for row, changes in {**OPTIONS, **PAPERS}.items():
                    option(row, changes, dataset, seed=seed, work=work, results=results)
        elif name == "closet":
            dataset = closet(source, work)
            for seed in seeds:
                run(Recipe("closet", "closet.toml"), dataset, seed=seed, work=work, results=results)
        elif name == "closet-without":
            dataset = closet(source, work)
            for row, changes in CLOSET_WITHOUT.items():
                run(Recipe(row, "closet.toml", changes), dataset, seed=0, work=work, results=results)
        elif name == "codes-closet":
            dataset = closet(source, work)
            trunk = pretrained(dataset, "closet.toml", work=work)
            for row, changes in CODES.items():
                recipe = Recipe(row, "closet.toml", (*SAME, *changes))
                run(recipe, dataset, seed=0, work=work, results=results, trunk=trunk)
        elif name == "wardrobe":
            dataset = wardrobe(work)
            ceiling(dataset, results)
            for seed in seeds:
                run(Recipe("wardrobe", "wardrobe.toml"), dataset, seed=seed, work=work, results=results)
            before = Recipe("wardrobe.random_negatives", "wardrobe.toml", WARDROBE_BEFORE)
            run(before, dataset, seed=0, work=work, results=results)
        elif name == "codes-wardrobe":
            dataset = wardrobe(work)
            trunk = pretrained(dataset, "wardrobe.toml", work=work)
            for row, changes in CODES.items():
                recipe = Recipe(row, "wardrobe.toml", (*SAME, *changes))
                run(recipe, dataset, seed=0, work=work, results=results, trunk=trunk)
        elif name == "signal0":
            run(Recipe("signal0", "wardrobe.toml"), wardrobe(work, signal=0.0), seed=0, work=work, results=results)
        yield name


TABLE_SEEDS, OPTION_SEEDS = 5, 1
TABLES_BY_NAME: dict[str, TableName] = {name: name for name in TABLE_NAMES}
TABLES_STUDIES = ("table2-closet", "table1-closet", "table2-wardrobe", "table1-wardrobe")
STUDIES = (
    *TABLES_STUDIES,
    "options-wardrobe",
    "options-closet",
    "closet",
    "wardrobe",
    "codes-closet",
    "codes-wardrobe",
    "signal0",
    "closet-without",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="which studies; all if none is named")
    parser.add_argument("--closet", type=Path, default=ROOT.parent / "shared/data/closet", help="the closet's tables")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/experiments", help="where runs live and resume")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where result files go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the headlines")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    names = arguments.studies or list(STUDIES)
    for done in studies(names, arguments.closet, arguments.work, arguments.results, arguments.seeds):
        log.warning("%s is done", done)


if __name__ == "__main__":
    main()
