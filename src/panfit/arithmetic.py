"""Which processor computes, and which arithmetic it does fast: bf16 where it has the instructions, else float32."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from panfit.errors import ConfigError

Precision = Literal["auto", "float32", "bf16"]
"""auto: bf16 where there is a GPU or a CPU for it, float32 elsewhere, where bf16 is ten times slower."""
BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
"""How Linux names a CPU's bf16 instructions (x86, ARM)."""


def device_named(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of a setting; "auto": a GPU where there is one. Raises ConfigError for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError('a GPU was asked for ("cuda"), and torch finds none here: ask for "auto" or "cpu"')
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def has_bf16(device: torch.device, *, cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether bf16 arithmetic is the device's own: any GPU; a CPU whose flags say so, as far as the system tells."""
    if device.type != "cpu":
        return True
    try:
        flags = set(cpu_info.read_text("utf-8").split())
    except OSError:
        return False
    return bool(flags & BF16_FLAGS)


def settled(precision: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """What "auto" means on a device."""
    if precision == "auto":
        return "bf16" if has_bf16(device) else "float32"
    return precision


def halve(trunk: nn.Module) -> None:
    """Cast the weights of convolutions and linear layers to bf16, in place, for inference under bf16 autocast.

    Autocast would cast them anew at every call. Normalization keeps its float32 weights and statistics.
    """
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.bfloat16()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes with one thread: sums have one order, and work of a few milliseconds wakes no helpers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
