"""Pre-trained trunk weights from a file: torchvision's .pth (weights only, no code is run) or .safetensors.

Imports torch, safetensors and panfit.errors only.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from panfit.errors import ConfigError

COUNTER = "num_batches_tracked"
"""Batch normalization's count of batches: files older than it lack it, and nothing reads it."""
LEFT_OUT = ("classifier.", "fc.", "mask_logits")
"""Layers behind the trunk's last map that a file may bring and that this backbone may not have."""
SHOWN_NAMES = 5


def load_weights(parts: Sequence[nn.Module], path: str | Path, *, whole_file: bool) -> None:
    """Fill trunk and head from one file, by the names that torchvision gives.

    Args:
        parts: the modules that share the file's names: a trunk (features.0.weight ...), a head (classifier.1.weight).
        path: a .safetensors file, or anything that torch.load reads with weights_only.
        whole_file: refuse a file that holds more than the parts (layers behind the last map excepted).

    Raises:
        ConfigError: no such file, damaged, or tensors that are missing, unknown or of another shape.
    """
    found = _read(Path(path))
    wanted = {name: tensor for part in parts for name, tensor in part.state_dict().items()}
    missing = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
    unknown = [name for name in found if whole_file and name not in wanted and not name.startswith(LEFT_OUT)]
    wrong = [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
    for said, names in (("lacks", missing), ("has, beyond the trunk's,", unknown), ("has of another shape", wrong)):
        if names:
            shown = ", ".join(names[:SHOWN_NAMES]) + (" ..." if len(names) > SHOWN_NAMES else "")
            raise ConfigError(f"backbone.weights = {str(path)!r} {said} {len(names)} tensor(s): {shown}")
    for part in parts:
        part.load_state_dict({name: found.get(name, tensor) for name, tensor in part.state_dict().items()})


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"backbone.weights = {str(path)!r}: there is no such file")
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ConfigError(f"backbone.weights = {str(path)!r}: no weights can be read from it: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ConfigError(f"backbone.weights = {str(path)!r}: not a table of named tensors")
    return content
