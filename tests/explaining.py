"""A small wardrobe of two kinds of tops, a model whose users look differently, and explanations of its scores."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from panfit.codes import CodeTables
from panfit.complete import Completer
from panfit.config import Config
from panfit.encode import ItemCoder
from panfit.explain import Explanation, explain_outfit
from panfit.features.inputs import ItemInputs
from panfit.methods import shape_of
from panfit.model.pan import Pan
from panfit.outfits import BoolArray, Catalogue, Dataset, IntArray, Outfits, Slot
from panfit.swaps import swap_choices

SLOTS = (Slot("top", "top"), Slot("second", "top"), Slot("bottom", "bottom"), Slot("shoe", "shoe"))
COUNTS = {"top": 7, "bottom": 5, "shoe": 6}
USERS = ("ann", "bob", "eve")
SETTINGS: dict[str, dict[str, object]] = {
    "images": {"size": 32},
    "text": {"source": "none"},
    "backbone": {"width": 4},
    "model": {"code_bits": 16, "image_hidden": 11, "user_init_std": 1.0, "encoder_init_std": 0.3},
}


@dataclass(frozen=True, eq=False)
class Closet:
    """Whom and what to explain."""

    dataset: Dataset
    model: Pan
    completer: Completer

    @property
    def coder(self) -> ItemCoder:
        return self.completer.tables.coder

    def rows(self, *item_ids: str | None) -> IntArray:
        """(S,) rows of an outfit of ids."""
        row_of = self.dataset.catalogue.row_of
        return np.array([-1 if item_id is None else row_of[item_id] for item_id in item_ids], dtype=np.int64)

    def viewer(self, user: str) -> torch.Tensor:
        """(D,) f_u."""
        with torch.no_grad():
            return self.model.user_embeddings(torch.tensor([USERS.index(user)]))[0]

    def explain(self, user: str, *item_ids: str | None, offered: BoolArray | None = None) -> Explanation:
        worn = self.rows(*item_ids)
        if offered is None:
            offered = np.ones(len(self.dataset.catalogue), dtype=np.bool_)
        choices = swap_choices(self.dataset, worn, offered=offered)
        return explain_outfit(self.completer, self.dataset, user, self.viewer(user), worn, choices=choices)

    def compare(self, user: str, other: str, *item_ids: str | None) -> Explanation:
        return replace(self.explain(user, *item_ids), against=self.explain(other, *item_ids))


def make_closet(*, text: bool = False, **sections: Mapping[str, object]) -> Closet:
    """A closet; settings are laid over SETTINGS. No weight is zero, so users differ in all that they can."""
    ids = [f"{category}-{index}" for category, count in COUNTS.items() for index in range(count)]
    ids = [ids[place] for place in np.random.default_rng(4).permutation(len(ids))]
    catalogue = Catalogue(
        item_ids=tuple(ids),
        item_categories=tuple(item_id.partition("-")[0] for item_id in ids),
        images=(None,) * len(ids),
        titles=(None,) * len(ids),
        categories=("top", "bottom", "shoe"),
        image_root=Path(),
    )
    worn = [catalogue.row_of[item_id] for item_id in ("top-0", "top-1", "bottom-2", "shoe-3")]
    likes = {"train": Outfits(np.arange(len(USERS)), np.array([worn] * len(USERS)))}
    dataset = Dataset(name="small", slots=SLOTS, user_ids=USERS, catalogue=catalogue, likes=likes)  # type: ignore[arg-type]
    config = Config.parse(
        {name: {**values, **sections.get(name, {})} for name, values in SETTINGS.items()}
        | {name: values for name, values in sections.items() if name not in SETTINGS}
    )
    generator = torch.Generator().manual_seed(3)
    inputs = ItemInputs(
        np.random.default_rng(8).integers(0, 256, (len(ids), 3, 32, 32), dtype=np.uint8),
        torch.from_numpy(catalogue.category_rows.copy()),
        torch.randn(len(ids), 5, generator=generator) if text else None,
        config.images,
    )
    model = Pan(config, shape_of(dataset, inputs), generator=generator).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
    coder = ItemCoder(model, inputs, beta=1.5)
    return Closet(dataset, model, Completer(CodeTables(coder, max_bytes=1 << 20)))
