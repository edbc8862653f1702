"""A newcomer's file: what he likes and dislikes, his embedding, and which model it was made for. JSON.

An embedding means something to one state of a model's weights only, so the file carries that model's fingerprint: made
for another model, a newcomer is made again from his likes, or refused, and never used as he is. Never imports train.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from panfit.errors import CheckpointError, DataError
from panfit.files import write_aside
from panfit.ids import OutfitIds
from panfit.newcomers import Newcomer

FORMAT = 1
REMEDY = "Make the newcomer again from the likes."
Fit = Callable[[Sequence[OutfitIds], Sequence[OutfitIds]], Tensor]
"""Likes and dislikes, as outfits of item ids -> embedding (D,)."""


def model_fingerprint(model: nn.Module) -> str:
    """A hash of a model's weights, names and shapes included. The same on every device; another after any step."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_newcomer(path: str | Path, newcomer: Newcomer, *, model: str) -> Path:
    """Write a newcomer, whole or not at all; an older file of that name is replaced.

    Args:
        path: the folder must be there.
        newcomer: the embedding comes back bit for bit.
        model: `model_fingerprint` of the model that he was made for.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    content = {
        "format": FORMAT,
        "name": newcomer.name,
        "model": model,
        "likes": newcomer.likes,
        "dislikes": newcomer.dislikes,
        "embedding": newcomer.embedding.detach().cpu().to(torch.float32).tolist(),
    }
    lines = (f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items())
    try:
        write_aside(path, "{\n" + ",\n".join(lines) + "\n}\n")
    except OSError as error:
        raise DataError(f"{path}: the newcomer cannot be written: {error}") from None
    return path


def read_newcomer(path: str | Path, *, model: str, refit: Fit | None = None) -> Newcomer:
    """Read a newcomer. Whether the data set has his items is the caller's to check (`panfit.ids.Ids`).

    Args:
        path: as `write_newcomer` wrote it.
        model: `model_fingerprint` of the model that will be asked about him.
        refit: makes the embedding again where the file is of another model; None: such a file is refused.

    Raises:
        DataError: no such file, or a damaged one; says what was found and what was wanted.
        CheckpointError: made for another model, and no ``refit``.
    """
    path = Path(path)
    content = _read(path)
    if content.get("format") != FORMAT:
        raise DataError(f"{path}: found format {content.get('format')!r}; this version of panfit reads format {FORMAT}")
    name, made_for, numbers = content.get("name"), content.get("model"), content.get("embedding")
    if not isinstance(name, str) or not isinstance(made_for, str):
        raise DataError(f'{path}: damaged: wanted words under "name" and "model". {REMEDY}')
    likes, dislikes = (_outfits(path, content, key) for key in ("likes", "dislikes"))
    if made_for != model:
        if refit is None:
            raise CheckpointError(f"{path}: the newcomer {name!r} was made for another model. {REMEDY}")
        return Newcomer(name, likes, dislikes, refit(likes, dislikes))
    if not isinstance(numbers, list) or not numbers or not all(type(number) is float for number in numbers):
        raise DataError(f'{path}: damaged: wanted numbers under "embedding". {REMEDY}')
    embedding = torch.tensor(numbers, dtype=torch.float32)  # (D,)
    if not embedding.isfinite().all():
        raise DataError(f"{path}: damaged: the embedding holds numbers that are not finite. {REMEDY}")
    return Newcomer(name, likes, dislikes, embedding)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file of a newcomer") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, no JSON can be read from it: {error}. {REMEDY}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: damaged: wanted an object, as a newcomer's file is. {REMEDY}")
    return content


def _outfits(path: Path, content: dict[str, Any], key: str) -> tuple[OutfitIds, ...]:
    outfits = content.get(key)
    if (
        not isinstance(outfits, list)
        or not all(isinstance(outfit, list) for outfit in outfits)
        or not all(item is None or isinstance(item, str) for outfit in outfits for item in outfit)
    ):
        raise DataError(f'{path}: damaged: wanted a list of outfits, each a list of item ids, under "{key}". {REMEDY}')
    return tuple(tuple(outfit) for outfit in outfits)
