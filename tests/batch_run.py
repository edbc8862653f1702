"""A run folder for the tests of batches: users, items and photos of odd numbers, a model that nobody trained."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from panfit.config import Config
from panfit.data.folder import read_dataset, write_dataset
from panfit.model.checkpoint import save_pretrained
from panfit.model.pan import Pan, PanShape
from panfit.outfits import ABSENT, Catalogue, Dataset, Outfits, Slot, Split

CONFIG = Config.parse(
    {
        "images": {"size": 16},
        "text": {"source": "none"},
        "backbone": {"width": 4},
        "model": {"code_bits": 24, "image_hidden": 11, "user_init_std": 1.0, "encoder_init_std": 0.3},
    }
)
NUM_USERS = 11
COUNTS = {"top": 13, "bottom": 9, "shoe": 7}


def make_run(folder: Path, *, num_users: int = NUM_USERS) -> Path:
    """FOLDER/run, as training leaves it, and FOLDER/data: each user likes 3 outfits; every fifth outfit has no shoes.

    Four outfits are liked twice. u2 and u3 see alike, to the bit.
    """
    rng = np.random.default_rng(8)
    item_ids = [f"{category}-{index}" for category, count in COUNTS.items() for index in range(count)]
    (folder / "photos").mkdir(parents=True)
    for item_id in item_ids:
        photo = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(photo).save(folder / "photos" / f"{item_id}.png")
    catalogue = Catalogue(
        item_ids=tuple(item_ids),
        item_categories=tuple(item_id.split("-")[0] for item_id in item_ids),
        images=tuple(f"{item_id}.png" for item_id in item_ids),
        titles=(None,) * len(item_ids),
        categories=tuple(COUNTS),
        image_root=folder / "photos",
    )
    splits: tuple[Split, ...] = ("train", "val", "test")
    likes = {split: _likes(rng, num_users) for split in splits}
    likes["val"].items[1:5] = likes["train"].items[4:8]
    dataset = Dataset(
        name="corner",
        slots=tuple(Slot(category, category) for category in COUNTS),
        user_ids=tuple(f"u{user}" for user in range(num_users)),
        catalogue=catalogue,
        likes=likes,
    )
    written = read_dataset(write_dataset(dataset, folder / "data", source="test"))
    shape = PanShape(
        num_users=num_users,
        slots=tuple((slot.name, slot.category) for slot in dataset.slots),
        categories=catalogue.categories,
        text_dim=None,
        input_shape=(3, 16, 16),
    )
    model = Pan(CONFIG, shape, generator=torch.Generator().manual_seed(3)).eval()
    with torch.no_grad():
        model.user_encoder.embedding.weight[3] = model.user_encoder.embedding.weight[2]
    extra = {"beta": 1.5, "checksum": written.checksum}
    save_pretrained(model, folder / "run" / "best", user_ids=written.user_ids, extra=extra)
    record = {"dataset": str(folder / "data"), "name": written.name, "checksum": written.checksum, "seed": 0}
    (folder / "run" / "run.json").write_text(json.dumps(record), "utf-8")
    return folder / "run"


def _likes(rng: np.random.Generator, num_users: int) -> Outfits:
    firsts = np.cumsum([0, *COUNTS.values()])[:-1]
    columns = [first + rng.integers(0, count, num_users) for first, count in zip(firsts, COUNTS.values(), strict=True)]
    items = np.column_stack(columns).astype(np.int64)  # (B, S)
    items[::5, 2] = ABSENT
    return Outfits(np.arange(num_users, dtype=np.int64), items)
