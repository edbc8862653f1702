"""The full state of a run in one file, so that a stopped run goes on as if it had never stopped.

One safetensors file holds the weights, their running mean and the optimizer's tensors; its header holds the counters as
JSON. One file can be replaced atomically, a folder cannot. No random state is kept: every step seeds its own chance
from (seed, stage, epoch, step), so the counters say all.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from panfit.errors import TrainingError

STATE_FILE = "state.safetensors"


@dataclass
class Progress:
    """Where a run stands. Mutable: the loop moves it on.

    Attributes:
        epoch: the epoch under way, from 0.
        step: steps done in it.
        sums: running sums of the named losses in this epoch.
        best: the best validation value so far, or None.
        best_epoch: the epoch it came from.
        stale: validations since.
        seconds: time spent in all sessions of this run.
        finished: whether training has ended.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int | None = None
    stale: int = 0
    seconds: float = 0.0
    finished: bool = False


def save_state(
    path: Path,
    progress: Progress,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fingerprint: str,
    average: dict[str, Tensor] | None = None,
) -> None:
    """Write everything aside, then rename. ``fingerprint`` says which config and data the state belongs to."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in (average or {}).items()}
    scalars: dict[str, Any] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            elif value is not None:
                scalars[f"optimizer.{index}.{name}"] = value
    header = {"progress": json.dumps(asdict(progress)), "scalars": json.dumps(scalars), "fingerprint": fingerprint}
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    write_tensors(path, copies, header=header)


def write_tensors(path: Path, tensors: dict[str, Tensor], *, header: dict[str, str] | None = None) -> None:
    """Write a safetensors file aside, then rename it. Raises TrainingError where it cannot be written (a full disk)."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(save(tensors, metadata=header))
        aside.replace(path)
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written: {error.strerror}. What was saved before is whole: make room, then --resume"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def load_state(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fingerprint: str,
    average: dict[str, Tensor] | None = None,
) -> Progress:
    """Fill model, optimizer and running mean from a state file and say where the run stands.

    Raises TrainingError if the file is missing, damaged, or belongs to another config or data set.
    """
    if not path.exists():
        raise TrainingError(f"{path}: nothing to resume from; start without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{path}: damaged ({error}); start again without --resume") from None
    if header["fingerprint"] != fingerprint:
        raise TrainingError(
            f"{path}: this run was started with other settings or other data; resume it with the same ones, "
            "or start a new run in another folder"
        )
    model.load_state_dict(_under("model.", tensors))
    for name, tensor in _under("average.", tensors).items():
        if average is not None:
            average[name].copy_(tensor)
    values: dict[int, dict[str, Any]] = {}
    for name, value in [
        *_under("optimizer.", tensors).items(),
        *_under("optimizer.", json.loads(header["scalars"])).items(),
    ]:
        index, key = name.split(".", 1)
        values.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**json.loads(header["progress"]))


def _under(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
