"""How many likes make a newcomer a user? The cold-start question of Polyvore-53 and -32, on wardrobe and closet.

Every user is held out once: five models (`without-0` ... `without-4`) each never see the train and val likes of a fifth
of the users. Those become newcomers, from 0, 1, 2, 5, 10, 20 and 40 of their train likes (several seeded draws), and
answer the test split's fixed questions. Beside them: the mean user, who is nobody, and each user's own f_u in a model
that was trained with everybody (`all`).

    .venv/bin/python -m benchmarks.newcomers wardrobe closet          results/newcomers/<dataset>.json
    .venv/bin/python -m benchmarks.newcomers speed                    results/benchmarks/newcomers.json
    .venv/bin/python -m benchmarks.newcomers chart                    docs/images/newcomers.png, of the result files

Models train under --work and resume there. All times are of one thread.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its OpenMP would spin at barriers

import argparse
import json
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.experiments import closet, wardrobe
from panfit.bootstrap import interval95, resampled_means, weighted_mean
from panfit.config import Config
from panfit.encode import ItemCoder
from panfit.evaluate import evaluate
from panfit.features.inputs import ItemInputs, KeptMaps, build_inputs
from panfit.files import write_aside
from panfit.model.checkpoint import from_pretrained
from panfit.model.pan import Pan, PanShape
from panfit.newcomers import NewcomerFitter
from panfit.outfits import Dataset, FitbQuestions, IntArray, Outfits
from panfit.pedigree import pedigree
from panfit.scoring import OutfitScorer
from panfit.train.loop import fit
from panfit.train.pretrain import TRUNK_FILE
from panfit.train.run_folder import CONFIG_FILE
from panfit.train.state import STATE_FILE

ROOT = Path(__file__).resolve().parent.parent
log = logging.getLogger("panfit")

FOLDS = 5
COUNTS = (0, 1, 2, 5, 10, 20, 40)
DRAWS = 3
HEADLINE = 10
TARGET = 0.8
"""Of the way from the mean user to the fully trained one, in AUC on hard negatives, with `HEADLINE` likes."""
MEASURES = ("auc_hard", "auc_random", "fitb", "ndcg")
RESAMPLES = 1000
Values = dict[str, NDArray[np.float64]]
"""Measure -> (U,) values of users."""


@dataclass(frozen=True)
class Trained:
    """A model, its items' maps, and the steepness of its relaxed codes."""

    model: Pan
    inputs: ItemInputs
    beta: float


def without(dataset: Dataset, fold: int) -> Dataset:
    """The data set as if the users of a fold (row % 5) had liked nothing in train and val."""

    def kept(outfits: Outfits) -> Outfits:
        return outfits.take(outfits.users % FOLDS != fold)

    likes = {split: outfits if split == "test" else kept(outfits) for split, outfits in dataset.likes.items()}
    negatives = {key: kept(outfits) if key[0] == "val" else outfits for key, outfits in dataset.negatives.items()}
    asked = dataset.fitb["val"].outfits.users % FOLDS != fold  # (Q,)
    fitb = {**dataset.fitb, "val": chosen(dataset.fitb["val"], asked)}
    return replace(dataset, likes=likes, negatives=negatives, fitb=fitb)


def chosen(questions: FitbQuestions, rows: NDArray[np.bool_]) -> FitbQuestions:
    """Those of Q questions that are marked in (Q,)."""
    return FitbQuestions(
        questions.outfits.take(rows), questions.blank[rows], questions.candidates[rows], questions.answer[rows]
    )


def of_users(dataset: Dataset, users: IntArray) -> Dataset:
    """The data set with the test questions of some users only."""

    def kept(outfits: Outfits) -> Outfits:
        return outfits.take(np.isin(outfits.users, users))

    asked = np.isin(dataset.fitb["test"].outfits.users, users)  # (Q,)
    return replace(
        dataset,
        likes={**dataset.likes, "test": kept(dataset.likes["test"])},
        negatives={key: kept(outfits) for key, outfits in dataset.negatives.items() if key[0] == "test"},
        fitb={"test": chosen(dataset.fitb["test"], asked)},
    )


def train(dataset: Dataset, work: Path, name: str) -> Path:
    """The best checkpoint of `all` or `without-<fold>`, trained by the data set's recipe where it is not there yet."""
    recipe = ROOT / "configs" / f"{dataset.name}.toml"
    trunk_folder = work / "newcomers" / dataset.name / "trunk"  # one frozen trunk for all: it sees no likes
    if not (trunk_folder / TRUNK_FILE).exists():
        config = Config.read(recipe, ["train.epochs=1", "seed=0"])
        fit(config, dataset, trunk_folder, resume=(trunk_folder / CONFIG_FILE).exists(), progress=False)
    folder = work / "newcomers" / dataset.name / name
    if not (folder / "done").exists():
        log.warning("training %s", folder)
        seen = dataset if name == "all" else without(dataset, int(name.removeprefix("without-")))
        config = Config.read(recipe, [f"backbone.weights={trunk_folder / TRUNK_FILE}", "pretrain.epochs=0", "seed=0"])
        resume = (folder / STATE_FILE).exists() or (folder / CONFIG_FILE).exists()
        fit(config, seen, folder, resume=resume, progress=False)
        write_aside(folder / "done", "")
    return folder / "best"


def load(checkpoint: Path, dataset: Dataset, kept: KeptMaps | None) -> Trained:
    """A trained model with its frozen trunk's maps; those of an earlier fold serve again."""
    model, info = from_pretrained(checkpoint)
    inputs = build_inputs(dataset, model.config)
    if kept is None:
        with torch.inference_mode():
            blocks = np.array_split(np.arange(len(inputs)), -(-len(inputs) // 64))
            maps = [model.feature_maps(inputs.batch(rows)).numpy() for rows in blocks]  # each (n, C, H, W)
        kept = KeptMaps(np.concatenate(maps), None)
    return Trained(model, replace(inputs, source=kept), float(info.extra["beta"]))


def measure(trained: Trained, dataset: Dataset, users: IntArray, embeddings: Tensor | None) -> Values:
    """The users' (U,) test results of binary codes, with embeddings (U, D) in their rows' place, or with their own."""
    table = trained.model.user_encoder.embedding.weight  # (M, D)
    before = table.detach().clone()
    with torch.no_grad():
        if embeddings is not None:
            table[torch.from_numpy(users)] = embeddings
        asked = of_users(dataset, users)
        scorer = OutfitScorer(trained.model, trained.inputs, beta=trained.beta)
        hard = evaluate(scorer, asked, negatives="hard", resamples=0)
        random = evaluate(scorer, asked, negatives="random", resamples=0)
        table.copy_(before)
    assert hard.user_ids == random.user_ids == tuple(dataset.user_ids[user] for user in users)
    found = (hard.values["auc"], random.values["auc"], random.values["fitb"], random.values["ndcg"])
    return dict(zip(MEASURES, found, strict=True))


def draw_likes(dataset: Dataset, user: int, count: int, draw: int) -> IntArray:
    """(L, S) of a user's train likes; those of a smaller count are among those of a larger one."""
    train_likes = dataset.likes["train"]
    own = train_likes.items[train_likes.users == user]  # (n, S)
    return np.random.default_rng([draw, user]).permutation(own)[:count]


def study_fold(
    trained: Trained, dataset: Dataset, fold: int, draws: int
) -> tuple[IntArray, dict[int, Values], dict[str, Any]]:
    """Held-out users (U,), count -> their results (mean over draws), and seconds of CPU time."""
    every = np.arange(len(dataset.user_ids))
    held_out, known = every[every % FOLDS == fold], every[every % FOLDS != fold]
    seen = without(dataset, fold).likes["train"]
    known = np.intersect1d(known, seen.users)
    embeddings = trained.model.user_embeddings(torch.from_numpy(known)).detach()  # (M', D)
    fitter = NewcomerFitter(ItemCoder(trained.model, trained.inputs, beta=trained.beta), embeddings, seen.items)
    nothing = seen.items[:0]
    start = time.process_time()
    fitter.prepare()
    prepare_s = time.process_time() - start
    curve: dict[int, Values] = {}
    seconds: dict[int, float] = {}
    for count in COUNTS:
        found, times = [], []
        for draw in range(draws if count else 1):
            made = []
            for user in held_out.tolist():
                likes = draw_likes(dataset, user, count, draw)
                start = time.process_time()
                made.append(fitter.fit(likes, nothing))
                times.append(time.process_time() - start)
            found.append(measure(trained, dataset, held_out, torch.stack(made)))
        curve[count] = {name: np.mean([values[name] for values in found], axis=0) for name in MEASURES}
        seconds[count] = statistics.median(times)
        log.warning(
            "fold %d, %d likes: AUC hard %.4f, %.3f s", fold, count, curve[count]["auc_hard"].mean(), seconds[count]
        )
    return held_out, curve, {"prepare_s": prepare_s, "fit_s": seconds}


def summary(values: Values, mean_user: Values, full: Values) -> dict[str, Any]:
    """Measure -> mean over users, its 95 % interval, and the share of the way from the mean user to the full one."""
    columns = {
        f"{kind} {name}": (each[name], np.isfinite(each[name]).astype(np.float64))
        for kind, each in (("own", values), ("mean", mean_user), ("full", full))
        for name in MEASURES
    }
    means = {name: weighted_mean(*column) for name, column in columns.items()}
    drawn = resampled_means(columns, 0, resamples=RESAMPLES)
    shown = {}
    for name in MEASURES:
        own, low, high = (drawn[f"{kind} {name}"] for kind in ("own", "mean", "full"))  # (R,) each
        way = means[f"full {name}"] - means[f"mean {name}"]
        shown[name] = {
            "value": round(means[f"own {name}"], 4),
            "ci95": [round(bound, 4) for bound in interval95(own)],
            "share_of_the_way": round((means[f"own {name}"] - means[f"mean {name}"]) / way, 3),
            "share_ci95": [round(bound, 3) for bound in interval95((own - low) / (high - low))],
        }
    return shown


def study(dataset: Dataset, *, work: Path, results: Path, folds: Sequence[int], draws: int) -> None:
    """All folds of a data set, and its result file."""
    everybody = load(train(dataset, work, "all"), dataset, None)
    assert isinstance(everybody.inputs.source, KeptMaps)
    users: list[IntArray] = []
    curves: list[dict[int, Values]] = []
    full: list[Values] = []
    costs = []
    for fold in folds:
        trained = load(train(dataset, work, f"without-{fold}"), dataset, everybody.inputs.source)
        held_out, curve, cost = study_fold(trained, dataset, fold, draws)
        users.append(held_out)
        curves.append(curve)
        full.append(measure(everybody, dataset, held_out, None))
        costs.append(cost)
    joined = {count: _joined([curve[count] for curve in curves]) for count in COUNTS}
    trained_with = _joined(full)
    rows = [{"likes": count, **summary(joined[count], joined[0], trained_with)} for count in COUNTS]
    headline = rows[COUNTS.index(HEADLINE)]["auc_hard"]
    config = Config.read(ROOT / "configs" / f"{dataset.name}.toml")
    content = {
        "case": f"newcomers of {dataset.name}, {HEADLINE} likes: way from mean to trained user, AUC on hard negatives",
        "ratio_to_plain": None,
        "share_of_ceiling": headline["share_of_the_way"],
        "target": TARGET,
        "dataset": dataset.name,
        "checksum": dataset.checksum,
        "users": int(sum(map(len, users))),
        "folds": list(folds),
        "draws": draws,
        "trained_with": {
            name: shown["value"] for name, shown in summary(trained_with, joined[0], trained_with).items()
        },
        "curve": rows,
        "prepare_cpu_s": round(statistics.median(cost["prepare_s"] for cost in costs), 3),
        "fit_cpu_s": {count: round(statistics.median(cost["fit_s"][count] for cost in costs), 4) for count in COUNTS},
        **pedigree(),
        "config": config.model_dump(mode="json"),
        "per_user": {
            "user_id": [dataset.user_ids[user] for user in np.concatenate(users)],
            "trained_with": _rounded(trained_with["auc_hard"]),
            **{f"auc_hard_{count}": _rounded(joined[count]["auc_hard"]) for count in COUNTS},
        },
    }
    _write(results / "newcomers" / f"{dataset.name}.json", content)


def speed(results: Path) -> None:
    """Seconds of a newcomer with 10 likes among 630 users, from stored maps of ResNet-50's size (random numbers)."""
    generator = torch.Generator().manual_seed(0)
    num_items, num_users = 900, 630
    config = Config.parse({"backbone": {"source": "stored", "store": "speed", "head": "pool"}})
    shape = PanShape(
        num_users=num_users,
        slots=(("top", "top"), ("bottom", "bottom"), ("shoe", "shoe")),
        categories=("top", "bottom", "shoe"),
        text_dim=None,
        input_shape=(2048, 7, 7),
    )
    model = Pan(config, shape, generator=generator).eval()
    maps = torch.rand(num_items, 2048, 7, 7, generator=generator).half().numpy()  # (N, C, H, W)
    categories = torch.arange(3).repeat_interleave(num_items // 3)  # (N,)
    inputs = ItemInputs(source=KeptMaps(maps, None), categories=categories, text=None, images=config.images)
    rng = np.random.default_rng(0)
    outfits = np.stack([rng.integers(slot * 300, slot * 300 + 300, 500) for slot in range(3)], axis=1)  # (B, S)
    embeddings = torch.randn(num_users, config.model.code_bits, generator=generator)  # (M, D)
    fitter = NewcomerFitter(ItemCoder(model, inputs), embeddings, outfits)
    start = time.process_time()
    fitter.prepare()
    prepare_s = time.process_time() - start
    times = []
    for first in range(0, 50, HEADLINE):
        start = time.process_time()
        fitter.fit(outfits[first : first + HEADLINE], outfits[:0])
        times.append(time.process_time() - start)
    content = {
        "case": f"a newcomer with {HEADLINE} likes, 630 users, stored maps of 2048 x 7 x 7",
        "ratio_to_plain": None,
        "share_of_ceiling": None,
        "target": None,
        "fit_cpu_s": round(statistics.median(times), 3),
        "prepare_cpu_s": round(prepare_s, 3),
        "target_s": 1.0,
        "tastes": len(fitter.tastes.shares),
        "references": len(fitter.references),
        **pedigree(),
    }
    _write(results / "benchmarks" / "newcomers.json", content)


def chart(results: Path, path: Path) -> None:
    """The curves of all result files: AUC on hard negatives by number of likes, with intervals and trained users."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axis = figure.subplots()
    for color, source in zip(("#2f6f8f", "#b5542f"), sorted((results / "newcomers").glob("*.json")), strict=False):
        content = json.loads(source.read_text("utf-8"))
        places = np.arange(len(content["curve"]))  # (n,)
        found = [row["auc_hard"] for row in content["curve"]]
        low, high = np.array([each["ci95"] for each in found]).T  # (n,), (n,)
        axis.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
        axis.plot(places, [each["value"] for each in found], color=color, marker="o", label=content["dataset"])
        trained = content["trained_with"]["auc_hard"]
        axis.axhline(trained, color=color, linestyle="--", linewidth=1, label=f"{content['dataset']}, trained users")
        axis.set_xticks(places, [str(row["likes"]) for row in content["curve"]])
    axis.set_xlabel("likes of the newcomer")
    axis.set_ylabel("AUC, hard negatives")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    log.warning("%s", path)


def _joined(of_folds: Sequence[Values]) -> Values:
    return {name: np.concatenate([values[name] for values in of_folds]) for name in MEASURES}


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """A line a key: a diff shows what changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in content.items())
    write_aside(path, "{\n" + ",\n".join(lines) + "\n}\n")
    log.warning("%s", path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", choices=["wardrobe", "closet", "speed", "chart"])
    parser.add_argument("--closet", type=Path, default=ROOT.parent / "shared/data/closet", help="the closet's tables")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/experiments", help="where runs live and resume")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where result files go")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)), choices=range(FOLDS))
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of each newcomer's likes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    for name in arguments.studies:
        if name == "speed":
            speed(arguments.results)
        elif name == "chart":
            chart(arguments.results, ROOT / "docs" / "images" / "newcomers.png")
        else:
            dataset = wardrobe(arguments.work) if name == "wardrobe" else closet(arguments.closet, arguments.work)
            study(dataset, work=arguments.work, results=arguments.results, folds=arguments.folds, draws=arguments.draws)


if __name__ == "__main__":
    main()
