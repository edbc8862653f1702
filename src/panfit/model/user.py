"""User encoder (PAN Eq. 1): one-hot user -> embedding f_u. Its code is taken by `panfit.model.hashing`.

Imports torch and panfit.config only.
"""

from torch import Tensor, nn

from panfit.config import ModelConfig


class UserEncoder(nn.Module):
    """f_u = F e_u (PAN Eq. 1): one linear layer without bias on a one-hot vector, that is, column u of F.

    F (D, M) is kept transposed, as an embedding table (M, D), ~ N(0, user_init_std). Unlike an item's logits, f_u is
    never normalized: its length tells the attention how decided a user is.
    """

    def __init__(self, config: ModelConfig, num_users: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_users, config.code_bits)  # (M, D)
        nn.init.normal_(self.embedding.weight, std=config.user_init_std)

    def forward(self, users: Tensor) -> Tensor:
        """User rows (B,) int64 -> embeddings f_u (B, D)."""
        embedding: Tensor = self.embedding(users)  # (B, D)
        return embedding
