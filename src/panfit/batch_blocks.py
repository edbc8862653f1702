"""BLOCKS: a block of users -> its part; the same code in this process, in others, and on a Ray cluster.

A part holds the same bits wherever and after whatever else it is made. Rounding would tell: of how many items share a
matrix product, and of how many threads share its sum. So every process answers one fixed question first, which makes
the items' maps in one and the same order; every user's codes are made afresh; and one thread computes.

Never imports train.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from panfit.answers import Answer
from panfit.arithmetic import one_thread
from panfit.batch_parts import Block, Job, Row, hash_ids, write_part
from panfit.encode import device_of
from panfit.errors import CheckpointError
from panfit.loading import load
from panfit.newcomer_file import model_fingerprint
from panfit.newcomers import Newcomer
from panfit.outfits import Dataset
from panfit.ray_cluster import TRIES
from panfit.recommend import Recommender
from panfit.scoring import OutfitScorer


@dataclass(frozen=True)
class Plan:
    """What a worker on this machine or another needs to know.

    Attributes:
        run: the run folder, absolute.
        data: the data set's folder, absolute, or None: as the run says.
        allow_changed: take a data set that has changed since the training (`panfit.load`).
        folder: of the parts, absolute.
        job: what is asked.
    """

    run: str
    data: str | None
    allow_changed: bool
    folder: str
    job: Job


class BlockWriter:
    """Answers blocks of users and writes their parts.

    Args:
        recommender: left as it is; one of the writer's own answers.
        job: what is asked.
        folder: of the parts.
    """

    def __init__(self, recommender: Recommender, job: Job, folder: Path) -> None:
        self._job, self._folder = job, folder
        dataset = recommender.dataset
        self._outfit_ids = _outfit_ids(dataset)
        # Its cache holds one user's codes and no more; what the given one has cached, in whatever order, plays no part.
        self._recommender = Recommender(
            recommender.model, dataset, recommender.inputs, beta=_beta(recommender), cache_bytes=0
        )
        self._recommender.withdraw(job.withdrawn)
        self._stranger: Newcomer | None = None
        if isinstance(self._recommender.scorer, OutfitScorer):
            nobodys = torch.full([self._recommender.pan.config.model.code_bits], 0.0123)  # (D,)
            self._stranger = Newcomer("nobody", (), (), nobodys.to(device_of(recommender.model)))
        with one_thread():
            self._answer(dataset.user_ids[0], exclude_known=False)  # makes the maps of all items that will be asked for

    def write(self, block: Block) -> None:
        """Answer a block's users and write its part. Raises OSError where it cannot be written."""
        with one_thread():
            write_part(self._folder, self._job, block, self._rows(block))

    def _rows(self, block: Block) -> Iterator[Row]:
        for user in block.users:
            self._forget()
            outfits, scores = self._answer(user)
            for rank, (outfit, score) in enumerate(zip(outfits, scores.tolist(), strict=True), start=1):
                yield user, rank, self._outfit_ids.get(frozenset(outfit)), outfit, score

    def _answer(self, user: str, *, exclude_known: bool = True) -> Answer:
        return self._recommender.recommend(user, self._job.top, exclude_known=exclude_known, source=self._job.source)

    def _forget(self) -> None:
        """Drop the codes that are held: the next user may be the last one, or see just as he does."""
        if self._stranger is not None:
            one_item = self._recommender.dataset.catalogue.ids(self._recommender.candidates[0].tolist())
            self._recommender.score(self._stranger, [one_item])


def open_writer(plan: Plan) -> BlockWriter:
    """The writer of a worker process, from the run folder.

    Raises:
        PanfitError: the run or its data cannot be read.
        CheckpointError: the run folder holds another model here than where the batch was started.
    """
    torch.set_num_threads(1)
    recommender = load(plan.run, data=plan.data, allow_changed=plan.allow_changed)
    if model_hash(recommender) != plan.job.model or recommender.dataset.checksum != plan.job.dataset_checksum:
        raise CheckpointError(f"{plan.run}: the model or its data set has changed since the batch was started")
    return BlockWriter(recommender, plan.job, Path(plan.folder))


def describe(recommender: Recommender, user_ids: Sequence[str], **asked: Any) -> Job:
    """The job of asking a recommender about users; ``asked``: source and top."""
    dataset = recommender.dataset
    return Job(
        method=_model(recommender).config.method,
        model=model_hash(recommender),
        dataset=dataset.name,
        dataset_checksum=dataset.checksum,
        items=hash_ids(dataset.catalogue.item_ids),
        slots=tuple(slot.name for slot in dataset.slots),
        users=len(user_ids),
        user_ids=hash_ids(user_ids),
        withdrawn=recommender.withdrawn,
        **asked,
    )


def model_hash(recommender: Recommender) -> str:
    """SHA-256 of what decides a model's answers: settings, shape, weights, and the beta of its relaxed codes."""
    model = _model(recommender)
    parts = [model.config.model_dump_json(), model.shape.model_dump_json(), str(_beta(recommender))]
    return hashlib.sha256("\n".join([*parts, model_fingerprint(model)]).encode()).hexdigest()


def died(block: Block) -> str:
    """What is said of a block that workers die of."""
    return (
        f"{TRIES} workers died of block {block.number} (users {block.users[0]!r} to {block.users[-1]!r}); out of "
        "memory? Run the command again with fewer workers: it goes on"
    )


def told(error: Exception) -> str:
    """What went wrong in a worker, in one message."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a part'}: {error.strerror}. Mend it and run the command again: it goes on"
    return str(error)


def _model(recommender: Recommender) -> Any:
    """With the config and the shape that every method's model has (`panfit.model.checkpoint.Saved`)."""
    return recommender.model


def _beta(recommender: Recommender) -> float:
    scorer = recommender.scorer
    return scorer.coder.beta if isinstance(scorer, OutfitScorer) else 1.0


def _outfit_ids(dataset: Dataset) -> dict[frozenset[str | None], str]:
    """Items of every outfit in the data set's folder -> its id, the first where it is liked twice; {} without one."""
    if dataset.folder is None:
        return {}
    table = pq.read_table(dataset.folder / "outfits.parquet", columns=["outfit_id", "items"])
    found: dict[frozenset[str | None], str] = {}
    for outfit_id, items in zip(table["outfit_id"].to_pylist(), table["items"].to_pylist(), strict=True):
        found.setdefault(frozenset(items), outfit_id)  # two tops in either order are the same outfit
    return found
