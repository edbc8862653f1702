"""PAN written down plainly: every slot of every outfit is loaded and encoded on its own, as published codes do.

The equations again, in the order of the paper (Eq. 1-4), on the weights of a `Pan`: a batch of outfits goes through
slot by slot, each slot through trunk, attention, head and encoder, whether or not the same item, or the same item for
the same user, stands elsewhere in the batch. Readings as configs/: diagonal weights, a map for each user (W_su).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from panfit.model.attention import UserAwareAttention, UserMap
from panfit.model.item import TypeAwareEncoder
from panfit.model.pan import Pan


class PlainPan:
    """What a `Pan` computes, the obvious way.

    Args:
        model: whose weights are used; they are trained through this, too.
        slot_categories: the category row of each slot.
        from_photos: inputs are photos, and the trunk runs on each.
    """

    def __init__(self, model: Pan, slot_categories: Sequence[int], *, from_photos: bool) -> None:
        self.model, self.slot_categories, self.from_photos = model, slot_categories, from_photos
        assert isinstance(model.attention, UserAwareAttention)
        assert isinstance(model.attention.spatial.user, UserMap)
        self.attention = model.attention

    def scores(
        self, users: Tensor, inputs: Tensor, text: Tensor | None, *, beta: float, hard: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Scores (B,) and item codes (B, S, V, D) of users (B,), inputs (B, S, ...), text (B, S, T) or None.

        ``hard``: binary codes; while gradients are recorded, with the gradient of the relaxed ones.
        """
        f_u = self.model.user_encoder.embedding(users)  # (B, D)
        codes = [
            self.encode(slot, inputs[:, slot], None if text is None else text[:, slot], f_u)
            for slot in range(len(self.slot_categories))
        ]  # (B, V, D) each
        b_m = [_code(logits, beta, hard) for logits in codes]
        b_u = _code(f_u, beta, hard)  # (B, D)
        return self.eq4(b_u, b_m), torch.stack(b_m, dim=1)

    def encode(self, slot: int, inputs: Tensor, text: Tensor | None, f_u: Tensor) -> Tensor:
        """One slot's items, as these users see them: (B, ...), (B, T), (B, D) -> logits (B, V, D)."""
        model, attention, category = self.model, self.attention, self.slot_categories[slot]
        maps = model.backbone.trunk(inputs) if self.from_photos else inputs  # (B, C, H, W)
        mlp = attention.channel.mlp
        from_item = mlp(maps.mean((2, 3))) + mlp(maps.amax((2, 3)))  # (B, C)
        c_u = attention.channel.gate(from_item + attention.channel.user(f_u))  # (B, C), Eq. 2
        gated = maps * c_u[:, :, None, None]  # (B, C, H, W)
        descriptors = torch.stack([gated.mean(1), gated.amax(1)], dim=1)  # (B, 2, H, W)
        from_map = attention.spatial.convolution(descriptors)[:, 0].flatten(1)  # (B, H*W)
        s_u = attention.spatial.gate(from_map + attention.spatial.user.ask(f_u))  # (B, H*W), Eq. 3
        attended = gated * s_u.view(len(maps), 1, *maps.shape[2:])  # (B, C, H, W)
        logits = [_network(model.image_encoder, category)(model.backbone.head(attended))]  # (B, D)
        if model.text_encoder is not None:
            logits.append(_network(model.text_encoder, category)(text))
        return torch.stack(logits, dim=1)  # (B, V, D)

    def eq4(self, b_u: Tensor, b_m: list[Tensor]) -> Tensor:
        """y = scale (g + alpha p) with means for sums: users (B, D), items (B, V, D) each -> (B,)."""
        predictor = self.model.predictor
        personal = [(b_u[:, None] * predictor.user_item_weight * b).mean((1, 2)) for b in b_m]
        general = [
            (b_m[m] * predictor.item_item_weight * b_m[n]).mean((1, 2))
            for m in range(len(b_m))
            for n in range(m + 1, len(b_m))
            if self.slot_categories[m] != self.slot_categories[n]
        ]
        p, g = torch.stack(personal).mean(0), torch.stack(general).mean(0)  # (B,), (B,)
        return predictor.scale * (g + predictor.alpha * p)


def _network(encoder: TypeAwareEncoder, category: int) -> nn.Module:
    return encoder.networks[category]


def _code(logits: Tensor, beta: float, hard: bool) -> Tensor:
    relaxed = torch.tanh(beta * logits)
    if not hard:
        return relaxed
    binary = torch.where(logits >= 0, 1.0, -1.0)
    return relaxed + (binary - relaxed).detach()
