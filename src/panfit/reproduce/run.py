"""REPRODUCE: one of the paper's tables on one's own data set, beside the paper's numbers (`panfit reproduce`).

    OUT/trunk-<f>/              the trunk that rows share, where the recipe has one
    DATA/features/trunk-<f>/    its maps, stored beside the data
    OUT/runs/<method>-<f>/      one training; <f>: the first 8 characters of its fingerprint
    OUT/results/<dataset>/      one result file a run and kind of negatives
    OUT/table1.html, .md        written anew after every run

A run whose result files carry its fingerprint is done; any other is trained, or resumed where it was interrupted. So
running the same command again goes on, and a changed setting runs again what it changes and nothing else.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panfit.config import Config
from panfit.evaluate import PlainScorer, evaluate
from panfit.files import write_aside
from panfit.outfits import KINDS, Dataset, Kind
from panfit.reproduce.needs import check_rows
from panfit.reproduce.page import render_html
from panfit.reproduce.recipe import (
    RECIPES,
    check_trunk,
    default_recipe,
    differing_settings,
    fingerprint,
    read_rows,
    read_trunk,
    recipe_folder,
    wants_trunk,
    without_paths,
)
from panfit.reproduce.rows import CEILING, TABLES, Row, Table, TableName
from panfit.reproduce.table import Content, TableReport, facts_of, make_report, measured_line
from panfit.reproduce.training import Measured, train_run, truth_of
from panfit.reproduce.words import render_markdown
from panfit.results import result_path, write_result

LOGGER = logging.getLogger("panfit")

BARE_TRUNKS = ("alexnet", "resnet50")
"""Trunks that the paper takes pre-trained."""


@dataclass(frozen=True)
class Reproduction(os.PathLike[str]):
    """Where a table lies, and what it says; as a path, its HTML page."""

    html: Path
    markdown: Path
    report: TableReport

    def __fspath__(self) -> str:
        return os.fspath(self.html)


@dataclass(frozen=True, eq=False)
class _Job:
    """One run: a row with one seed."""

    row: Row
    config: Config
    fingerprint: str


def reproduce(
    table: TableName,
    dataset: Dataset,
    out: str | Path,
    *,
    seeds: int = 5,
    recipe: str | None = None,
    rows: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    smoke: bool = False,
    progress: bool = True,
) -> Reproduction:
    """Train and measure every row of a table, and write it down beside the paper's.

    Seeds are the outer loop: the whole table is there after the first round, and every later one sharpens it.

    Args:
        table: "table1", the rivals; "table2", the ablation.
        dataset: with likes, random negatives and questions in "val" and "test"; hard negatives are measured where
            there are some.
        out: a folder for everything; what an earlier call finished there is kept.
        seeds: of each row, 0 to seeds - 1.
        recipe: "paper", "small", or a folder of one's own; None: `default_recipe`.
        rows: names of the rows to run; None: all.
        overrides: ``section.key=value`` settings laid over every row.
        smoke: tiny sizes, one epoch, one seed, only to see that everything runs.
        progress: show a bar for each training, on stderr.

    Raises:
        ConfigError: an unknown row or recipe, settings that are missing or wrong.
        DataError: the data set lacks what rows need; everything that is lacking.
        KeyboardInterrupt: Ctrl-C; the state is saved, the same call goes on.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, not {seeds}")
    recipe = recipe or default_recipe(dataset.name)
    folder = recipe_folder(recipe)
    chosen = TABLES[table].choose(rows)
    configs = read_rows(folder, chosen, overrides, smoke=smoke)
    trunk = read_trunk(folder, overrides, smoke=smoke)
    if trunk is not None:
        check_trunk(configs, trunk)
    check_rows(configs, dataset)
    series = _Series(
        TABLES[table],
        chosen,
        dataset,
        Path(out),
        recipe=recipe if recipe in RECIPES else "own",
        seeds=1 if smoke else seeds,
        smoke=smoke,
        progress=progress,
    )
    LOGGER.info("%s on %s: recipe %s, seeds %d, rows %s", table, dataset.name, recipe, series.seeds, ", ".join(configs))
    return series.run(configs, trunk)


class _Series:
    """All runs of one call, and what they share."""

    def __init__(
        self,
        table: Table,
        rows: Sequence[Row],
        dataset: Dataset,
        out: Path,
        *,
        recipe: str,
        seeds: int,
        smoke: bool,
        progress: bool,
    ) -> None:
        self.table, self.rows, self.dataset, self.out = table, rows, dataset, out.resolve()
        self.recipe, self.seeds, self.smoke, self.progress = recipe, seeds, smoke, progress
        has_hard = len(dataset.negatives.get(("test", "hard"), ())) > 0
        self.kinds: tuple[Kind, ...] = KINDS if has_hard else ("random",)
        self.notes: list[str] = []
        self.told: set[Path] = set()
        if not has_hard:
            self._note("The data set has no hard negatives in test: there is no such column.")

    def run(self, configs: Mapping[str, Config], trunk: Config | None) -> Reproduction:
        """Every run that is not done yet, and the page after each."""
        self._tell(configs, trunk)
        jobs = []
        for seed in range(self.seeds):
            for row in self.rows:
                config = configs[row.name].model_copy(update={"seed": seed})
                jobs.append(_Job(row, config, fingerprint(config, self.dataset, trunk)))
        ceiling = self._ceiling()
        written = self._write(configs, jobs, ceiling)
        if written.report.done:
            LOGGER.info("%d of %d runs are done already", written.report.done, len(jobs))
        for place, job in enumerate(jobs, start=1):
            if self._files(job) is None:
                where = (job.row.name, job.config.seed + 1, self.seeds, place, len(jobs))
                LOGGER.info("%s, seed %d of %d; run %d of %d", *where)
                measured = train_run(
                    job.config,
                    self.dataset,
                    self.out,
                    job.fingerprint,
                    trunk=trunk,
                    kinds=self.kinds,
                    progress=self.progress,
                )
                self._keep(job, measured)
                written = self._write(configs, jobs, ceiling)
        return written

    def _tell(self, configs: Mapping[str, Config], trunk: Config | None) -> None:
        """What a reader should know of the trunks."""
        bare = [name for name, config in configs.items() if _starts_bare(config)]
        if bare:
            self._note(
                f"No pre-trained weights: {', '.join(bare)} start at random. The paper's AlexNet and ResNet-50 knew "
                "ImageNet; name their file by --set backbone.weights=FILE."
            )
        sharing = [name for name, config in configs.items() if wants_trunk(config)]
        if trunk is not None and sharing:
            epochs = f"{trunk.pretrain.epochs} epoch{'s' * (trunk.pretrain.epochs > 1)}"
            self.notes.append(f"One frozen trunk, pre-trained for {epochs} on the catalogue: {', '.join(sharing)}.")

    def _keep(self, job: _Job, measured: Measured) -> None:
        """Write a run's result files, one a kind of negatives."""
        for result in measured.results:
            write_result(
                self.out / "results",
                result,
                model=job.row.name,
                recipe=self._recipe_word,
                seed=job.config.seed,
                config=without_paths(job.config),
                seconds=measured.seconds,
                extra={"fingerprint": job.fingerprint, **measured.extra},
                warn=False,  # once a page, not twice a run: it marks the commit
            )

    def _ceiling(self) -> list[Content]:
        """What the true tastes reach, where the data set is a drawn world."""
        truth = truth_of(self.dataset)
        if truth is None:
            return []
        belongs = hashlib.sha256(self.dataset.checksum.encode()).hexdigest()
        files = self._read(CEILING.name, "truth", 0, belongs)
        if files is None:
            for kind in self.kinds:
                result = evaluate(PlainScorer(truth.utility), self.dataset, negatives=kind)
                write_result(
                    self.out / "results", result, model=CEILING.name, recipe="truth", seed=0, config=None, seconds=0.0,
                    extra={"fingerprint": belongs}, warn=False,
                )  # fmt: skip
            files = self._read(CEILING.name, "truth", 0, belongs)
        return files or []

    def _files(self, job: _Job) -> list[Content] | None:
        return self._read(job.row.name, self._recipe_word, job.config.seed, job.fingerprint)

    def _read(self, model: str, recipe: str, seed: int, belongs: str) -> list[Content] | None:
        """A run's result files, one a kind of negatives; None unless all are there with its fingerprint."""
        files: list[Content] = []
        for kind in self.kinds:
            path = result_path(
                self.out / "results", self.dataset.name, model=model, recipe=recipe, seed=seed, negatives=kind
            )
            content = _content(path)
            if content.get("fingerprint") != belongs:
                if content and path not in self.told:
                    LOGGER.info("%s is of other settings or data than asked for now; it will be replaced", path.name)
                    self.told.add(path)
                return None
            files.append(content)
        return files

    @property
    def _recipe_word(self) -> str:
        """What result files call the settings; a smoke run never replaces a real one."""
        return f"{self.table.name}.{self.recipe.replace('/', '.')}" + (".smoke" if self.smoke else "")

    def _write(self, configs: Mapping[str, Config], jobs: Sequence[_Job], ceiling: Sequence[Content]) -> Reproduction:
        """The table as far as it has come, to both pages."""
        done = {job: files for job in jobs if (files := self._files(job)) is not None}
        report = make_report(
            self.table,
            {row: [file for job, files in done.items() if job.row == row for file in files] for row in self.rows},
            self.dataset.name,
            facts=facts_of(self.dataset),
            ceiling=measured_line(CEILING, ceiling) if ceiling else None,
            recipe=self.recipe,
            smoke=self.smoke,
            num_seeds=self.seeds,
            done=len(done),
            total=len(jobs),
            settings={name: without_paths(config).to_toml() for name, config in configs.items()},
            differing=differing_settings(configs),
            notes=self.notes,
        )
        self.out.mkdir(parents=True, exist_ok=True)
        html, markdown = (self.out / f"{self.table.name}.{suffix}" for suffix in ("html", "md"))
        write_aside(html, render_html(report))
        write_aside(markdown, render_markdown(report))
        return Reproduction(html, markdown, report)

    def _note(self, sentence: str) -> None:
        LOGGER.warning("%s", sentence)
        self.notes.append(sentence)


def _starts_bare(config: Config) -> bool:
    """Whether a row's trunk, which the paper takes pre-trained, has no weights to start from."""
    backbone = config.backbone
    return backbone.source == "images" and backbone.name in BARE_TRUNKS and backbone.weights is None


def _content(path: Path) -> dict[str, Any]:
    """What a result file holds; nothing for one that is missing or is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
