"""Checkpoints: a folder of weights and JSON in Hugging Face's convention; strict, and nothing in it is unpickled.

    config.json        architectures, model_type, format, the settings, the shape, a Hugging Face trunk's own config
    users.json         the user ids, in the order of the user rows
    model.safetensors  the weights; its header also holds the caller's ``extra`` and a checksum of the two JSON files

Each file is written aside and renamed; the weights, renamed last, carry the checksum that tells an interrupted save.
Other files of the folder are left alone. Imports torch, safetensors, panfit.config and panfit.errors only.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from panfit.config import Config
from panfit.errors import CheckpointError, ConfigError
from panfit.model.pan import Pan, PanShape

FORMAT = 1
CONFIG_FILE, USERS_FILE, WEIGHTS_FILE = "config.json", "users.json", "model.safetensors"
SHOWN_NAMES = 5
"""How many tensor names a message spells out."""


class Saved(Protocol):
    """What a checkpoint is made of: PAN, or a rival behind the same interface."""

    config: Config
    shape: PanShape

    @property
    def trunk_config(self) -> dict[str, Any] | None:
        """A Hugging Face trunk's own config; else None."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The weights by name."""
        ...


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint holds besides the weights.

    Attributes:
        folder: where it was read from.
        config: the settings of the run.
        shape: what its data decided.
        user_ids: M ids, in the order of the user rows.
        extra: whatever the caller saved along: epoch, metrics, the data set's checksum ...
    """

    folder: Path
    config: Config
    shape: PanShape
    user_ids: tuple[str, ...]
    extra: dict[str, Any]


def save_pretrained(
    model: Saved, folder: str | Path, *, user_ids: Sequence[str], extra: Mapping[str, Any] | None = None
) -> Path:
    """Write a checkpoint, over an older one if there is one.

    Args:
        model: on any device; it is not changed.
        folder: made with its parents where it is missing.
        user_ids: one id for each of the model's user rows.
        extra: JSON values to find again in `CheckpointInfo`.

    Raises:
        ValueError: another number of user ids than the model has users, or an id twice.
        CheckpointError: the folder cannot be written (no permission, disk full); what stood there is still whole.
    """
    if len(set(user_ids)) != len(user_ids) or len(user_ids) != model.shape.num_users:
        raise ValueError(f"{len(set(user_ids))} distinct user ids for a model of {model.shape.num_users} users")
    description = {
        "architectures": [type(model).__name__],
        "model_type": model.config.method,
        "format": FORMAT,
        "config": model.config.model_dump(mode="json"),
        "shape": model.shape.model_dump(mode="json"),
        "trunk_config": model.trunk_config,
    }
    config_bytes = _json_bytes(description)
    users_bytes = _json_bytes(list(user_ids))
    header = {
        "format": "pt",
        "extra": json.dumps(dict(extra or {}), ensure_ascii=False, allow_nan=False),
        "companions": _checksum(config_bytes, users_bytes),
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_all(
            {
                folder / USERS_FILE: users_bytes,
                folder / CONFIG_FILE: config_bytes,
                folder / WEIGHTS_FILE: save(weights, metadata=header),
            }
        )
    except OSError as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be written: {error}") from error
    return folder


def from_pretrained(folder: str | Path) -> tuple[Pan, CheckpointInfo]:
    """Read PAN's checkpoint: see `read_checkpoint`. Raises CheckpointError, for a rival's checkpoint too."""
    model, info = read_checkpoint(folder, {"pan": Pan})
    assert isinstance(model, Pan)
    return model, info


def read_checkpoint(folder: str | Path, classes: Mapping[str, type[nn.Module]]) -> tuple[nn.Module, CheckpointInfo]:
    """Read a checkpoint: the model, on the CPU and in evaluation mode, equal to the saved one bit for bit.

    Args:
        folder: as `save_pretrained` wrote it.
        classes: what to build, by model type; each is made as `Pan` is.

    Raises:
        CheckpointError: a file that is missing, damaged, of another format or model type, or whose tensors have other
            names, shapes or types than the settings ask for.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such checkpoint folder")
    config_bytes, users_bytes = _read(folder / CONFIG_FILE), _read(folder / USERS_FILE)
    config, shape, trunk_config = _parse_description(folder / CONFIG_FILE, config_bytes, classes)
    user_ids = _parse_users(folder / USERS_FILE, users_bytes, shape.num_users)
    weights, header = _read_weights(folder / WEIGHTS_FILE)
    if header.get("companions") != _checksum(config_bytes, users_bytes):
        raise CheckpointError(
            f"{folder}: {CONFIG_FILE}, {USERS_FILE} and {WEIGHTS_FILE} are not of one save: one was edited, or "
            "saving was interrupted. Take another checkpoint of the run"
        )
    try:
        model = classes[config.method](
            config, shape, generator=torch.Generator(), trunk_config=trunk_config, pretrained=False
        )
    except ConfigError as error:
        raise CheckpointError(f"{folder}: no model can be built from {CONFIG_FILE}: {error}") from error
    _check_weights(folder / WEIGHTS_FILE, weights, model.state_dict())
    model.load_state_dict(weights)
    extra: dict[str, Any] = json.loads(header.get("extra", "{}"))
    return model.eval(), CheckpointInfo(folder, config, shape, user_ids, extra)


def _parse_description(
    path: Path, content: bytes, classes: Mapping[str, type[nn.Module]]
) -> tuple[Config, PanShape, dict[str, Any] | None]:
    description = _parse_json(path, content)
    if not isinstance(description, dict) or description.get("model_type") not in classes:
        wanted = ", ".join(f'"{name}"' for name in classes)
        raise CheckpointError(
            f'{path}: not a panfit model of the kind that is wanted here: wanted "model_type": {wanted}'
        )
    if description.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: found format {description.get('format')!r}; this version of panfit reads format {FORMAT}"
        )
    try:
        config = Config.parse(description["config"], str(path))
        shape = PanShape.model_validate(description["shape"])
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing") from None
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if config.method != description["model_type"]:
        raise CheckpointError(
            f'{path}: "model_type" is {description["model_type"]!r}, but the settings say {config.method!r}'
        )
    trunk_config = description.get("trunk_config")
    if trunk_config is not None and not isinstance(trunk_config, dict):
        raise CheckpointError(f"{path}: trunk_config must be an object or null")
    return config, shape, trunk_config


def _parse_users(path: Path, content: bytes, num_users: int) -> tuple[str, ...]:
    users = _parse_json(path, content)
    if not isinstance(users, list) or not all(isinstance(user, str) for user in users):
        raise CheckpointError(f"{path}: wanted a list of user ids")
    if len(users) != num_users:
        raise CheckpointError(f"{path}: found {len(users)} user ids; the model has {num_users} users")
    return tuple(users)


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: the file is missing")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error


def _check_weights(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        parts = [("lacks", missing), ("has unknown", unknown)]
        said = " and ".join(f"{verb} {_some(names)}" for verb, names in parts if names)
        raise CheckpointError(f"{path}: {said}")
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise CheckpointError(
                f"{path}: {name} is {_shape(found[name])}; the settings in {CONFIG_FILE} ask for {_shape(tensor)}"
            )


def _shape(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"{len(names)} tensor(s): {', '.join(names[:SHOWN_NAMES])}{more}"


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _parse_json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the file is missing") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


def _checksum(*contents: bytes) -> str:
    return hashlib.sha256(b"\0".join(contents)).hexdigest()


def _write_all(contents: Mapping[Path, bytes]) -> None:
    """Write every file aside first, so that a full disk spoils none; then rename them in order."""
    aside = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        for path, content in contents.items():
            with aside[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, written in aside.items():
            written.replace(path)
    finally:
        for written in aside.values():
            written.unlink(missing_ok=True)
