"""One run of a table: trained, or resumed, on the trunk that rows share where there is one; then measured on test."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panfit.config import Config
from panfit.data.wardrobe_truth import Truth, read_truth
from panfit.evaluate import Result, evaluate
from panfit.features.extract import extract_features
from panfit.features.inputs import store_folder
from panfit.features.store import MANIFEST_FILE
from panfit.loading import load
from panfit.outfits import Dataset, Kind
from panfit.pointing import measure_pointing
from panfit.recommend import Recommender
from panfit.reproduce.recipe import TRUNK_SECTIONS, fingerprint, wants_trunk, with_trunk
from panfit.train.loop import fit
from panfit.train.pretrain import fit_trunk, preferred_device
from panfit.train.run_folder import RUN_FILE

LOGGER = logging.getLogger("panfit")

SHOWN = 8
"""Characters of a fingerprint in a folder's name."""


@dataclass(frozen=True)
class Measured:
    """What came of a run.

    Attributes:
        results: on test, one a kind of negatives.
        seconds: of training, the shared trunk's aside.
        extra: what else its result files tell: "trunk", the settings of the shared one; "pointing", where it looks.
    """

    results: tuple[Result, ...]
    seconds: float
    extra: dict[str, Any]


def train_run(
    config: Config,
    dataset: Dataset,
    out: Path,
    belongs: str,
    *,
    trunk: Config | None,
    kinds: Sequence[Kind],
    progress: bool,
) -> Measured:
    """Train what the settings say in OUT/runs/<method>-<f>, or go on with it, and measure it.

    ``belongs`` is the settings' fingerprint, <f> its first 8 characters: a run that is finished there, of another row
    that says the same, is measured as it is.
    """
    extra: dict[str, Any] = {}
    if trunk is not None and wants_trunk(config):
        config = with_trunk(config, store_trunk(trunk, dataset, out, progress=progress))
        extra["trunk"] = trunk.model_dump(mode="json", include=set(TRUNK_SECTIONS))
    folder = out / "runs" / f"{config.method}-{belongs[:SHOWN]}"
    trained = fit(config, dataset, folder, resume=(folder / RUN_FILE).exists(), progress=progress)
    recommender = load(folder, data=dataset, device=preferred_device(config))
    looks = where_it_looks(recommender, config)
    if looks is not None:
        extra["pointing"] = looks
    results = [evaluate(recommender.scorer, dataset, negatives=kind) for kind in kinds]
    return Measured(tuple(results), trained.seconds, extra)


def store_trunk(trunk: Config, dataset: Dataset, out: Path, *, progress: bool) -> str:
    """Train the shared trunk in OUT/trunk-<f> and store its maps beside the data, unless they are there.

    Returns:
        the feature store's name, the folder's own.

    Raises:
        FeatureStoreError: the data set is in memory, the disk is full.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    name = f"trunk-{fingerprint(trunk, dataset)[:SHOWN]}"
    if not (store_folder(dataset, name) / MANIFEST_FILE).exists():
        LOGGER.info("the trunk that the rows share: %d epochs on the catalogue", trunk.pretrain.epochs)
        weights = str(fit_trunk(trunk, dataset, out / name, progress=progress))
        trained = trunk.model_copy(update={"backbone": trunk.backbone.model_copy(update={"weights": weights})})
        extract_features(dataset, trained, name=name, device=preferred_device(trunk))
    return name


def truth_of(dataset: Dataset) -> Truth | None:
    """What is true in a drawn world; None for any other data."""
    if dataset.folder is None or not (dataset.folder / "truth").exists():
        return None
    return read_truth(dataset.folder)


def where_it_looks(recommender: Recommender, config: Config) -> dict[str, Any] | None:
    """Whether attention looks where the users care, as JSON; None without attention, or where nobody knows."""
    truth = truth_of(recommender.dataset) if config.method == "pan" and config.attention.kind == "pan" else None
    if truth is None or len(np.unique(truth.groups)) < 2:
        return None
    pools, rng = recommender.dataset.split_items("test"), np.random.default_rng(0)
    return measure_pointing(recommender.pan, recommender.inputs, truth, pools, rng).to_json()
