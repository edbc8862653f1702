"""Checkpoints: a bit-equal round trip, and a clear refusal of everything else."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from panfit.errors import CheckpointError
from panfit.model.checkpoint import CONFIG_FILE, USERS_FILE, WEIGHTS_FILE, from_pretrained, save_pretrained
from panfit.model.pan import Pan
from tests.test_pan import NUM_USERS, make, make_batch

USER_IDS = [f"user {number} é" for number in range(NUM_USERS)]


@pytest.fixture
def model() -> Pan:
    model = make(model={"code_norm": "batch"})
    model(make_batch(model))  # running statistics move away from where they start
    model.beta.fill_(2.5)
    return model.eval()


@pytest.fixture
def folder(model: Pan, tmp_path: Path) -> Path:
    return save_pretrained(model, tmp_path / "runs" / "best", user_ids=USER_IDS, extra={"epoch": 3, "auc": 0.1 + 0.2})


def test_round_trip_is_equal_bit_for_bit(model: Pan, folder: Path) -> None:
    loaded, info = Pan.from_pretrained(folder)
    saved = model.state_dict()
    assert list(loaded.state_dict()) == list(saved)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.state_dict().items())
    assert (loaded.config, loaded.shape) == (model.config, model.shape) == (info.config, info.shape)
    assert info.user_ids == tuple(USER_IDS)
    assert info.extra == {"epoch": 3, "auc": 0.1 + 0.2}
    assert not loaded.training
    batch = make_batch(model)
    for binary in (False, True):
        assert torch.equal(loaded(batch, binary=binary).score, model(batch, binary=binary).score)


def test_files_follow_hugging_faces_convention(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE, USERS_FILE]
    description = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    assert (description["architectures"], description["model_type"]) == (["Pan"], "pan")
    assert set(load_file(folder / WEIGHTS_FILE)) == set(from_pretrained(folder)[0].state_dict())


def test_saving_again_replaces_the_model_and_leaves_other_files_alone(model: Pan, folder: Path) -> None:
    (folder / "state.safetensors").write_bytes(b"the training loop's own")
    with torch.no_grad():
        model.user_encoder.embedding.weight.add_(1)
    model.save_pretrained(folder, user_ids=USER_IDS, extra={"epoch": 4})
    loaded, info = from_pretrained(folder)
    assert torch.equal(loaded.user_encoder.embedding.weight, model.user_encoder.embedding.weight)
    assert info.extra == {"epoch": 4}
    assert (folder / "state.safetensors").read_bytes() == b"the training loop's own"


def test_a_trunk_of_the_hub_needs_no_hub_again(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    hub = tmp_path / "hub"
    transformers.ResNetConfig(embedding_size=4, hidden_sizes=[8, 12], depths=[1, 1]).save_pretrained(hub)
    model = make(backbone={"name": "hf", "hf_model": str(hub)}).eval()
    save_pretrained(model, tmp_path / "best", user_ids=USER_IDS)
    (hub / "config.json").unlink()
    loaded, _ = from_pretrained(tmp_path / "best")
    assert torch.equal(loaded(make_batch(model)).score, model(make_batch(model)).score)


def test_a_weight_file_is_not_asked_again(tmp_path: Path) -> None:
    weights = tmp_path / "trunk.pth"
    torch.save(make().backbone.trunk.state_dict(), weights)
    model = make(backbone={"weights": str(weights)})
    save_pretrained(model, tmp_path / "best", user_ids=USER_IDS)
    weights.unlink()
    loaded, info = from_pretrained(tmp_path / "best")
    assert info.config.backbone.weights == str(weights), "the run's settings stay as they were"
    assert torch.equal(loaded.beta, model.beta)


def _drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _put(name: str, content: bytes) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return put


def _truncate(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-100])


def _edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / CONFIG_FILE
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")

    return edit


def _edit_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / WEIGHTS_FILE
        content = path.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        weights = load_file(path)
        change(weights)
        save_file(weights, path, metadata=metadata)

    return edit


NAME = "predictor.user_item_weight"
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (_drop(CONFIG_FILE), "config.json: the file is missing"),
    "no users": (_drop(USERS_FILE), "users.json: the file is missing"),
    "no weights": (_drop(WEIGHTS_FILE), "model.safetensors: the file is missing"),
    "config not JSON": (_put(CONFIG_FILE, b"{"), "config.json: not JSON"),
    "config not UTF-8": (_put(CONFIG_FILE, b"\xff\xfe{}"), "config.json: not JSON"),
    "config a list": (_put(CONFIG_FILE, b"[]"), "not a panfit model"),
    "another model": (_edit_config(model_type="bert"), "not a panfit model"),
    "another format": (_edit_config(format=7), "found format 7; this version of panfit reads format 1"),
    "unknown setting": (_edit_config(config={"model": {"bits": 8}}), "model.bits: there is no such setting"),
    "no shape": (_edit_config(shape={}), "num_users"),
    "odd trunk config": (_edit_config(trunk_config=3), "trunk_config must be"),
    "edited": (_edit_config(note="hello"), "not of one save"),
    "users not a list": (_put(USERS_FILE, b'{"a": 1}'), "wanted a list of user ids"),
    "too few users": (_put(USERS_FILE, b'["a"]'), "found 1 user ids; the model has 6 users"),
    "other users": (_put(USERS_FILE, json.dumps(USER_IDS[::-1]).encode()), "not of one save"),
    "weights cut short": (_truncate, "model.safetensors: damaged"),
    "weights empty": (_put(WEIGHTS_FILE, b""), "model.safetensors: damaged"),
    "weights a pickle": (_put(WEIGHTS_FILE, b"\x80\x04K\x01."), "model.safetensors: damaged"),
    "lacking tensor": (_edit_weights(lambda weights: weights.pop(NAME)), rf"lacks 1 tensor\(s\): {NAME}"),
    "unknown tensor": (
        _edit_weights(lambda weights: weights.update(more=torch.zeros(1))),
        r"has unknown 1 tensor\(s\): more",
    ),
    "another shape": (
        _edit_weights(lambda weights: weights.update({NAME: torch.zeros(5)})),
        rf"{NAME} is \(5,\) float32; the settings in config.json ask for \(8,\) float32",
    ),
    "another type": (
        _edit_weights(lambda weights: weights.update({NAME: weights[NAME].half()})),
        rf"{NAME} is \(8,\) float16",
    ),
}


@pytest.mark.parametrize("case", list(DAMAGE))
def test_damage_is_told_from_a_checkpoint(case: str, folder: Path) -> None:
    damage, message = DAMAGE[case]
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        from_pretrained(tmp_path / "nowhere")


def test_a_disk_that_fills_up_leaves_the_old_checkpoint_whole(
    model: Pan, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_pretrained(model, folder, user_ids=USER_IDS, extra={"epoch": 9})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_user_ids_must_be_the_models(model: Pan, tmp_path: Path) -> None:
    for ids in (USER_IDS[:-1], [*USER_IDS[:-1], USER_IDS[0]]):
        with pytest.raises(ValueError, match="5 distinct user ids for a model of 6 users"):
            save_pretrained(model, tmp_path, user_ids=ids)
