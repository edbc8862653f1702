"""Preference predictor (PAN Eq. 4): codes -> general, personal and total score, and the query that completes an outfit.

The only place where Eq. 4 is computed: training, evaluation, search and explanation call it. Imports torch and
panfit.config only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from panfit.config import ModelConfig

INITIAL_WEIGHTS: dict[str, Callable[[int], Tensor]] = {"diagonal": torch.ones, "full": torch.eye}  # decision D6


@dataclass(frozen=True)
class Scores:
    """Eq. 4 and its parts. The parts add up: score = personal_by_item.sum() + general_by_pair.sum(), for each outfit.

    Attributes:
        score: (B,) y = g + alpha p.
        general: (B,) g, the compatibility of the items.
        personal: (B,) alpha p, the user's liking of the items.
        personal_by_item: (B, S) each item's share of ``personal``; 0 where a slot is empty.
        general_by_pair: (B, S, S) each pair's share of ``general``; strict upper triangle, 0 elsewhere.
    """

    score: Tensor
    general: Tensor
    personal: Tensor
    personal_by_item: Tensor
    general_by_pair: Tensor


class Predictor(nn.Module):
    """PAN Eq. 4, with the readings of decisions D6, D12 and D14.

    p = 1/z1 sum_m b_u W(u) b_m,  g = 1/z2 sum_{m<n} b_m W(i) b_n,  y = scale (g + alpha p). The sums are means: z1 =
    (filled slots) D, z2 = (allowed pairs present) D, and modalities are averaged. The paper's sum over ordered pairs
    counts each twice, with W(i) and its transpose; so does ours by taking W(i)'s symmetric part, once a pair.

    Args:
        config: pair_weight, score_scale, alpha, learn_alpha, code_bits.
        pair_mask: (S, S) bool, True for the pairs m < n that count (D14: not those of one category).
    """

    pair_mask: Tensor

    def __init__(self, config: ModelConfig, pair_mask: Tensor) -> None:
        super().__init__()
        num_slots = len(pair_mask)
        if pair_mask.shape != (num_slots, num_slots) or pair_mask.dtype != torch.bool:
            raise ValueError(f"pair_mask must be (S, S) bool, not {tuple(pair_mask.shape)} {pair_mask.dtype}")
        if pair_mask.tril().any():
            raise ValueError("pair_mask counts pairs m < n only: its strict upper triangle")
        initial = INITIAL_WEIGHTS[config.pair_weight]
        self.scale = config.score_scale
        self.user_item_weight = nn.Parameter(initial(config.code_bits))  # W(u): (D,) or (D, D)
        self.item_item_weight = nn.Parameter(initial(config.code_bits))  # W(i): (D,) or (D, D)
        alpha = torch.tensor(config.alpha)  # ()
        if config.learn_alpha:
            self.alpha: Tensor = nn.Parameter(alpha)
        else:
            self.register_buffer("alpha", alpha, persistent=False)
        self.register_buffer("pair_mask", pair_mask.clone(), persistent=False)

    @property
    def is_rowwise(self) -> bool:
        """Whether a row's results are the same, to the last bit, whatever other rows there are.

        Not with full weights: the order in which a matrix product adds depends on how many rows it has.
        """
        return self.user_item_weight.ndim == 1

    def forward(self, user_codes: Tensor, item_codes: Tensor, mask: Tensor) -> Scores:
        """Eq. 4. What stands in an empty slot's code is ignored; an outfit without any allowed pair has general 0.

        Args:
            user_codes: (B, D).
            item_codes: (B, S, V, D), V modalities.
            mask: (B, S) bool, True where a slot is filled; at least one a row.

        Raises:
            ValueError: shapes that do not fit one another.
        """
        self._check(user_codes, item_codes, mask)
        with torch.autocast(user_codes.device.type, enabled=False):  # half precision would round scores into ties
            return self._scores(user_codes, item_codes, mask)

    def _scores(self, user_codes: Tensor, item_codes: Tensor, mask: Tensor) -> Scores:
        z_1, z_2 = self._norms(mask, item_codes)  # (B,), (B,)
        b = _filled(item_codes, mask)  # (B, S, V, D)
        flat = b.flatten(2)  # (B, S, V*D)
        personal_by_item = torch.einsum("bd,bsvd->bs", self._weighted_user(user_codes), b)  # (B, S)
        personal_by_item = personal_by_item * (self.scale * self.alpha / z_1)[:, None]  # (B, S)
        general_by_pair = flat @ self._weighted_items(b).flatten(2).transpose(1, 2)  # (B, S, S)
        general_by_pair = general_by_pair.masked_fill(~self.pair_mask, 0) * (self.scale / z_2)[:, None, None]
        personal = personal_by_item.sum(1)  # (B,)
        general = general_by_pair.sum((1, 2))  # (B,)
        return Scores(general + personal, general, personal, personal_by_item, general_by_pair)

    def completion_query(
        self, user_codes: Tensor, item_codes: Tensor, mask: Tensor, slot: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Eq. 4 as a linear function of the one code that is open: score(c) = offset + sum_{v,d} query[v, d] c[v, d].

        Args:
            user_codes: (B, D).
            item_codes: (B, S, V, D); what stands in ``slot`` is ignored.
            mask: (B, S) bool, the other slots that are filled; what it says of ``slot`` is ignored.
            slot: the open slot, one for all rows or (B,) int64.

        Returns:
            query (B, V, D) and offset (B,).
        """
        self._check(user_codes, item_codes, mask)
        with torch.autocast(user_codes.device.type, enabled=False):
            return self._query(user_codes, item_codes, mask, slot)

    def _query(self, user_codes: Tensor, item_codes: Tensor, mask: Tensor, slot: int | Tensor) -> tuple[Tensor, Tensor]:
        num_outfits, num_slots, num_modalities, _ = item_codes.shape
        slots = torch.as_tensor(slot, device=mask.device).expand(num_outfits)  # (B,)
        if ((slots < 0) | (slots >= num_slots)).any():
            raise ValueError(f"slot {slot} is not one of the {num_slots} slots")
        is_open = torch.arange(num_slots, device=mask.device) == slots[:, None]  # (B, S)
        filled = mask | is_open  # (B, S)
        # With a code of zeros in the open slot, Eq. 4 gives what the other slots contribute, under the final z1, z2.
        others = _filled(item_codes, mask & ~is_open)  # (B, S, V, D)
        offset = self(user_codes, others, filled).score  # (B,)
        z_1, z_2 = self._norms(filled, item_codes)  # (B,), (B,)
        partners = (self.pair_mask | self.pair_mask.T)[slots]  # (B, S), the slots that pair with the open one
        personal = self._weighted_user(user_codes) * (self.scale * self.alpha / z_1)[:, None]  # (B, D)
        general = torch.einsum("bs,bsvd->bvd", partners.to(others.dtype), self._weighted_items(others))  # (B, V, D)
        general = general * (self.scale / z_2)[:, None, None]  # (B, V, D)
        return personal[:, None, :].expand(-1, num_modalities, -1) + general, offset

    def _weighted_user(self, user_codes: Tensor) -> Tensor:
        """b_u W(u), (B, D)."""
        weight = self.user_item_weight
        return user_codes * weight if weight.ndim == 1 else user_codes @ weight

    def _weighted_items(self, item_codes: Tensor) -> Tensor:
        """W(i) b, with the symmetric part of a full W(i), (B, S, V, D)."""
        weight = self.item_item_weight
        return item_codes * weight if weight.ndim == 1 else item_codes @ ((weight + weight.T) / 2)

    def _norms(self, mask: Tensor, item_codes: Tensor) -> tuple[Tensor, Tensor]:
        """z1 and z2 of each outfit, the mean over modalities included, (B,) and (B,); 1 pair where there is none."""
        terms = item_codes.shape[2] * item_codes.shape[3]  # V * D
        present = mask[:, :, None] & mask[:, None, :] & self.pair_mask  # (B, S, S)
        num_items = mask.sum(1).clamp(min=1).to(item_codes.dtype)  # (B,)
        num_pairs = present.sum((1, 2)).clamp(min=1).to(item_codes.dtype)  # (B,)
        return num_items * terms, num_pairs * terms

    def _check(self, user_codes: Tensor, item_codes: Tensor, mask: Tensor) -> None:
        num_slots, code_bits = len(self.pair_mask), len(self.user_item_weight)
        num_outfits = len(user_codes)
        fits = (
            user_codes.shape == (num_outfits, code_bits)
            and item_codes.ndim == 4
            and item_codes.shape[:2] == (num_outfits, num_slots)
            and item_codes.shape[3] == code_bits
            and mask.shape == (num_outfits, num_slots)
            and mask.dtype == torch.bool
        )
        if not fits:
            raise ValueError(
                f"wanted user codes (B, {code_bits}), item codes (B, {num_slots}, V, {code_bits}) and a bool mask "
                f"(B, {num_slots}); got {tuple(user_codes.shape)}, {tuple(item_codes.shape)} and "
                f"{tuple(mask.shape)} {mask.dtype}"
            )


def _filled(item_codes: Tensor, mask: Tensor) -> Tensor:
    """Codes (B, S, V, D) with zeros where a slot is empty, mask (B, S); where none is, they need not be copied."""
    if mask.device.type == "cpu" and bool(mask.all()):  # to ask a GPU would mean to wait for it
        return item_codes
    return item_codes.masked_fill(~mask[:, :, None, None], 0)
