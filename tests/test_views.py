"""Views: every pair has its place, beside its item and its user, whatever the order and however uneven the viewers."""

import pytest
import torch
from torch import Tensor

from panfit.model.views import lay_out, lay_out_items, lay_out_one

DIM = 3
UNEVEN = torch.tensor([4, 0, 4, 4, 2, 4, 4, 2, 4])  # item 4 has six viewers, items 1 and 3 none


def users(num_pairs: int) -> Tensor:
    return torch.randn(num_pairs, DIM, generator=torch.Generator().manual_seed(num_pairs))


@pytest.mark.parametrize("items", [UNEVEN, torch.arange(5), torch.tensor([0]), torch.zeros(7, dtype=torch.int64)])
def test_every_pair_has_a_place_beside_its_item_and_user(items: Tensor) -> None:
    viewers = users(len(items))
    views = lay_out(items, viewers, num_items=5)
    rows, width, _ = views.users.shape
    assert isinstance(views.places, Tensor)
    assert len(views.places.unique()) == len(items), "a place each"
    assert torch.equal(views.items[views.rows], items)
    assert torch.equal(views.select(views.users), viewers)
    assert rows * width <= 2 * len(items) + 5 * width, "few places stay unused"
    unused = torch.ones(rows * width, dtype=torch.bool)
    unused[views.places] = False
    assert not views.users.flatten(0, 1)[unused].any()


def test_gradients_reach_the_users_through_their_places() -> None:
    viewers = users(len(UNEVEN)).requires_grad_()
    views = lay_out(UNEVEN, viewers, num_items=5)
    upstream = torch.arange(len(UNEVEN) * DIM, dtype=torch.float32).view(-1, DIM)
    (gradient,) = torch.autograd.grad(views.select(views.users), viewers, upstream)
    assert torch.equal(gradient, upstream)


def test_without_users_each_item_is_viewed_once() -> None:
    views = lay_out_items(UNEVEN, users(len(UNEVEN)))
    assert views.items.tolist() == [0, 2, 4]
    assert torch.equal(views.items[views.rows][views.of_pair], UNEVEN)
    assert not views.users.any()


def test_one_viewer_before_each_item() -> None:
    viewer = users(1)[0]
    views = lay_out_one(viewer, 4)
    values = torch.arange(8.0).view(4, 1, 2)  # (Q, K, ...)
    assert torch.equal(views.rows, torch.arange(4))
    assert torch.equal(views.select(values), values[:, 0])
    assert torch.equal(views.users, viewer[None, None])
