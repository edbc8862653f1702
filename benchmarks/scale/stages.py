"""The stages: what each runs, what it needs, and up to which scale.

FOLDER/<scale>/release         the drawn release             FOLDER/<scale>/data         the data set
FOLDER/<scale>/release-text    the same, and text vectors    FOLDER/<scale>/data-text    the data set, maps, text
FOLDER/<scale>/run             the trained run
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scale.release import Size, write_release
from benchmarks.scale.works import EXTRACTOR, STORE

ROOT = Path(__file__).resolve().parent.parent.parent
SEED, TEXT_DIM = 0, 2400
WITH_MAPS = 1.0
"""The largest scale of what needs maps and text: ten times Polyvore-630's would be 44 GB and twice 23."""
BATCH_USERS, TOP = 4, 10
RECIPE = ROOT / "configs" / "paper" / "table2-ul_hn_an.toml"
CHANGES = (
    f"backbone.name={EXTRACTOR}",
    f"backbone.store={STORE}",
    "backbone.head=pool",
    "negatives.warmup_epochs=0",
    "train.epochs=1",
)
"""Laid over the recipe: maps of AlexNet's form, pooled; mining from the first epoch, which is the only one."""


@dataclass(frozen=True)
class Place:
    """The folders of one scale."""

    folder: Path
    scale: float

    @property
    def size(self) -> Size:
        return Size.scaled(self.scale)

    @property
    def release(self) -> Path:
        return self.folder / "release"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def release_text(self) -> Path:
        return self.folder / "release-text"

    @property
    def data_text(self) -> Path:
        return self.folder / "data-text"

    @property
    def store(self) -> Path:
        return self.data_text / "features" / STORE

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def batch(self) -> Path:
        return self.folder / "batch.parquet"


Details = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One thing that is measured.

    Attributes:
        name, about: a word, and what is run.
        needs: stages whose products must be there.
        product: what it leaves and others need; None for nothing.
        prepare: what is done before, unmeasured.
        command: what is run and watched.
        details: what is read off its output, and off what it left.
        largest: the largest scale at which it is run.
    """

    name: str
    about: str
    command: Callable[[Place], list[str]]
    needs: tuple[str, ...] = ()
    product: Callable[[Place], Path] | None = None
    prepare: Callable[[Place], None] | None = None
    details: Callable[[Place, str], Details] = lambda place, output: {}
    largest: float = float("inf")


def panfit(*words: str | Path) -> list[str]:
    """The command line, as its users call it."""
    return [sys.executable, "-m", "panfit", *map(str, words)]


def work(name: str, path: Path) -> list[str]:
    """A process of works.py."""
    return [sys.executable, "-m", "benchmarks.scale.works", name, str(path)]


def _told(place: Place, output: str) -> Details:
    found: Details = json.loads(output)
    return found


def _draw(place: Place) -> None:
    write_release(place.release, place.size, seed=SEED)


def _draw_text(place: Place) -> None:
    write_release(place.release_text, place.size, seed=SEED, text_dim=TEXT_DIM)


def _clear_run(place: Place) -> None:
    shutil.rmtree(place.run, ignore_errors=True)


def _choose_users(place: Place) -> None:
    place.batch.unlink(missing_ok=True)
    shutil.rmtree(place.batch.with_name(place.batch.name + ".partial"), ignore_errors=True)
    users = [str(row * place.size.users // BATCH_USERS) for row in range(BATCH_USERS)]
    (place.folder / "users.txt").write_text("\n".join(users) + "\n", "utf-8")


def _trained(place: Place, output: str) -> Details:
    likes = place.size.likes["train"]
    told = json.loads((place.run / "log.jsonl").read_text("utf-8").splitlines()[-1])
    return {"likes": likes, "steps_s": told["seconds"]}


def _evaluated(place: Place, output: str) -> Details:
    told = json.loads(output)
    return {"evaluation_s": round(told["seconds"], 3), "questions": told["questions"], "users": told["users"]}


def _batched(place: Place, output: str) -> Details:
    told = json.loads(output)
    return {"users": told["users"], "rows": told["rows"], "batch_s": round(told["seconds"], 3)}


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "import",
            "panfit import polyvore-u: tables to a data set; val's questions drawn; neither photos nor text",
            lambda place: panfit("import", "polyvore-u", place.release, "--out", place.data),
            product=lambda place: place.data / "dataset.json",
            prepare=_draw,
        ),
        Stage(
            "check",
            "panfit check",
            lambda place: panfit("check", place.data),
            needs=("import",),
        ),
        Stage(
            "metrics",
            "FITB, AUC and both NDCGs of the test split from given scores, thrice, and thrice with intervals",
            lambda place: work("metrics", place.data),
            needs=("import",),
            details=_told,
        ),
        Stage(
            "import-text",
            f"the same import with a pickle of {TEXT_DIM:,} numbers an item; all that follows is of this data set",
            lambda place: panfit("import", "polyvore-u", place.release_text, "--out", place.data_text),
            product=lambda place: place.data_text / "dataset.json",
            prepare=_draw_text,
            largest=WITH_MAPS,
        ),
        Stage(
            "store",
            "a feature store of 256 x 6 x 6 float16 maps, which cost nothing to make",
            lambda place: work("store", place.data_text),
            needs=("import-text",),
            product=lambda place: place.store / "manifest.json",
            prepare=lambda place: shutil.rmtree(place.data_text / "features", ignore_errors=True),
            details=_told,
            largest=WITH_MAPS,
        ),
        Stage(
            "train",
            "panfit train: one epoch on stored maps, its validation and checkpoints; a step costs less where a batch "
            "holds the likes of few users, as in the smallest data sets, for it then mines among few pairs",
            lambda place: panfit(
                "train", RECIPE, "--data", place.data_text, "--out", place.run, "--quiet", "--json",
                *(word for change in CHANGES for word in ("--set", change)),
            ),
            needs=("store",),
            product=lambda place: place.run / "best" / "config.json",
            prepare=_clear_run,
            details=_trained,
            largest=WITH_MAPS,
        ),
        Stage(
            "load",
            "panfit.load of the run",
            lambda place: work("load", place.run),
            needs=("train",),
            details=_told,
            largest=WITH_MAPS,
        ),
        Stage(
            "evaluate",
            "panfit evaluate: the test split, ten random negatives a like, questions, 1,000 resamples",
            lambda place: panfit("evaluate", place.run, "--data", place.data_text, "--json"),
            needs=("train",),
            details=_evaluated,
            largest=WITH_MAPS,
        ),
        Stage(
            "batch",
            f"panfit batch: the ten best known outfits for {BATCH_USERS} users, at every scale",
            lambda place: panfit(
                "batch", place.run, "--data", place.data_text, "--out", place.batch, "--users",
                place.folder / "users.txt", "--top", str(TOP), "--quiet", "--json",
            ),
            needs=("train",),
            prepare=_choose_users,
            details=_batched,
            largest=WITH_MAPS,
        ),
    )
}  # fmt: skip
"""In the order in which they are run."""
