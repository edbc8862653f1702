"""The Ray engine of `panfit features`: the same blocks by the same code, sharded over a cluster's actors.

The actors write into one file, each its own stretches of it, on a file system that all machines share. A block's
checksum comes back to whoever asked. A killed actor is replaced, and its piece is done again, twice the same.
"""

import os
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path
from typing import Any

import torch

from panfit.config import Config
from panfit.data.folder import read_dataset
from panfit.errors import FeatureStoreError, PanfitError, Problem
from panfit.features.extract import PhotoEncoder
from panfit.features.filling import Filler, write_blocks
from panfit.features.store import Manifest
from panfit.outfits import Dataset
from panfit.ray_cluster import TRIES, begin_try, end_try, map_on_ray

BLOCKS_PER_PIECE = 8
"""What a killed actor can lose, and what a message is about: 256 photos, some seconds of work."""


@dataclass(frozen=True)
class ExtractionPlan:
    """What an actor needs to know; all paths are absolute.

    Attributes:
        data: the data set's folder.
        config: a `Config`, as JSON.
        manifest: a `Manifest`, as JSON.
        array: the file to write into; it is there, in its full size.
        device: where the trunk runs.
    """

    data: str
    config: str
    manifest: str
    array: str
    device: str


class EncodeBlocks:
    """What a Ray actor does: a piece, some blocks -> what became of each, as JSON, and what went wrong ("" if nothing).

    Of each block its number, and its checksum or the problems of its photos. The trunk is built with the first piece
    and not in the constructor, so that a mistake comes back as an answer.
    """

    def __init__(self, plan: ExtractionPlan) -> None:
        self._plan = plan
        self._manifest = Manifest.model_validate_json(plan.manifest)
        self._encoder: PhotoEncoder | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        answers = [self._answer(list(map(int, blocks))) for blocks in batch["blocks"]]
        return {
            "outcomes": [dumps(outcomes) for outcomes, _ in answers],
            "failure": [failure for _, failure in answers],
        }

    def _answer(self, blocks: list[int]) -> tuple[list[tuple[int, Any]], str]:
        note = Path(self._plan.array).parent / f".tries-{blocks[0]}"
        outcomes: list[tuple[int, Any]] = []
        failure = ""
        try:
            if not begin_try(note):
                return [], self._died(blocks)
            outcomes = self._write(blocks)
        except (PanfitError, OSError) as error:
            failure = str(error)
        end_try(note)
        return outcomes, failure

    def _write(self, blocks: list[int]) -> list[tuple[int, Any]]:
        self._encoder = self._encoder or self._open()
        outcomes: list[tuple[int, Any]] = []
        with Path(self._plan.array).open("r+b") as file:
            encoder = self._encoder
            written = write_blocks(file, self._manifest, blocks, prepare=encoder.decode, encode=encoder.encode)
            for block, outcome in written:
                outcomes.append((block, outcome if isinstance(outcome, int) else [asdict(each) for each in outcome]))
            os.fsync(file.fileno())
        return outcomes

    def _open(self) -> PhotoEncoder:
        """Raises FeatureStoreError where this machine has another data set or other weights than the manifest's."""
        if self._plan.device == "cpu":
            torch.set_num_threads(1)  # Ray has given the actor one
        dataset = read_dataset(Path(self._plan.data))
        encoder = PhotoEncoder(dataset, Config.model_validate_json(self._plan.config), device=self._plan.device)
        found = Manifest.describe(
            dataset, **self._manifest.model_dump(exclude=SET_BY_DATASET), item_shape=encoder.map_shape
        )
        found = found.model_copy(update={"weights": encoder.weights})
        if differences := found.differences(self._manifest):
            raise FeatureStoreError(
                f"{self._plan.data}: a worker on this cluster finds another {' and '.join(differences)} than where the "
                "command was given. All machines must see the same files under the same paths"
            )
        encoder.compute_in(self._manifest.arithmetic)
        return encoder

    def _died(self, blocks: list[int]) -> str:
        first, last = self._manifest.block_rows(blocks[0])[0], self._manifest.block_rows(blocks[-1])[-1]
        return (
            f"{TRIES} workers died of the photos of items {first} to {last}; out of memory? Run the command again with "
            "fewer workers: it goes on"
        )


def filler_on_ray(
    dataset: Dataset, config: Config, *, device: str = "cpu", workers: int | None = None, address: str | None = None
) -> Filler:
    """What fills a store with the trunk's maps on a Ray cluster: `extract_features(..., elsewhere=...)`.

    Args:
        dataset: a data set with a folder that all machines see.
        config: ``images``, ``backbone`` and ``seed`` are used.
        device: where the trunks run; "cuda": each actor takes a GPU.
        workers: see `map_on_ray`.
        address: see `map_on_ray`.

    Raises FeatureStoreError for a data set without a folder; used, what `map_on_ray` raises.
    """
    if dataset.folder is None:
        raise FeatureStoreError("a cluster reads the data set from its folder, and this one has none")
    folder = dataset.folder.resolve()

    def fill(array: Path, manifest: Manifest, blocks: Sequence[int]) -> Generator[tuple[int, int | list[Problem]]]:
        if not blocks:
            return
        plan = ExtractionPlan(
            str(folder), _with_absolute_paths(config).model_dump_json(), manifest.model_dump_json(),
            str(array.resolve()), device,
        )  # fmt: skip
        pieces = [
            {"blocks": list(blocks[at : at + BLOCKS_PER_PIECE])} for at in range(0, len(blocks), BLOCKS_PER_PIECE)
        ]
        gpus = 1 if device.startswith("cuda") else 0
        for row in map_on_ray(EncodeBlocks, plan, pieces, workers=workers, address=address, gpus=gpus):
            for block, outcome in loads(row["outcomes"]):
                yield block, outcome if isinstance(outcome, int) else [Problem(**each) for each in outcome]

    return fill


SET_BY_DATASET = {"dataset", "dataset_checksum", "items", "shape"}
"""What `Manifest.describe` says itself."""


def _with_absolute_paths(config: Config) -> Config:
    """Workers are started in folders of their own."""
    backbone = config.backbone
    paths = {
        name: str(Path(value).resolve())
        for name, value in (("weights", backbone.weights), ("hf_model", backbone.hf_model))
        if value is not None and Path(value).exists()
    }
    return config.model_copy(update={"backbone": backbone.model_copy(update=paths)})
