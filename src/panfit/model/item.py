"""Type-aware item encoders (PAN sec. 2.2, 3.2): a category's own two fully connected layers -> code logits.

One for the attended image, one for the text vector (decision D13: no attention on text). Imports torch and
panfit.config only.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panfit.config import ModelConfig
from panfit.model.initialize import initialize_linears


class PlainBatchNorm(nn.BatchNorm1d):
    """Each column is centered and scaled over the batch, without scale or shift of its own; of logits: balanced bits.

    A category that a training batch shows only once has no spread to measure: the running statistics stand in.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, columns: Tensor) -> Tensor:
        if len(columns) == 1:
            return F.batch_norm(columns, self.running_mean, self.running_var, training=False, eps=self.eps)
        return super().forward(columns)  # (P, width)


def _no_norm(width: int) -> nn.Module:
    return nn.Identity()


def _layer_norm(width: int) -> nn.Module:
    return nn.LayerNorm(width, elementwise_affine=False)


NORMS = {"none": _no_norm, "layer": _layer_norm, "batch": PlainBatchNorm}


class TypeAwareEncoder(nn.Module):
    """One small network for each category; rows are grouped by category, encoded, and put back in order."""

    def __init__(self, networks: list[nn.Sequential], *, init_std: float) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        initialize_linears(self, init_std)

    def forward(self, features: Tensor, categories: Tensor) -> Tensor:
        """Features (P, E) of items in ``categories`` (P,) int64 -> code logits (P, D)."""
        if len(features) != len(categories):
            raise ValueError(f"{len(features)} features for {len(categories)} categories")
        rows = [torch.nonzero(categories == index)[:, 0] for index in range(len(self.networks))]  # each (P_c,)
        present = [index for index, rows_of in enumerate(rows) if len(rows_of)]
        if len(present) == 1 and len(rows[present[0]]) == len(features):  # no need to copy features as they stand
            logits: Tensor = self.networks[present[0]](features)  # (P, D)
            return logits
        pieces = [self.networks[index](features.index_select(0, rows[index])) for index in present]  # (P_c, D)
        places = torch.cat([rows[index] for index in present])  # (P,)
        if len(places) != len(features):
            raise ValueError(f"a category outside 0..{len(self.networks) - 1}")
        return torch.cat(pieces).index_select(0, torch.argsort(places))  # (P, D)


def image_encoder(config: ModelConfig, num_categories: int, *, input_dim: int) -> TypeAwareEncoder:
    """Dropout - Linear(E -> hidden) - ReLU - Dropout - Linear(hidden -> D), for each category (FHN)."""
    networks = [
        nn.Sequential(
            NORMS[config.feature_norm](input_dim),
            nn.Dropout(config.input_dropout),
            nn.Linear(input_dim, config.image_hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.image_hidden, config.code_bits, bias=False),
            NORMS[config.code_norm](config.code_bits),
        )
        for _ in range(num_categories)
    ]
    return TypeAwareEncoder(networks, init_std=config.encoder_init_std)


def text_encoder(config: ModelConfig, num_categories: int, *, input_dim: int) -> TypeAwareEncoder:
    """Linear(T -> hidden) - ReLU - Dropout - Linear(hidden -> D), for each category (FHN; decision D13)."""
    networks = [
        nn.Sequential(
            nn.Linear(input_dim, config.text_hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.text_hidden, config.code_bits, bias=False),
            NORMS[config.code_norm](config.code_bits),
        )
        for _ in range(num_categories)
    ]
    return TypeAwareEncoder(networks, init_std=config.encoder_init_std)
