"""PAN: the blocks of the paper's Fig. 2 wired together. Imports torch, panfit.config and the blocks only.

    photos -> trunk -> map --+-> attention (user) -> head -> image encoder --+
    text --------------------|----------------------> text encoder ---------+-> codes -> predictor -> score
    users -> user encoder ---+----------------------------------------------+

Within a batch the trunk sees each distinct item once, the attention each distinct (user, item) pair once, and a text
is encoded once an item.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from panfit.config import Config
from panfit.model.attention import Gates, ItemHalf, ViewerHalf, build_attention
from panfit.model.backbone import build_backbone
from panfit.model.batch import ABSENT, ItemEncoding, OutfitBatch, PanOutput, PanShape, by_slot, distinct_pairs
from panfit.model.hashing import hash_code
from panfit.model.initialize import drawn_from
from panfit.model.item import image_encoder, text_encoder
from panfit.model.predictor import Predictor
from panfit.model.user import UserEncoder
from panfit.model.views import Views

if TYPE_CHECKING:
    from panfit.model.checkpoint import CheckpointInfo

__all__ = ["ItemEncoding", "OutfitBatch", "Pan", "PanOutput", "PanShape"]


class Pan(nn.Module):
    """The Personalized Attention Network.

    Args:
        config: its sections backbone, attention and model are read.
        shape: what the data decides.
        generator: where all initial weights come from; a CPU generator.
        trunk_config: a Hugging Face trunk's own config, from a checkpoint: the hub or folder is then not asked.
        pretrained: load the trunk's pre-trained weights, where ``config.backbone`` names some. False: a checkpoint's
            weights will follow.

    Attributes:
        beta: () the steepness of relaxed codes where a call names none; training keeps its latest here, so that a
            saved model gives the relaxed scores that it was trained with.

    Raises:
        ConfigError: settings that contradict one another or the inputs.
    """

    beta: Tensor

    def __init__(
        self,
        config: Config,
        shape: PanShape,
        *,
        generator: torch.Generator,
        trunk_config: dict[str, Any] | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.shape = shape
        self.register_buffer("beta", torch.tensor(1.0))  # ()
        model = config.model
        num_categories = len(shape.categories)
        self.backbone = build_backbone(
            config.backbone,
            shape.input_shape,
            generator=generator,
            dropout=model.dropout,
            trunk_config=trunk_config,
            pretrained=pretrained,
        )
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
        self, batch: OutfitBatch, *, beta: float | None = None, straight_through: bool = False, binary: bool = False
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
        item_codes = by_slot(pair_codes, slot_pairs)  # (B, S, V, D)
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
        self, users: Tensor, *, beta: float | None = None, straight_through: bool = False, binary: bool = False
    ) -> Tensor:
        """User rows (B,) -> codes (B, D)."""
        embedding = self.user_embeddings(users)  # (B, D)
        return hash_code(embedding, beta=self._steepness(beta), straight_through=straight_through, binary=binary)

    def encode_items(
        self,
        feature_map: Tensor,
        categories: Tensor,
        text: Tensor | None,
        user_embedding: Tensor,
        *,
        beta: float | None = None,
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
        beta: float | None = None,
    ) -> ItemEncoding:
        """P (item, user) pairs of N items; what no user changes is computed once an item.

        Args:
            feature_map: (N, C, H, W) trunk maps.
            categories: (N,) int64.
            text: (N, T), or None.
            pair_items: (P,) int64 rows of the N items.
            user_embedding: (P, D) f_u of each pair's user.
            beta: steepness of the user's code, where attention.user_input is "code" (decision D1).
        """
        text_logits = self.encode_text(categories, text)  # (N, D) | None
        views = self.attention.views(pair_items, user_embedding, num_items=len(feature_map))
        viewed = feature_map.index_select(0, views.items)  # (Q, C, H, W)
        item_half = self.attention.item_half(feature_map).index_select(views.items)  # of Q rows
        viewer_half = self.attention.viewer_half(views.users, beta=self._steepness(beta))  # of Q rows
        features, gates = self.view_features(viewed, item_half, viewer_half, views)  # (R, E)
        of_view = categories.index_select(0, views.items.index_select(0, views.rows))  # (R,)
        image_logits = self.image_encoder(features, of_view)  # (R, D)
        _, height, width = self.backbone.map_shape
        return ItemEncoding(
            image_logits=image_logits[views.of_pair],
            text_logits=None if text_logits is None else text_logits.index_select(0, pair_items),
            channel_map=views.select(gates.channel)[views.of_pair, :, None, None],
            spatial_map=views.select(gates.spatial)[views.of_pair].unflatten(1, (1, height, width)),
        )

    def view_features(
        self, viewed: Tensor, item_half: ItemHalf, viewer_half: ViewerHalf, views: Views, *, alone: bool = False
    ) -> tuple[Tensor, Gates]:
        """What the image encoder is given of R views: attention, then head.

        Args:
            viewed: (Q, C, H, W) the map of each row's item.
            item_half: of the same Q items, ``attention.item_half`` of their maps.
            viewer_half: of the same Q rows, or of one for all, ``attention.viewer_half`` of ``views.users``.
            views: who looks.
            alone: one viewer a row, and the map may be overwritten: faster (`UserAwareAttention.look_alone`).

        Returns:
            features (R, E), and the gates of all places; ``alone``, what was left of them to multiply by.
        """
        look = self.attention.look_alone if alone else self.attention.look
        gates = look(viewed, item_half, viewer_half)
        return self.backbone.attended(viewed, gates, views), gates

    def encode_text(self, categories: Tensor, text: Tensor | None) -> Tensor | None:
        """The text branch, which no user changes: (N,), (N, T) -> logits (N, D); None without text branch."""
        if self.text_encoder is None:
            return None
        if text is None:
            raise ValueError("this model has a text branch: a batch must bring text")
        logits: Tensor = self.text_encoder(text, categories)  # (N, D)
        return logits

    def item_codes(
        self, encoding: ItemEncoding, *, beta: float | None = None, straight_through: bool = False, binary: bool = False
    ) -> Tensor:
        """Codes (P, V, D) of an encoding; V: image, then text where there is a text branch."""
        stacked = stack_logits(encoding.image_logits, encoding.text_logits)  # (P, V, D)
        stacked = stacked.to(self.beta.dtype)  # autocast's half precision ends here
        return hash_code(stacked, beta=self._steepness(beta), straight_through=straight_through, binary=binary)

    @property
    def trunk_config(self) -> dict[str, Any] | None:
        """A Hugging Face trunk's own config, which a checkpoint keeps so that it needs no hub; else None."""
        return self.backbone.trunk_config

    def save_pretrained(
        self, folder: str | Path, *, user_ids: Sequence[str], extra: Mapping[str, Any] | None = None
    ) -> Path:
        """Write a checkpoint folder: see `panfit.model.checkpoint.save_pretrained`."""
        from panfit.model.checkpoint import save_pretrained  # here: it imports this module

        return save_pretrained(self, folder, user_ids=user_ids, extra=extra)

    @staticmethod
    def from_pretrained(folder: str | Path) -> "tuple[Pan, CheckpointInfo]":
        """Read a checkpoint folder: see `panfit.model.checkpoint.from_pretrained`."""
        from panfit.model.checkpoint import from_pretrained  # here: it imports this module

        return from_pretrained(folder)

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

    def _steepness(self, beta: float | None) -> float | Tensor:
        return self.beta if beta is None else beta

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


def stack_logits(image_logits: Tensor, text_logits: Tensor | None) -> Tensor:
    """Logits (P, D) of each modality -> (P, V, D): image, then text where there is a text branch."""
    return torch.stack([image_logits] if text_logits is None else [image_logits, text_logits], dim=1)


def _pair_mask(slots: tuple[tuple[str, str], ...]) -> Tensor:
    """(S, S) bool: pairs m < n of different categories (decision D14: top-top is left out)."""
    mask = torch.zeros(len(slots), len(slots), dtype=torch.bool)
    for m, (_, category) in enumerate(slots):
        for n in range(m + 1, len(slots)):
            mask[m, n] = category != slots[n][1]
    return mask
