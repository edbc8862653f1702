"""What goes into PAN and what comes out of it: a batch of outfits, an encoding, a model's shape, the output.

Also who is seen by whom: the distinct (user, item) pairs of a batch, and back from pairs to slots. Imports torch and
panfit.config only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from panfit.config import Settings
from panfit.model.hashing import binary_code

ABSENT = -1
"""The item row that says: nothing is worn in this slot. As panfit.outfits.ABSENT, which the model must not import."""


class PanShape(Settings):
    """What the data decides about a model's shape.

    Attributes:
        num_users: M.
        slots: (name, category) of the S slots.
        categories: the K categories in the order that rows count them.
        text_dim: T, length of a text vector; None for a model without text branch.
        input_shape: (channels, height, width) of one input: a photo, or a stored feature map.
        num_items: N, for models that keep something of each item; None for those that do not.
    """

    num_users: int
    slots: tuple[tuple[str, str], ...]
    categories: tuple[str, ...]
    text_dim: int | None
    input_shape: tuple[int, int, int]
    num_items: int | None = None


@dataclass(frozen=True, eq=False)
class OutfitBatch:
    """Outfits to score: inputs of the distinct items, and who wears which.

    Attributes:
        inputs: (N, ...) photos or stored maps, one row for each distinct item; with ``are_maps``, trunk maps.
        categories: (N,) int64.
        text: (N, T), or None for a model without text branch.
        users: (B,) int64 user rows.
        items: (B, S) int64 rows of ``inputs``, -1 where a slot is empty.
        are_maps: ``inputs`` are already `Pan.feature_maps` of the items (a frozen trunk's, kept), not to be run again.
    """

    inputs: Tensor
    categories: Tensor
    text: Tensor | None
    users: Tensor
    items: Tensor
    are_maps: bool = False


@dataclass(frozen=True, eq=False)
class ItemEncoding:
    """P items, each as one user sees it.

    Attributes:
        image_logits: (P, D), before hashing.
        text_logits: (P, D), the same for every user, or None.
        channel_map: (P, C, 1, 1), the gate applied (Eq. 2).
        spatial_map: (P, 1, H, W), the gate applied (Eq. 3).
    """

    image_logits: Tensor
    text_logits: Tensor | None
    channel_map: Tensor
    spatial_map: Tensor


@dataclass(frozen=True, eq=False)
class PanOutput:
    """A batch's scores, their parts, and what led to them. B outfits of S slots, V modalities, P distinct pairs.

    Attributes:
        score: (B,) y of Eq. 4; score = personal_by_item.sum(1) + general_by_pair.sum((1, 2)).
        general: (B,), personal: (B,): its two parts, alpha and scale included.
        personal_by_item: (B, S), general_by_pair: (B, S, S): their parts.
        user_codes: (B, D), item_codes: (B, S, V, D): the codes scored; zeros in an empty slot. V: image, then text.
        pair_image_codes: (P, D), pair_text_codes: (P, D) or None: the same codes, once for each (user, item) pair.
        pair_items: (P,) row of the batch's inputs, pair_users: (P,) user row.
        slot_pairs: (B, S) which of the P pairs a slot holds, -1 where it is empty.
        pair_channel_map: (P, C, 1, 1), pair_spatial_map: (P, 1, H, W): the gates applied.
    """

    score: Tensor
    general: Tensor
    personal: Tensor
    personal_by_item: Tensor
    general_by_pair: Tensor
    user_codes: Tensor
    item_codes: Tensor
    pair_image_codes: Tensor
    pair_text_codes: Tensor | None
    pair_items: Tensor
    pair_users: Tensor
    slot_pairs: Tensor
    pair_channel_map: Tensor
    pair_spatial_map: Tensor

    @property
    def binary_user_codes(self) -> Tensor:
        """(B, D) in {-1, +1}: tanh keeps the sign, so the relaxed codes tell it."""
        return binary_code(self.user_codes)

    @property
    def binary_item_codes(self) -> Tensor:
        """(B, S, V, D) in {-1, +1}, zeros in an empty slot."""
        return binary_code(self.item_codes).masked_fill((self.slot_pairs == ABSENT)[:, :, None, None], 0)

    @property
    def channel_map(self) -> Tensor:
        """(B, S, C, 1, 1), zeros in an empty slot."""
        return by_slot(self.pair_channel_map, self.slot_pairs)

    @property
    def spatial_map(self) -> Tensor:
        """(B, S, 1, H, W), zeros in an empty slot."""
        return by_slot(self.pair_spatial_map, self.slot_pairs)


def distinct_pairs(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct (user, item) pairs of outfits: users (B,), items (B, S), -1 absent.

    Returns:
        pair_users (P,), pair_items (P,), and slot_pairs (B, S): which pair a slot holds, -1 where it is empty.
    """
    filled = items != ABSENT  # (B, S)
    stride = items.max().clamp(min=0) + 1  # ()
    keys = (users[:, None] * stride + items)[filled]  # (filled slots,)
    pairs, inverse = torch.unique(keys, return_inverse=True)  # (P,), (filled slots,)
    slot_pairs = torch.full_like(items, ABSENT).masked_scatter(filled, inverse)  # (B, S)
    return pairs // stride, pairs % stride, slot_pairs


def by_slot(of_pairs: Tensor, slot_pairs: Tensor) -> Tensor:
    """(P, ...) values of pairs -> (B, S, ...) values of slots, zeros where a slot is empty."""
    padded = torch.cat([of_pairs, of_pairs.new_zeros(1, *of_pairs.shape[1:])])  # (P + 1, ...), the last for -1
    rows = torch.where(slot_pairs == ABSENT, len(of_pairs), slot_pairs)  # (B, S)
    taken = padded.index_select(0, rows.flatten())  # (B * S, ...) whole rows: several times faster than padded[rows]
    of_slots: Tensor = taken.unflatten(0, rows.shape)  # (B, S, ...)
    return of_slots
