"""Several processes train as one with the batch of all of them; they stop, fail and go on together.

Starting processes is what costs here, so one pair of them trains all that is compared; the tests read what it left.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from panfit.config import Config
from panfit.data.folder import write_dataset
from panfit.errors import DataError, MissingExtraError, TrainingError
from panfit.features.inputs import build_inputs
from panfit.methods import LearnedModel, read_model
from panfit.outfits import Dataset
from panfit.train import loop
from panfit.train.distributed import ALONE, GradientSum, LostProcess, Ranks, owner_of
from panfit.train.learner import build_pan, learner_of
from panfit.train.loop import fit
from panfit.train.processes import Place, _judge, _Raised, _Returned, run_together
from panfit.train.state import Progress
from panfit.train.step import Triplets, TripletSource
from panfit.train.step_inputs import StepInputs
from tests.photos import tiny_config, with_photos

LIKES = 9  # in steps of 4: the last step of an epoch has one like, and one of two processes has none
STEPS = 3
EXACT: dict[str, dict[str, object]] = {
    "images": {"flip": False},
    "model": {"dropout": 0.0, "input_dropout": 0.0, "user_init_std": 0.5, "encoder_init_std": 0.0},
    "loss": {"lambda_user": 0.3, "lambda_vse": 0.2, "lambda_quantization": 0.1},
    "negatives": {"hard_ratio": 0.6, "k_ratio": 0.5},
    "optimizer": {"name": "sgd", "user": 0.5, "trunk": 0.05, "attention": 0.1, "image_encoder": 0.1, "clip_norm": 2.0},
    "train": {"epochs": 4, "batch_size": 2},
}
"""Nothing that a process does on its own: no dropout, no augmentation, no batch statistics."""
CHANGES: dict[str, dict[str, dict[str, object]]] = {
    "frozen": {"backbone": {"frozen": True}},
    "end_to_end": {"images": {"size": 63}, "backbone": {"name": "alexnet", "head": "pool"}, "train": {"epochs": 3}},
    "personal": {"backbone": {"frozen": True}, "negatives": {"compare": "personal", "choose": "random", "per_like": 3}},
}
LIVELY: dict[str, dict[str, object]] = {
    "model": {"code_norm": "batch"},
    "train": {"ema": 0.9, "batch_size": 2},
    "pretrain": {"epochs": 2},
}
"""Everything that a process does on its own, too."""


def exact(name: str, *, batch_size: int = 2) -> Config:
    sections = {section: {**values} for section, values in EXACT.items()}
    for section, values in CHANGES[name].items():
        sections[section] = {**sections.get(section, {}), **values}
    sections["train"]["batch_size"] = batch_size
    return tiny_config(**sections)


class Steps:
    """An on_step that keeps the running sums of the losses."""

    def __init__(self) -> None:
        self.sums: list[dict[str, float]] = []

    def __call__(self, progress: Progress) -> None:
        self.sums.append(dict(progress.sums))


def stop_in_process_1(progress: Progress) -> None:
    if Place.here().rank == 1 and (progress.epoch, progress.step) == (1, 2):
        raise KeyboardInterrupt


def be_killed(progress: Progress) -> None:
    if Place.here().rank == 1 and progress.step == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def interrupt_the_starter(progress: Progress) -> None:
    if Place.here().rank == 0 and (progress.epoch, progress.step) == (0, 2):
        os.kill(os.getppid(), signal.SIGTERM)


@dataclass
class Seen:
    """What process 0 says of what both did."""

    steps: dict[str, list[dict[str, float]]]
    same_weights: bool
    gathered: list[list[list[float]]]
    gathered_gradient: list[list[float]]
    gradients: dict[str, list[float] | None]
    added: dict[str, float]


def train_everything(dataset: Dataset, out: Path) -> Seen:
    """In each of the two processes."""
    torch.set_num_threads(1)
    steps: dict[str, list[dict[str, float]]] = {}
    for name in CHANGES:
        seen = Steps()
        fit(exact(name), dataset, out / name, progress=False, on_step=seen)
        steps[name] = seen.sums
    lively = tiny_config(**LIVELY)
    models: list[LearnedModel] = []

    def watched(model: LearnedModel, *rest: Any) -> Any:
        models.append(model)
        return learner_of(model, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "learner_of", watched)
        fit(lively, dataset, out / "lively", progress=False)
    try:
        fit(lively, dataset, out / "stopped", progress=False, on_step=stop_in_process_1)
        raise AssertionError("it was not stopped")
    except KeyboardInterrupt:
        fit(lively, dataset, out / "stopped", progress=False, resume=True)
    fit(tiny_config(negatives={"gather": False}, train={"batch_size": 2}), dataset, out / "apart", progress=False)
    for method in ("siamese", "popularity"):
        config = tiny_config(train={"batch_size": 2}).model_copy(update={"method": method})
        fit(config, dataset, out / method, progress=False)

    ranks = Ranks(Place.here().rank, 2)
    weights = torch.cat([each.flatten().double() for each in models[0].state_dict().values()])  # (n,)
    (both,) = ranks.gather(weights)
    return Seen(steps, bool((both[: len(weights)] == both[len(weights) :]).all()), *of_ranks(ranks), *of_sums(ranks))


def of_ranks(ranks: Ranks) -> tuple[list[list[list[float]]], list[list[float]]]:
    """gather() of one row in process 0 and two in process 1, beside a mask; and the gradient of their weighted sum."""
    rows = torch.arange(3.0 * (ranks.rank + 1)).view(-1, 3) + 10 * ranks.rank  # (1 or 2, 3)
    rows.requires_grad_()
    mask = torch.tensor([True] * (ranks.rank + 1))
    gathered, masks = ranks.gather(rows, mask)  # (3, 3), (3,)
    assert masks.dtype == torch.bool
    (gathered * torch.arange(1.0, 4.0)[:, None]).sum().backward()  # row r counts r + 1 times
    assert rows.grad is not None
    (gradients,) = ranks.gather(rows.grad)
    return [gathered.tolist(), [masks.float().tolist()]], gradients.tolist()


def of_sums(ranks: Ranks) -> tuple[dict[str, list[float] | None], dict[str, float]]:
    """The gradient sums of a parameter that both use, of one each, and of one that nobody does; terms added up."""
    names = ("both", "first", "second", "nobody")
    parameters = nn.ParameterDict({name: nn.Parameter(torch.tensor([1.0, 2.0])) for name in names})
    for bucket_bytes in (1, 2**20):  # a bucket each, and all in one
        parameters.zero_grad()
        sums = GradientSum(parameters.parameters(), ranks, bucket_bytes=bucket_bytes)
        own = parameters["second" if ranks.rank else "first"]
        ((3 + ranks.rank) * parameters["both"] * own.detach() + 2 * own).sum().backward()
        sums.finish()
        sums.close()
    terms = ranks.add_up({"total": torch.tensor(5.0 + ranks.rank)}, weight=0.25 + 0.5 * ranks.rank)
    found = {name: None if each.grad is None else each.grad.tolist() for name, each in parameters.items()}
    return found, {name: float(value) for name, value in terms.items()}


def shop(folder: Path) -> Dataset:
    """The suite's tiny data set with photos, cut to `LIKES` likes to train on; in a folder of its own."""
    from tests.conftest import tiny_dataset

    rng = np.random.default_rng(20210606)
    dataset = tiny_dataset.__wrapped__(rng)  # type: ignore[attr-defined]
    (folder / "photos").mkdir()
    dataset = with_photos(dataset, folder / "photos", side=24)
    train = dataset.likes["train"].take(np.arange(LIKES))
    return replace(dataset, likes={**dataset.likes, "train": train})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def seen(dataset: Dataset, runs: Path) -> Seen:
    return run_together(partial(train_everything, dataset, runs), 2)


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return read_model(run / name)[0].state_dict()


def log_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("name", CHANGES)
def test_two_processes_train_as_one_with_twice_the_batch(
    seen: Seen, dataset: Dataset, runs: Path, tmp_path: Path, name: str
) -> None:
    alone = Steps()
    config = exact(name, batch_size=4)
    fit(config, dataset, tmp_path / "alone", progress=False, on_step=alone)
    assert len(alone.sums) == STEPS * config.train.epochs == len(seen.steps[name])
    for step, (one, two) in enumerate(zip(alone.sums, seen.steps[name], strict=True)):
        assert two == pytest.approx(one, rel=2e-4, abs=1e-6), step
    assert alone.sums[-1]["user"] > 0 < alone.sums[-1]["vse"]
    mine = weights(tmp_path / "alone")
    for key, tensor in weights(runs / name).items():
        torch.testing.assert_close({key: tensor}, {key: mine[key]}, rtol=2e-3, atol=2e-5)
    for line, other in zip(log_of(tmp_path / "alone"), log_of(runs / name), strict=True):
        assert other["rates"] == line["rates"]
        assert other["val"]["relaxed"] == pytest.approx(line["val"]["relaxed"], abs=0.02)


def drawn(dataset: Dataset, *, own: slice | None, **changes: Any) -> Triplets:
    config = tiny_config(**{"negatives": {"hard_ratio": 1.0, "k_ratio": 1.0, "per_like": 2, **changes}})
    inputs = build_inputs(dataset, config)
    model = build_pan(config, dataset, inputs).eval()
    likes = dataset.likes["train"]
    source = TripletSource(likes, dataset.split_items("train"), ("top", "bottom", "shoe"), config=config)
    return source.draw(
        likes,
        StepInputs(model, inputs, generator=None, device=torch.device("cpu")),
        epoch=5,
        beta=1.5,
        rng=np.random.default_rng(1),
        generator=torch.Generator().manual_seed(2),
        own=own,
    )


@pytest.mark.parametrize("choose", ["loss", "random"])
def test_a_process_mines_for_its_own_rows_among_all(dataset: Dataset, choose: str) -> None:
    own = slice(2, 5)
    whole, share = drawn(dataset, own=None, choose=choose), drawn(dataset, own=own, choose=choose)
    assert whole.mined[own].any()
    assert share.likes.items.tolist() == whole.likes.items[own].tolist()
    for name in ("negatives", "negative_valid", "mined", "other_users", "other_valid"):
        assert getattr(share, name).tolist() == getattr(whole, name)[own].tolist(), name


def test_processes_that_mine_apart_mine_among_their_own_rows(dataset: Dataset) -> None:
    own = slice(2, 5)
    liked = {tuple(outfit) for outfit in dataset.likes["train"].items[own].tolist()}
    apart, gathered = (drawn(dataset, own=own, gather=gather) for gather in (False, True))
    assert apart.mined.any()
    assert {tuple(outfit) for outfit in apart.negatives[apart.mined].tolist()} <= liked
    assert not {tuple(outfit) for outfit in gathered.negatives[gathered.mined].tolist()} <= liked


def test_processes_that_mine_apart_train(seen: Seen, runs: Path) -> None:
    assert log_of(runs / "apart")[0]["losses"].keys() == log_of(runs / "lively")[0]["losses"].keys()
    assert json.loads((runs / "apart" / "run.json").read_text())["processes"] == 2


def test_all_processes_hold_the_same_weights_and_statistics(seen: Seen) -> None:
    assert seen.same_weights


def test_the_same_seed_and_number_give_the_same_run_stopped_by_one_process_or_not(seen: Seen, runs: Path) -> None:
    for name in ("last", "best"):
        for key, tensor in weights(runs / "lively", name).items():
            assert torch.equal(tensor, weights(runs / "stopped", name)[key]), key
    assert log_of(runs / "lively") == log_of(runs / "stopped")


def test_other_methods_train_too(seen: Seen, runs: Path) -> None:
    assert {"together", "apart", "total"} == log_of(runs / "siamese")[0]["losses"].keys()
    assert np.isfinite(log_of(runs / "siamese")[-1]["losses"]["total"])
    assert len(log_of(runs / "popularity")) == 1


def test_gather_keeps_the_order_of_processes_and_the_own_gradient(seen: Seen) -> None:
    assert seen.gathered == [[[0, 1, 2], [10, 11, 12], [13, 14, 15]], [[1, 1, 1]]]
    assert seen.gathered_gradient == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]


def test_gradients_become_their_sum_and_an_unused_parameter_keeps_none(seen: Seen) -> None:
    assert seen.gradients == {"both": [7, 14], "first": [2, 2], "second": [2, 2], "nobody": None}
    assert seen.added == {"total": 0.25 * 5 + 0.75 * 6}


def test_one_process_alone_hands_back_what_it_is_given(dataset: Dataset) -> None:
    tensor = torch.ones(2, requires_grad=True)
    assert ALONE.gather(tensor, tensor)[1] is tensor
    assert ALONE.share(7) == slice(0, 7)
    terms = {"total": tensor.sum()}
    assert ALONE.add_up(terms, weight=1.0) is terms


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_shares_cover_every_row_once(count: int) -> None:
    class Unconnected(Ranks):
        def __init__(self, rank: int) -> None:
            self.rank, self.size = rank, 3

    rows = [list(range(count))[Unconnected(rank).share(count)] for rank in range(3)]
    assert [row for each in rows for row in each] == list(range(count))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_users_outfits_are_scored_by_one_process() -> None:
    users = np.array([5, 2, 2, 9, 5, 2, 7])
    owners = owner_of(users, 2)
    assert owners.tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert set(owner_of(np.arange(6), 3)) == {0, 1, 2}


def test_another_number_of_processes_does_not_resume_a_run(seen: Seen, dataset: Dataset, runs: Path) -> None:
    with pytest.raises(TrainingError, match=r"begun by 2 process\(es\), and here are 1.*--devices 2"):
        fit(tiny_config(**LIVELY), dataset, runs / "lively", progress=False, resume=True)
    with pytest.raises(TrainingError, match=r"begun by 2 process\(es\), and here are 3"):
        fit(tiny_config(**LIVELY), dataset, runs / "lively", progress=False, resume=True, devices=3)


def test_a_killed_process_ends_the_others(dataset: Dataset, tmp_path: Path) -> None:
    config = tiny_config(train={"batch_size": 2})
    with pytest.raises(TrainingError, match=r"process 1 of 2 was killed by SIGKILL.*--resume"):
        fit(config, dataset, tmp_path / "run", progress=False, devices=2, on_step=be_killed)


def test_who_is_asked_to_stop_asks_the_processes_that_he_started(dataset: Dataset, tmp_path: Path) -> None:
    config = tiny_config(train={"batch_size": 2, "epochs": 50})
    with pytest.raises(KeyboardInterrupt):
        fit(config, dataset, tmp_path / "run", progress=False, devices=2, on_step=interrupt_the_starter)
    assert (tmp_path / "run" / "state.safetensors").exists()


def test_the_error_that_began_it_is_the_one_that_is_told() -> None:
    lost = _Raised("LostProcess", "process 0 lost another one", "")
    damaged = _Raised("DataError", "photo 7 is damaged", "Traceback ...")
    with pytest.raises(DataError, match=r"^photo 7 is damaged$"):
        _judge([lost, damaged], [1, 1])
    with pytest.raises(MissingExtraError, match=r"^ray is not installed"):
        _judge([_Raised("MissingExtraError", "ray is not installed", ""), None], [1, -9])
    with pytest.raises(RuntimeError, match=r"(?s)one of the processes.*ZeroDivisionError: by zero"):
        _judge([_Raised("ZeroDivisionError", "by zero", "ZeroDivisionError: by zero"), lost], [1, 1])
    with pytest.raises(KeyboardInterrupt):
        _judge([lost, _Raised("KeyboardInterrupt", "", "")], [1, 1])
    with pytest.raises(TrainingError, match="process 1 of 2 ended with status 3"):
        _judge([lost, None], [1, 3])
    with pytest.raises(KeyboardInterrupt):
        _judge([None, None], [-15, -15], asked=True)
    with pytest.raises(LostProcess, match="lost another one"):
        _judge([_Returned(1), lost], [0, 1])
    assert _judge([_Returned("first"), _Returned("second")], [0, 0]) == "first"


def test_torchrun_starts_processes_of_the_command(dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, tmp_path / "data", source="test")
    (tmp_path / "config.toml").write_text(tiny_config(train={"batch_size": 2, "epochs": 1}).to_toml())
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "panfit"]
    command = ["train", "config.toml", "--data", "data", "--out", "run", "--quiet", "--json"]
    told = subprocess.run(
        [*launch, *command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["epochs"] == 1
    assert len(log_of(tmp_path / "run")) == 1


def test_devices_that_are_not_there_are_refused(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        fit(tiny_config(), dataset, tmp_path / "run", devices=0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        with pytest.raises(TrainingError, match="this machine has 1"):
            fit(tiny_config(), dataset, tmp_path / "run", devices=2)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert Place.here() == Place(rank=0, size=4, local_rank=0, local_size=2)
    with pytest.raises(TrainingError, match="torchrun started 2 processes"):
        fit(tiny_config(), dataset, tmp_path / "run", devices=3)
