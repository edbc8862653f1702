"""The first stage: what it learns, that it repeats and resumes, and that no like reaches it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from panfit.arithmetic import has_bf16
from panfit.config import Config
from panfit.errors import ConfigError
from panfit.features.inputs import build_inputs
from panfit.model.checkpoint import from_pretrained
from panfit.model.pan import Pan
from panfit.outfits import Dataset, Outfits
from panfit.train import pretrain
from panfit.train.frozen import keep_maps
from panfit.train.learner import build_pan
from panfit.train.loop import fit
from panfit.train.pretrain import TRUNK_FILE, ColorTargets, fit_trunk, pretrain_trunk, word_targets
from panfit.train.progress import Reporter, StopRequest
from tests.photos import tiny_config, with_photos


@pytest.fixture
def dataset(tiny_dataset: Dataset, tmp_path: Path) -> Dataset:
    return with_photos(tiny_dataset, tmp_path)


def config_of(epochs: int = 2, **backbone: Any) -> Config:
    return tiny_config(
        backbone={"width": 4, "head": "mask", "statistics": True, "attributes": 6, **backbone},
        pretrain={"epochs": epochs, "batch_size": 24, "learning_rate": 0.02},
    )


def run(config: Config, dataset: Dataset, out: Path) -> Pan:
    inputs = build_inputs(dataset, config)
    model = build_pan(config, dataset, inputs)
    out.mkdir(exist_ok=True)
    with Reporter(enabled=False) as reporter:
        pretrain_trunk(model, dataset, inputs, config, out=out, reporter=reporter, stop=StopRequest())
    return model


def trunk_of(model: Pan) -> dict[str, Tensor]:
    return model.backbone.state_dict()


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_word_targets_are_categories_and_frequent_words(tiny_dataset: Dataset) -> None:
    targets, names = word_targets(tiny_dataset.catalogue)
    counts = {"category=top": 30, "category=bottom": 24, "category=shoe": 18, "top": 30, "bottom": 24, "shoe": 18}
    counts |= {"red": 36, "dark": 36, "blue": 36}
    assert dict(zip(names, targets.sum(axis=0).astype(int).tolist(), strict=True)) == counts
    assert names == tuple(sorted(names))


def test_color_targets_are_standardized_over_the_catalogue(dataset: Dataset) -> None:
    inputs = build_inputs(dataset, config_of())
    targets = ColorTargets(inputs)(inputs.batch(np.arange(len(inputs))))  # (N, K)
    varies = targets.std(0) > 0
    assert varies.sum() > 15
    assert targets.mean(0).abs().max() < 0.2  # clipping at four moves the mean a little
    assert (targets.std(0)[varies] - 1).abs().max() < 0.4  # and narrows a rare color's spread


def test_pretraining_lowers_both_losses(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    monkeypatch.setattr(
        Reporter,
        "update",
        lambda self, name, done, total, note="": seen.append([float(word) for word in note.split()[1::2]]),
    )
    run(config_of(12), dataset, tmp_path / "run")
    first, last = np.mean(seen[:3], axis=0), np.mean(seen[-3:], axis=0)  # words, colors
    assert last[0] < 0.95 * first[0]  # the category's share; these random photos say nothing of the title's words
    assert last[1] < 0.6 * first[1]


def test_a_stopped_first_stage_resumes_bit_for_bit(dataset: Dataset, tmp_path: Path) -> None:
    config = config_of(3)
    straight = run(config, dataset, tmp_path / "straight")
    inputs = build_inputs(dataset, config)
    (tmp_path / "stopped").mkdir()
    stop = StopRequest()
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 5:  # in the middle of the second epoch of three steps
            raise KeyboardInterrupt

    stop.check = check  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt), Reporter(enabled=False) as reporter:
        pretrain_trunk(
            build_pan(config, dataset, inputs),
            dataset,
            inputs,
            config,
            out=tmp_path / "stopped",
            reporter=reporter,
            stop=stop,
        )
    resumed = run(config, dataset, tmp_path / "stopped")
    assert_same(trunk_of(straight), trunk_of(resumed))


def test_likes_do_not_reach_the_first_stage(dataset: Dataset, tmp_path: Path) -> None:
    likes = dataset.likes["train"]
    other = replace(dataset, likes={**dataset.likes, "train": Outfits(likes.users[::-1].copy(), likes.items)})
    one = run(config_of(), dataset, tmp_path / "one")
    assert_same(trunk_of(one), trunk_of(run(config_of(), other, tmp_path / "other")))


def test_a_trunk_file_starts_another_run(dataset: Dataset, tmp_path: Path) -> None:
    model = run(config_of(), dataset, tmp_path / "run")
    trunk_file = tmp_path / "run" / pretrain.TRUNK_FILE
    assert set(load_file(trunk_file)) == {*model.backbone.trunk.state_dict(), *model.backbone.head.state_dict()}
    config = config_of(0, weights=str(trunk_file))
    again = build_pan(config, dataset, build_inputs(dataset, config))
    assert_same(trunk_of(model), trunk_of(again))


def test_fit_pretrains_freezes_and_trains_on_kept_maps(dataset: Dataset, tmp_path: Path) -> None:
    config = config_of(frozen=True)
    fit(config, dataset, tmp_path / "run", progress=False)

    trained = from_pretrained(tmp_path / "run" / "last")[0].backbone.trunk.state_dict()
    assert_same(run(config, dataset, tmp_path / "other").backbone.trunk.state_dict(), trained)


def test_stored_maps_have_no_trunk_to_train(dataset: Dataset, tmp_path: Path) -> None:
    config = config_of()
    inputs = build_inputs(dataset, config)
    model = build_pan(config, dataset, inputs)

    with Reporter(enabled=False) as reporter:
        kept = keep_maps(model, inputs, reporter)
        with pytest.raises(ConfigError, match="no trunk to train"):
            pretrain_trunk(model, dataset, kept, config, out=tmp_path, reporter=reporter, stop=StopRequest())


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [("avx2 fma", False), ("avx512f avx512_bf16", True), ("amx_bf16", True), ("fp asimd bf16", True)],
)
def test_bf16_is_used_where_the_processor_has_it(tmp_path: Path, flags: str, wanted: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags} sse\n", "utf-8")
    assert has_bf16(torch.device("cpu"), cpu_info=tmp_path / "cpuinfo") == wanted
    assert not has_bf16(torch.device("cpu"), cpu_info=tmp_path / "none")
    assert has_bf16(torch.device("cuda"))


def test_the_first_stage_alone_is_that_of_a_run_and_goes_on(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of()
    run(config, dataset, tmp_path / "run")
    checked: list[int] = []

    def stop_at_third(self: StopRequest) -> None:
        checked.append(1)
        if len(checked) > 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StopRequest, "check", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            fit_trunk(config, dataset, tmp_path / "alone", progress=False)
    assert not (tmp_path / "alone" / TRUNK_FILE).exists()
    path = fit_trunk(config, dataset, tmp_path / "alone", progress=False)
    assert_same(load_file(path), load_file(tmp_path / "run" / TRUNK_FILE))
