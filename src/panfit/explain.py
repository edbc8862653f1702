"""EXPLAIN: an outfit's score -> its parts, where its wearer looks, and the best single swap, as numbers.

A spatial map (PAN Eq. 3) follows the garment's outline whoever looks, so what is personal in it is told relative to
the mean map of many users: where this user looks more than others, and where less. Pictures: `panfit.heat` and
`panfit.figure`. Never imports train.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from panfit.answers import Search
from panfit.codes import CodeTables
from panfit.complete import Completer
from panfit.encode import BATCH_PAIRS, FloatArray, ItemCoder, device_of, evaluating, to_device
from panfit.features.inputs import ItemInputs
from panfit.ids import OutfitIds
from panfit.model.attention import IdentityAttention
from panfit.model.batch import OutfitBatch
from panfit.model.pan import Pan
from panfit.model.predictor import Scores
from panfit.outfits import ABSENT, Dataset, IntArray, Outfits
from panfit.swaps import swapped

EVERYBODY = 512
"""Users whose mean map stands for everybody's; of more, so many at even distances."""
LEAST_LOOK = 1e-30
"""What a map holds where its gate rounds to nothing, so that shares of it have a logarithm."""
LEAST_GAIN = 1e-5
"""Scores that differ by less are the same: float32 cannot tell them apart."""
NO_ATTENTION = "this model has no attention: everybody sees every item in the same way"
DECIMALS = 6
"""Of the maps in JSON."""


@dataclass(frozen=True)
class Swap:
    """One item in another's place.

    Attributes:
        slot: its name.
        remove, add: item ids.
        score: of the outfit after the swap.
        gain: how much that is above the score before; positive.
    """

    slot: str
    remove: str
    add: str
    score: float
    gain: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a user likes an outfit as much as he does; binary codes. Mappings hold the worn slots only, by name.

    Attributes:
        user: id, or a newcomer's name.
        slots: names of all S slots.
        items: the outfit, None where nothing is worn.
        score: general + personal, exactly; what `Recommender.score` says, to float32's precision.
        general: the sum of ``by_pair``: how well the items go together, in this user's eyes.
        personal: the sum of ``by_item``.
        by_item: slot -> the item's share of ``personal``.
        by_pair: (slot, slot) -> the pair's share of ``general``; the pairs that count (decision D14).
        has_attention: False: everybody sees alike, and every map is 1 or, where relative, 0.
        channel_maps: slot -> C_u of PAN Eq. 2, (C,).
        spatial_maps: slot -> S_u of PAN Eq. 3, (H, W), positive.
        relative_maps: slot -> (H, W) log2 of how much more than everybody the user looks there (`relative_maps`).
        swap: the single replacement with the highest score; None where none is above the outfit's.
        against: the same outfit in another user's eyes, where one was asked for.
    """

    user: str
    slots: tuple[str, ...]
    items: OutfitIds
    score: float
    general: float
    personal: float
    by_item: Mapping[str, float]
    by_pair: Mapping[tuple[str, str], float]
    has_attention: bool
    channel_maps: Mapping[str, FloatArray]
    spatial_maps: Mapping[str, FloatArray]
    relative_maps: Mapping[str, FloatArray]
    swap: Swap | None
    against: "Explanation | None" = None

    def to_json(self) -> dict[str, Any]:
        """Plain values. The parts keep every digit, so that they add up; maps are rounded."""
        kinds = {"channel": self.channel_maps, "spatial": self.spatial_maps, "relative": self.relative_maps}
        return {
            "user": self.user,
            "items": dict(zip(self.slots, self.items, strict=True)),
            "score": self.score,
            "general": self.general,
            "personal": self.personal,
            "by_item": dict(self.by_item),
            "by_pair": [{"slots": list(pair), "general": share} for pair, share in self.by_pair.items()],
            "best_swap": None if self.swap is None else vars(self.swap),
            "attention": "as this user looks" if self.has_attention else NO_ATTENTION,
            "maps": {
                slot: {kind: (maps[slot].round(DECIMALS) + 0.0).tolist() for kind, maps in kinds.items()}
                for slot in self.by_item
            },
            "against": None if self.against is None else self.against.to_json(),
        }


@dataclass(frozen=True, eq=False)
class Looks:
    """How U users look at N items.

    Attributes:
        channel: (U, N, C), C_u of PAN Eq. 2.
        spatial: (U, N, H, W), S_u of PAN Eq. 3; positive.
    """

    channel: FloatArray
    spatial: FloatArray


def explain_outfit(
    completer: Completer,
    dataset: Dataset,
    user: str,
    viewer: Tensor,
    worn: IntArray,
    *,
    choices: Mapping[int, IntArray],
    search: Search = "exact",
) -> Explanation:
    """Why a viewer likes an outfit as much as he does.

    Args:
        completer: of the model and its items; finds the best swap, exactly.
        dataset: names slots and items.
        user: what to call the viewer.
        viewer: embedding (D,), of a user or of anybody.
        worn: (S,) item rows, ABSENT where nothing is worn; at least one item.
        choices: slot -> what may replace its item, item rows (n,) (`panfit.swaps.swap_choices`).
        search: for the best swap; "exact" misses nothing, other ways are quicker where the catalogue is large.
    """
    coder = completer.tables.coder
    names = tuple(slot.name for slot in dataset.slots)
    outfits = np.concatenate([worn[None], swapped(completer, viewer, worn, choices, search=search)])  # (1 + k, S)
    parts = outfit_scores(completer.tables, viewer, outfits)
    personal = parts.personal_by_item.double().cpu().numpy()  # (1 + k, S)
    general = parts.general_by_pair.double().cpu().numpy()  # (1 + k, S, S)
    totals = [math.fsum(g.ravel()) + math.fsum(p) for g, p in zip(general, personal, strict=True)]
    filled = np.flatnonzero(worn != ABSENT)  # (n,)
    pairs = [(m, n) for m, n in coder.model.predictor.pair_mask.nonzero().tolist() if {m, n} <= set(filled.tolist())]
    everybody = _everybody(coder.model)  # (M, D)
    seen = looks(coder, torch.cat([viewer.detach()[None], everybody]), worn[filled])  # by 1 + M users
    by_name = [names[slot] for slot in filled.tolist()]
    relative = [relative_maps(maps[:1], everybody=maps[1:])[0] for maps in seen.spatial.swapaxes(0, 1)]  # n of (H, W)
    return Explanation(
        user=user,
        slots=names,
        items=dataset.catalogue.ids(worn.tolist()),
        score=totals[0],
        general=math.fsum(general[0].ravel()),
        personal=math.fsum(personal[0]),
        by_item=dict(zip(by_name, personal[0, filled].tolist(), strict=True)),
        by_pair={(names[m], names[n]): float(general[0, m, n]) for m, n in pairs},
        has_attention=not isinstance(coder.model.attention, IdentityAttention),
        channel_maps=dict(zip(by_name, seen.channel[0], strict=True)),
        spatial_maps=dict(zip(by_name, seen.spatial[0], strict=True)),
        relative_maps=dict(zip(by_name, relative, strict=True)),
        swap=_best_swap(dataset, outfits, totals),
    )


def outfit_scores(tables: CodeTables, viewer: Tensor, outfits: IntArray) -> Scores:
    """Eq. 4 with its parts: embedding (D,), outfits (B, S) of item rows; binary codes, through the viewer's table."""
    coder = tables.coder
    items = np.unique(outfits[outfits != ABSENT])  # (n,)
    places = np.where(outfits == ABSENT, 0, np.searchsorted(items, outfits))  # (B, S), anything where a slot is empty
    codes = tables.codes(viewer, items)[to_device(places, coder.model)]  # (B, S, V, D)
    viewer_codes = coder.viewer_codes(viewer[None], binary=True).expand(len(outfits), -1)  # (B, D)
    with evaluating(coder.model):
        return coder.model.predictor(viewer_codes, codes, to_device(outfits != ABSENT, coder.model))  # type: ignore[no-any-return]


def looks(coder: ItemCoder, eyes: Tensor, items: IntArray) -> Looks:
    """How each pair of eyes looks at each item: embeddings (U, D), (N,) distinct item rows."""
    model, inputs = coder.model, coder.inputs
    _, height, width = model.backbone.map_shape
    of_eyes, of_items = np.indices((len(eyes), len(items))).reshape(2, -1)  # (U * N,), (U * N,)
    channel, spatial = [], []
    with evaluating(model):
        coder.maps.keep(items)
        for first in range(0, len(of_eyes), BATCH_PAIRS):
            block = slice(first, first + BATCH_PAIRS)
            encoding = model.encode_pairs(
                coder.maps.take(items),  # (N, C, H, W)
                inputs.categories[items].to(device_of(model)),
                None if inputs.text is None else inputs.text[items].to(device_of(model)),
                pair_items=to_device(of_items[block], model),
                user_embedding=eyes.index_select(0, to_device(of_eyes[block], model)),
                beta=coder.beta,
            )
            channel.append(encoding.channel_map.flatten(1).double().cpu().numpy())  # (p, C)
            spatial.append(encoding.spatial_map.flatten(1).double().cpu().numpy())  # (p, H * W)
    return Looks(
        channel=np.concatenate(channel).reshape(len(eyes), len(items), -1),
        spatial=np.maximum(np.concatenate(spatial), LEAST_LOOK).reshape(len(eyes), len(items), height, width),
    )


def spatial_maps(model: Pan, inputs: ItemInputs, users: IntArray, items: IntArray, *, beta: float = 1.0) -> FloatArray:
    """Where each user looks on each item: (U,) user rows, (N,) item rows -> S_u of PAN Eq. 3, (U, N, H, W)."""
    with evaluating(model):
        eyes = model.user_embeddings(to_device(users, model))  # (U, D)
    return looks(ItemCoder(model, inputs, beta=beta), eyes, items).spatial


def relative_maps(maps: FloatArray, *, everybody: FloatArray | None = None) -> FloatArray:
    """Maps of one item, (U, H, W) positive -> (U, H, W) log2 of each over everybody's mean map.

    Each map is first divided by its own sum: how much a user looks overall says nothing of where.

    Args:
        maps: of U users.
        everybody: (M, H, W) positive maps whose mean is compared with; the U users' own if not given.
    """
    crowd = maps if everybody is None else everybody  # (M, H, W)
    for each in (maps, crowd):
        if each.ndim != 3 or (each <= 0).any():
            raise ValueError(f"maps must be (U, H, W) and positive, not {each.shape}")
    mean = (crowd / crowd.sum(axis=(1, 2), keepdims=True)).mean(axis=0)  # (H, W)
    return np.asarray(np.log2(maps / maps.sum(axis=(1, 2), keepdims=True) / mean))


def score_parts(
    model: Pan, inputs: ItemInputs, outfits: Outfits, *, beta: float = 1.0, binary: bool = True
) -> tuple[FloatArray, FloatArray]:
    """The general and the personal part of each outfit's score, (B,) and (B,) (PAN Eq. 4); together they are the score.

    One forward pass: for tens of outfits, not for a catalogue.
    """
    worn = np.unique(outfits.items[outfits.mask])  # (N,)
    places = np.where(outfits.mask, np.searchsorted(worn, outfits.items), ABSENT)  # (B, S)
    device = next(model.parameters()).device
    batch = OutfitBatch(
        inputs=inputs.batch(worn).to(device),
        categories=inputs.categories[worn].to(device),
        text=None if inputs.text is None else inputs.text[worn].to(device),
        users=torch.from_numpy(outfits.users).to(device),
        items=torch.from_numpy(places).to(device),
    )
    with evaluating(model):
        output = model(batch, beta=beta, binary=binary)
    return output.general.double().cpu().numpy(), output.personal.double().cpu().numpy()


def _everybody(model: Pan) -> Tensor:
    """Embeddings (M, D) of the model's users, at most `EVERYBODY` of them."""
    num_users = model.shape.num_users
    rows = np.linspace(0, num_users - 1, min(num_users, EVERYBODY)).round().astype(np.int64)  # (M,)
    with evaluating(model):
        return model.user_embeddings(to_device(rows, model))


def _best_swap(dataset: Dataset, outfits: IntArray, scores: Sequence[float]) -> Swap | None:
    """The best of the outfits (1 + k, S) if it is not the first; the others differ from the first in one slot."""
    best = int(np.argmax(scores))
    gain = scores[best] - scores[0]
    if gain < LEAST_GAIN:
        return None
    (slot,) = np.flatnonzero(outfits[best] != outfits[0]).tolist()
    item_ids = dataset.catalogue.item_ids
    remove, add = item_ids[outfits[0, slot]], item_ids[outfits[best, slot]]
    return Swap(dataset.slots[slot].name, remove, add, scores[best], gain)
