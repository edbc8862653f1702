"""The wardrobe world: drawn garments, users with planted tastes, and so an answer that is known (design section 3).

    wardrobe = draw_wardrobe(WardrobeConfig.demo(), Path("data/wardrobe"))
    wardrobe.truth.utility(wardrobe.dataset.likes["test"])      # the ceiling
    wardrobe.truth.regions(user_row, item_row)                  # where attention should look

Users come in groups that care about one or two visible factors of each category; a fifth of a user's factors are his
own. Everybody likes harmonious colors and matching styles. The dial `signal` scales all of it; at 0 there is nothing
to learn. Pictures depend on an item's factors and pose only, both drawn before anybody likes anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panfit.data.folder import read_dataset, write_tables
from panfit.data.garments import garment_title
from panfit.data.splits import complete
from panfit.data.staging import staged_folder
from panfit.data.wardrobe_truth import CATEGORIES, Truth, read_truth, write_truth
from panfit.data.wardrobe_world import WardrobeConfig, draw_likes, make_items
from panfit.outfits import Catalogue, Dataset, IntArray, Outfits, Slot, Split

__all__ = ["Truth", "Wardrobe", "WardrobeConfig", "draw_wardrobe", "read_truth"]

Progress = Callable[[int, int], None]
"""Called with (photos drawn, photos in all)."""


@dataclass(frozen=True, eq=False)
class Wardrobe:
    """A drawn world: the data set as a model sees it, and what is true about it."""

    dataset: Dataset
    truth: Truth


def draw_wardrobe(config: WardrobeConfig, out: str | Path, *, progress: Progress | None = None) -> Wardrobe:
    """Draw a world into a dataset folder, whole or not at all: tables, photos under images/, the truth under truth/.

    The same config gives the same files. Photos are drawn one by one, so memory does not grow with their number.

    Args:
        config: the world.
        out: the dataset folder; must not exist, be empty, or hold an older data set, which is replaced.
        progress: called after each photo.

    Raises:
        DataError: something else is at ``out``, or it cannot be written.
    """
    out = Path(out)
    truth, drawings, item_splits = make_items(config)
    likes = draw_likes(config, truth, item_splits)
    dataset = _dataset(config, truth, drawings, likes)
    with staged_folder(out) as stage:
        _draw_photos(truth, dataset.catalogue, drawings, stage / "images", progress)
        write_truth(truth, stage / "truth", settings=config.model_dump())
        dataset = complete(dataset, seed=config.seed)
        write_tables(dataset, stage, source=f"wardrobe, seed {config.seed}", image_root="images")
    return Wardrobe(read_dataset(out), truth)


# ---- what is written


def _dataset(config: WardrobeConfig, truth: Truth, drawings: IntArray, likes: dict[Split, Outfits]) -> Dataset:
    num_items = len(truth.categories)
    names = tuple(CATEGORIES[category] for category in truth.categories)
    width = len(str(num_items - 1))
    titles = [garment_title(name, row) for name, row in zip(names, truth.values.tolist(), strict=True)]
    catalogue = Catalogue(
        item_ids=tuple(f"{name}-{row:0{width}d}" for row, name in enumerate(names)),
        item_categories=names,
        images=tuple(_photo_path(truth, drawings, row) for row in range(num_items)),
        titles=tuple(titles) if config.titles else (None,) * num_items,
        categories=CATEGORIES,
        image_root=Path("images"),
    )
    user_width = len(str(config.num_users))
    return Dataset(
        name=config.name,
        slots=tuple(Slot(category, category) for category in CATEGORIES),
        user_ids=tuple(f"u{user + 1:0{user_width}d}" for user in range(config.num_users)),
        catalogue=catalogue,
        likes=likes,
    )


def _photo_path(truth: Truth, drawings: IntArray, row: int) -> str:
    return f"{CATEGORIES[truth.categories[row]]}/{drawings[row]:06d}.png"


def _draw_photos(
    truth: Truth, catalogue: Catalogue, drawings: IntArray, folder: Path, progress: Progress | None
) -> None:
    """One file for each distinct drawing."""
    for category in CATEGORIES:
        (folder / category).mkdir(parents=True)
    rows = np.unique(drawings, return_index=True)[1]  # an item of each drawing
    for done, row in enumerate(rows.tolist(), start=1):
        truth.picture(row).save(folder / str(catalogue.images[row]))
        if progress is not None:
            progress(done, len(rows))
