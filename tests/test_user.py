"""User encoder against Eq. 1 in full."""

import torch

from panfit.config import ModelConfig
from panfit.model.user import UserEncoder
from tests import oracles


def test_embedding_is_the_matrix_times_a_one_hot_vector() -> None:
    torch.manual_seed(0)
    encoder = UserEncoder(ModelConfig(code_bits=8, user_init_std=0.5), num_users=5).double()
    users = torch.tensor([3, 0, 3])
    embedding = encoder(users)  # (3, 8)
    weight = encoder.embedding.weight.detach().clone().requires_grad_()
    wanted = torch.stack([torch.stack(oracles.user_embedding(weight, int(user))) for user in users])
    torch.testing.assert_close(embedding, wanted)
    upstream = torch.randn(embedding.shape, dtype=torch.float64)
    embedding.backward(upstream)
    wanted.backward(upstream)
    torch.testing.assert_close(encoder.embedding.weight.grad, weight.grad)


def test_initial_spread_is_the_settings() -> None:
    torch.manual_seed(0)
    encoder = UserEncoder(ModelConfig(code_bits=128, user_init_std=0.02), num_users=400)
    assert 0.0195 < float(encoder.embedding.weight.detach().std()) < 0.0205
