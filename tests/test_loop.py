"""fit(): what it leaves behind, that it repeats and resumes exactly, and how it refuses."""

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from panfit.config import Config
from panfit.errors import DataError, TrainingError
from panfit.model.checkpoint import from_pretrained
from panfit.outfits import Dataset
from panfit.train.loop import fit
from panfit.train.state import STATE_FILE, Progress
from tests.photos import tiny_config, with_photos

STEPS_PER_EPOCH = 3  # 10 train likes in batches of 4


@pytest.fixture
def dataset(tiny_dataset: Dataset, tmp_path: Path) -> Dataset:
    return with_photos(tiny_dataset, tmp_path)


def stop_at(step: int) -> Callable[[Progress], None]:
    """An on_step that interrupts after so many steps of this session."""
    count = 0

    def on_step(progress: Progress) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise KeyboardInterrupt

    return on_step


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return from_pretrained(run / name)[0].state_dict()


def log_of(run: Path) -> list[dict[str, object]]:
    """The log without what a clock wrote."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("last", "best"):
        for key, tensor in weights(one, name).items():
            assert torch.equal(tensor, weights(other, name)[key]), key
    assert log_of(one) == log_of(other)


def test_a_run_leaves_config_log_and_checkpoints(dataset: Dataset, tmp_path: Path) -> None:
    config = tiny_config()
    report = fit(config, dataset, tmp_path / "run", progress=False)
    assert Config.read(tmp_path / "run" / "config.toml") == config
    log = log_of(tmp_path / "run")
    assert [line["epoch"] for line in log] == [0, 1, 2]
    assert set(log[0]["losses"]) == {"bpr", "user", "vse", "quantization", "total"}  # type: ignore[call-overload]
    assert {"fitb", "auc", "ndcg", "relaxed"} <= set(log[0]["val"])  # type: ignore[call-overload]
    assert log[report.best_epoch]["val"]["auc"] == report.best  # type: ignore[index]
    info = from_pretrained(tmp_path / "run" / "best")[1]
    assert info.extra["epoch"] == report.best_epoch


@pytest.mark.parametrize("step", [1, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 2])
@pytest.mark.parametrize("changes", [{}, {"train": {"ema": 0.9}, "optimizer": {"name": "sgd", "user": 0.5}}])
def test_a_stopped_run_resumes_bit_for_bit(
    dataset: Dataset, tmp_path: Path, step: int, changes: dict[str, dict[str, object]]
) -> None:
    config = tiny_config(**changes)
    fit(config, dataset, tmp_path / "straight", progress=False)
    with pytest.raises(KeyboardInterrupt):
        fit(config, dataset, tmp_path / "stopped", progress=False, on_step=stop_at(step))
    torch.rand(5)  # what others draw in between must not matter
    np.random.default_rng().random()
    fit(config, dataset, tmp_path / "stopped", progress=False, resume=True)
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_a_killed_run_resumes_from_its_last_save(dataset: Dataset, tmp_path: Path) -> None:
    """kill -9 leaves an old state beside a newer log and newer checkpoints: resuming writes the same ones again."""
    config = tiny_config()
    fit(config, dataset, tmp_path / "straight", progress=False)
    with pytest.raises(KeyboardInterrupt):
        fit(config, dataset, tmp_path / "killed", progress=False, on_step=stop_at(2))
    old = (tmp_path / "killed" / STATE_FILE).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        fit(config, dataset, tmp_path / "killed", progress=False, resume=True, on_step=stop_at(5))
    (tmp_path / "killed" / STATE_FILE).write_bytes(old)
    fit(config, dataset, tmp_path / "killed", progress=False, resume=True)
    assert_same_run(tmp_path / "straight", tmp_path / "killed")


def test_a_finished_run_resumes_to_nothing(dataset: Dataset, tmp_path: Path) -> None:
    config = tiny_config(train={"epochs": 1})
    first = fit(config, dataset, tmp_path / "run", progress=False)
    steps: list[Progress] = []
    again = fit(config, dataset, tmp_path / "run", progress=False, resume=True, on_step=steps.append)
    assert not steps
    assert (again.best, again.best_epoch) == (first.best, first.best_epoch)


def test_training_leaves_the_global_generator_alone(dataset: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(tiny_config(train={"epochs": 1}), dataset, tmp_path / "run", progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_two_runs_do_not_share_a_folder(dataset: Dataset, tmp_path: Path) -> None:
    config = tiny_config(train={"epochs": 1})
    fit(config, dataset, tmp_path / "run", progress=False)
    with pytest.raises(TrainingError, match="--resume"):
        fit(config, dataset, tmp_path / "run", progress=False)
    with pytest.raises(TrainingError, match="other settings"):
        fit(tiny_config(train={"epochs": 2}), dataset, tmp_path / "run", progress=False, resume=True)
    with pytest.raises(TrainingError, match="no run to resume"):
        fit(config, dataset, tmp_path / "elsewhere", progress=False, resume=True)


def test_a_damaged_state_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(KeyboardInterrupt):
        fit(config, dataset, tmp_path / "run", progress=False, on_step=stop_at(2))
    state = tmp_path / "run" / STATE_FILE
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(TrainingError, match="damaged"):
        fit(config, dataset, tmp_path / "run", progress=False, resume=True)


def test_a_full_disk_keeps_the_state_before(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    fit(config, dataset, tmp_path / "straight", progress=False)
    with pytest.raises(KeyboardInterrupt):
        fit(config, dataset, tmp_path / "run", progress=False, on_step=stop_at(2))
    before = (tmp_path / "run" / STATE_FILE).read_bytes()

    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_half)
        with pytest.raises(TrainingError, match="No space left"):
            fit(config, dataset, tmp_path / "run", progress=False, resume=True, on_step=stop_at(1))
    with (tmp_path / "run" / "log.jsonl").open("a") as file:
        file.write('{"epoch": 0, "los')  # what a full disk leaves of a line
    assert (tmp_path / "run" / STATE_FILE).read_bytes() == before
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    fit(config, dataset, tmp_path / "run", progress=False, resume=True)
    assert_same_run(tmp_path / "straight", tmp_path / "run")


def test_a_non_finite_loss_names_its_batch(dataset: Dataset, tmp_path: Path) -> None:
    config = tiny_config(optimizer={"name": "sgd", "user": 1e38, "image_encoder": 1e38, "predictor": 1e38})
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+.*train likes \[.*users \['u"):
        fit(config, dataset, tmp_path / "run", progress=False)


def test_early_stopping_counts_stale_validations(dataset: Dataset, tmp_path: Path) -> None:
    frozen = dict.fromkeys(("user", "trunk", "attention", "image_encoder", "text_encoder", "predictor"), 0.0)
    config = tiny_config(
        optimizer=frozen, train={"epochs": 9, "patience": 2, "beta": "constant"}, model={"dropout": 0.0}
    )
    report = fit(config, dataset, tmp_path / "run", progress=False)
    assert report.epochs <= 6  # batch statistics may move the first validations; then nothing changes any more


@pytest.mark.parametrize("split", ["train", "val"])
def test_without_likes_there_is_nothing_to_learn(tiny_dataset: Dataset, tmp_path: Path, split: str) -> None:
    likes = {name: outfits for name, outfits in tiny_dataset.likes.items() if name != split}
    likes["train"] = likes.get("train", tiny_dataset.likes["val"].take(np.zeros(0, dtype=np.int64)))
    broken = Dataset(
        name="broken",
        slots=tiny_dataset.slots,
        user_ids=tiny_dataset.user_ids,
        catalogue=tiny_dataset.catalogue,
        likes=likes,
    )
    with pytest.raises(TrainingError, match=f"no {split} likes"):
        fit(tiny_config(), broken, tmp_path / "run", progress=False)


def test_a_validation_too_small_for_questions_says_what_it_needs(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no validation questions.*four in one slot"):
        fit(tiny_config(), dataclasses.replace(dataset, fitb={}), tmp_path / "run", progress=False)


def test_a_start_that_fails_leaves_the_folder_free(dataset: Dataset, tmp_path: Path) -> None:
    """Photos, text and model are made before anything is written: mended settings may start in the same folder."""
    with pytest.raises(DataError, match="no text vectors"):
        fit(tiny_config(text={"source": "stored"}), dataset, tmp_path / "run", progress=False)
    assert fit(tiny_config(train={"epochs": 1}), dataset, tmp_path / "run", progress=False).epochs == 1
