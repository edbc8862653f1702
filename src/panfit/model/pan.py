"""PAN: the blocks of the paper's Fig. 2 wired together. Imports torch, panfit.config and the blocks only.

    photos -> trunk -> map --+-> attention (user) -> head -> image encoder --+
    text --------------------|----------------------> text encoder ---------+-> codes -> predictor -> score
    users -> user encoder ---+----------------------------------------------+

Within a batch the trunk sees each distinct item once, the attention each distinct (user, item) pair once, and a text
is encoded once an item.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from panfit.config import Config, Settings
from panfit.model.attention import build_attention
from panfit.model.backbone import build_backbone
from panfit.model.hashing import binary_code, hash_code
from panfit.model.initialize import drawn_from
from panfit.model.item import image_encoder, text_encoder
from panfit.model.predictor import Predictor
from panfit.model.user import UserEncoder

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
    """

    num_users: int
    slots: tuple[tuple[str, str], ...]
    categories: tuple[str, ...]
    text_dim: int | None
    input_shape: tuple[int, int, int]


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
        return _by_slot(self.pair_channel_map, self.slot_pairs)

    @property
    def spatial_map(self) -> Tensor:
        """(B, S, 1, H, W), zeros in an empty slot."""
        return _by_slot(self.pair_spatial_map, self.slot_pairs)


class Pan(nn.Module):
    """The Personalized Attention Network.

    Args:
        config: its sections backbone, attention and model are read.
        shape: what the data decides.
        generator: where all initial weights come from; a CPU generator.

    Raises:
        ConfigError: settings that contradict one another or the inputs.
    """

    beta: Tensor

    def __init__(self, config: Config, shape: PanShape, *, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.shape = shape
        model = config.model
        num_categories = len(shape.categories)
        self.backbone = build_backbone(config.backbone, shape.input_shape, generator=generator)
        with drawn_from(generator):
            self.user_encoder = UserEncoder(model, shape.num_users)
            self.attention = build_attention(
                config.attention, map_shape=self.backbone.map_shape, user_dim=model.code_bits
            )
            self.image_encoder = image_encoder(model, num_categories, input_dim=self.backbone.head_dim)
            self.text_encoder = (
                None if shape.text_dim is None else text_encoder(model, num_categories, input_dim=shape.text_dim)
            )
            self.predictor = Predictor(model, _pair_mask(shape.slots))

    def forward(
        self, batch: OutfitBatch, *, beta: float = 1.0, straight_through: bool = False, binary: bool = False
    ) -> PanOutput:
        """Scores of a batch, with relaxed codes tanh(beta x) unless told otherwise (decision D7).

        Raises ValueError: a batch whose shapes do not fit one another or the model.
        """
        self._check(batch)
        feature_map = batch.inputs if batch.are_maps else self.feature_maps(batch.inputs)  # (N, C, H, W)
        pair_users, pair_items, slot_pairs = distinct_pairs(batch.users, batch.items)  # (P,), (P,), (B, S)
        encoding = self.encode_pairs(
            feature_map,
            batch.categories,
            batch.text,
            pair_items=pair_items,
            user_embedding=self.user_embeddings(pair_users),
            beta=beta,
        )
        pair_codes = self.item_codes(encoding, beta=beta, straight_through=straight_through, binary=binary)  # (P, V, D)
        item_codes = _by_slot(pair_codes, slot_pairs)  # (B, S, V, D)
        user_codes = self.user_codes(batch.users, beta=beta, straight_through=straight_through, binary=binary)  # (B, D)
        scores = self.predictor(user_codes, item_codes, slot_pairs != ABSENT)
        return PanOutput(
            score=scores.score,
            general=scores.general,
            personal=scores.personal,
            personal_by_item=scores.personal_by_item,
            general_by_pair=scores.general_by_pair,
            user_codes=user_codes,
            item_codes=item_codes,
            pair_image_codes=pair_codes[:, 0],
            pair_text_codes=None if encoding.text_logits is None else pair_codes[:, 1],
            pair_items=pair_items,
            pair_users=pair_users,
            slot_pairs=slot_pairs,
            pair_channel_map=encoding.channel_map,
            pair_spatial_map=encoding.spatial_map,
        )

    def feature_maps(self, inputs: Tensor) -> Tensor:
        """The trunk: (N, ...) inputs -> (N, C, H, W) maps, which no user changes."""
        return self.backbone.feature_map(inputs)

    def user_embeddings(self, users: Tensor) -> Tensor:
        """Eq. 1: user rows (B,) -> f_u (B, D)."""
        embeddings: Tensor = self.user_encoder(users)
        return embeddings

    def user_codes(
        self, users: Tensor, *, beta: float = 1.0, straight_through: bool = False, binary: bool = False
    ) -> Tensor:
        """User rows (B,) -> codes (B, D)."""
        embedding = self.user_embeddings(users)  # (B, D)
        return hash_code(embedding, beta=beta, straight_through=straight_through, binary=binary)

    def encode_items(
        self,
        feature_map: Tensor,
        categories: Tensor,
        text: Tensor | None,
        user_embedding: Tensor,
        *,
        beta: float = 1.0,
    ) -> ItemEncoding:
        """P items, row p seen by user p: maps (P, C, H, W), categories (P,), text (P, T) or None, f_u (P, D)."""
        rows = torch.arange(len(feature_map), device=feature_map.device)  # (P,)
        return self.encode_pairs(
            feature_map, categories, text, pair_items=rows, user_embedding=user_embedding, beta=beta
        )

    def encode_pairs(
        self,
        feature_map: Tensor,
        categories: Tensor,
        text: Tensor | None,
        *,
        pair_items: Tensor,
        user_embedding: Tensor,
        beta: float = 1.0,
    ) -> ItemEncoding:
        """P (item, user) pairs of N items; what no user changes is computed once an item.

        Args:
            feature_map: (N, C, H, W) trunk maps.
            categories: (N,) int64.
            text: (N, T), or None.
            pair_items: (P,) int64 rows of the N items.
            user_embedding: (P, D) f_u of each pair's user.
            beta: of the user's code, where attention.user_input is "code" (decision D1).
        """
        text_logits = self.encode_text(categories, text)  # (N, D) | None
        views = self.attention.views(pair_items, user_embedding)
        viewed = feature_map.index_select(0, views.items)  # (Q, C, H, W)
        item_half = self.attention.item_half(feature_map).index_select(0, views.items)  # (Q, C)
        gates = self.attention(viewed, item_half, views.users, beta=beta)
        features = self.backbone.attended(viewed, gates.channel, gates.spatial)  # (Q, E)
        image_logits = self.image_encoder(features, categories.index_select(0, views.items))  # (Q, D)
        _, height, width = self.backbone.map_shape
        return ItemEncoding(
            image_logits=image_logits[views.of_pair],
            text_logits=None if text_logits is None else text_logits.index_select(0, pair_items),
            channel_map=gates.channel[views.of_pair, :, None, None],
            spatial_map=gates.spatial[views.of_pair].unflatten(1, (1, height, width)),
        )

    def encode_text(self, categories: Tensor, text: Tensor | None) -> Tensor | None:
        """The text branch, which no user changes: (N,), (N, T) -> logits (N, D); None without text branch."""
        if self.text_encoder is None:
            return None
        if text is None:
            raise ValueError("this model has a text branch: a batch must bring text")
        logits: Tensor = self.text_encoder(text, categories)  # (N, D)
        return logits

    def item_codes(
        self, encoding: ItemEncoding, *, beta: float = 1.0, straight_through: bool = False, binary: bool = False
    ) -> Tensor:
        """Codes (P, V, D) of an encoding; V: image, then text where there is a text branch."""
        logits = [encoding.image_logits, encoding.text_logits]
        stacked = torch.stack([each for each in logits if each is not None], dim=1)  # (P, V, D)
        return hash_code(stacked, beta=beta, straight_through=straight_through, binary=binary)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The trainable parameters by the names of `OptimizerConfig`'s learning rates; trunk includes its own head."""
        modules: dict[str, nn.Module | None] = {
            "user": self.user_encoder,
            "trunk": self.backbone,
            "attention": self.attention,
            "image_encoder": self.image_encoder,
            "text_encoder": self.text_encoder,
            "predictor": self.predictor,
        }
        return {
            name: [] if module is None else [weight for weight in module.parameters() if weight.requires_grad]
            for name, module in modules.items()
        }

    def _check(self, batch: OutfitBatch) -> None:
        num_items, num_slots = len(batch.inputs), len(self.shape.slots)
        wanted = self.backbone.map_shape if batch.are_maps else self.shape.input_shape
        if tuple(batch.inputs.shape[1:]) != wanted:
            raise ValueError(f"inputs {tuple(batch.inputs.shape)}; wanted (N, {', '.join(map(str, wanted))})")
        if batch.categories.shape != (num_items,):
            raise ValueError(f"categories {tuple(batch.categories.shape)} for {num_items} inputs")
        if batch.text is not None and batch.text.shape != (num_items, self.shape.text_dim):
            raise ValueError(f"text {tuple(batch.text.shape)}; wanted ({num_items}, {self.shape.text_dim})")
        if batch.items.shape != (len(batch.users), num_slots):
            raise ValueError(f"items {tuple(batch.items.shape)} for {len(batch.users)} users; wanted (B, {num_slots})")


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


def _by_slot(of_pairs: Tensor, slot_pairs: Tensor) -> Tensor:
    """(P, ...) values of pairs -> (B, S, ...) values of slots, zeros where a slot is empty."""
    padded = torch.cat([of_pairs, of_pairs.new_zeros(1, *of_pairs.shape[1:])])  # (P + 1, ...), the last for -1
    rows = torch.where(slot_pairs == ABSENT, len(of_pairs), slot_pairs)  # (B, S)
    return padded[rows]  # (B, S, ...)


def _pair_mask(slots: tuple[tuple[str, str], ...]) -> Tensor:
    """(S, S) bool: pairs m < n of different categories (decision D14: top-top is left out)."""
    mask = torch.zeros(len(slots), len(slots), dtype=torch.bool)
    for m, (_, category) in enumerate(slots):
        for n in range(m + 1, len(slots)):
            mask[m, n] = category != slots[n][1]
    return mask
