"""The GPU's benchmark, on a processor: what it computes from what it measures, and one of its parts for real."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.speed.worlds import TEST_630, TRAIN_630, Size
from panfit.outfits import Outfits


def test_an_epoch_of_another_size_is_reckoned_by_likes() -> None:
    found = gpu.rates(2.0, 1000)
    assert found["likes_per_s"] == 500
    assert found["epochs_per_h_of_polyvore_630"] == pytest.approx(3600 / (127_326 / 500), abs=0.01)


def test_a_part_is_of_all_users() -> None:
    likes = Outfits(np.arange(90) // 10, np.zeros((90, 3), dtype=np.int64))
    assert set(gpu.part(likes, 9).users.tolist()) == set(range(9))
    assert len(gpu.part(likes, 500)) == 90


def test_stored_maps_and_evaluation_run(tmp_path: Path) -> None:
    sizes = gpu.Sizes(
        stored=Size(users=6, likes=40, items=90),
        stored_map=(32, 3, 3),
        evaluated=Size(users=6, likes=20, items=60),
        evaluated_map=(16, 3, 3),
    )
    trained = gpu.stored(tmp_path, tmp_path / "stored", torch.device("cpu"), sizes, 1.0)
    assert trained["likes"] == 40
    assert trained["epoch_s"] > 0
    assert gpu.evaluation(tmp_path, tmp_path / "evaluated", torch.device("cpu"), sizes, 1.0)["whole_s"] >= 0


def test_a_small_run_writes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "run", lambda work, device, sizes: {"epoch_s": 1.0, "small": sizes is gpu.SMALL})
    options = ["--work", str(tmp_path), "--results", str(tmp_path), "--device", "cpu"]
    assert gpu.main([*options, "--small"]) == 0
    assert json.loads(capsys.readouterr().out)["small"]
    assert not (tmp_path / "benchmarks").exists()
    assert gpu.main(options) == 0
    assert json.loads((tmp_path / "benchmarks" / "cpu.json").read_text("utf-8"))["epoch_s"] == 1.0


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "torch finds no GPU here" in capsys.readouterr().err


def test_sizes_are_polyvores() -> None:
    assert gpu.Sizes().evaluated == TEST_630
    assert gpu.Sizes().stored.likes == TRAIN_630.likes // 8
