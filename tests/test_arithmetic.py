"""bf16 where the processor has it: what "auto" means, what is cast, and maps that come out nearly the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panfit import arithmetic
from panfit.arithmetic import halve, settled
from panfit.errors import FeatureStoreError
from panfit.features import extract
from panfit.features.extract import extract_features
from panfit.model.resnet import ResNetTrunk
from panfit.outfits import Dataset
from tests.photos import tiny_config, with_photos

CPU = torch.device("cpu")


@pytest.fixture
def shop(tiny_dataset: Dataset, tmp_path: Path) -> Dataset:
    (tmp_path / "photos").mkdir()
    (tmp_path / "dataset").mkdir()
    return replace(with_photos(tiny_dataset, tmp_path / "photos"), folder=tmp_path / "dataset")


@pytest.mark.parametrize("has", [True, False])
def test_auto_is_bf16_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(arithmetic, "has_bf16", lambda device: has)
    assert settled("auto", CPU) == ("bf16" if has else "float32")
    assert settled("bf16", CPU) == "bf16"
    assert settled("float32", CPU) == "float32"


def test_normalization_keeps_its_float32_weights() -> None:
    trunk = ResNetTrunk((1, 1), width=8).eval()
    halve(trunk)
    kinds = {type(module).__name__: {weight.dtype for weight in module.parameters(recurse=False)} for module in
             trunk.modules()}  # fmt: skip
    assert kinds["Conv2d"] == {torch.bfloat16}
    assert kinds["BatchNorm2d"] == {torch.float32}
    photos = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(trunk(photos)).all()


def test_maps_in_bf16_are_nearly_those_in_float32_and_are_told_apart(shop: Dataset) -> None:
    exact = extract_features(shop, tiny_config(), name="exact", precision="float32")
    half = extract_features(shop, tiny_config(), name="half", precision="bf16")
    assert (exact.manifest.arithmetic, half.manifest.arithmetic) == ("float32", "bf16")
    assert exact.maps.dtype == half.maps.dtype == np.float16
    apart = np.abs(exact.maps.astype(np.float32) - half.maps.astype(np.float32))
    assert 0 < apart.max() < 0.1 * np.abs(exact.maps).max()
    assert exact.manifest.weights == half.manifest.weights
    with pytest.raises(FeatureStoreError, match="it differs in arithmetic"):
        extract_features(shop, tiny_config(), name="half", precision="float32")


def test_auto_leaves_a_finished_store_as_it_is(shop: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    before = extract_features(shop, tiny_config(), name="maps", precision="bf16").manifest
    monkeypatch.setattr(extract, "settled", lambda precision, device: "float32")
    assert extract_features(shop, tiny_config(), name="maps").manifest == before
