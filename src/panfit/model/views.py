"""Who looks at what: (item, user) pairs laid out so that an item's map is read once for many of its viewers.

Pairs outnumber items several times over. Copying an item's map for each viewer would cost more than all arithmetic on
it; a row of viewers beside one map turns that arithmetic into matrix products. Imports torch only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Views:
    """Q rows of K viewers, each row of one item. An item of many viewers has several rows; unused places hold zeros.

    Attributes:
        items: (Q,) row of the feature map.
        users: (Q, K, D) embeddings of the viewers; or (1, K, D) where every row has the same.
        places: (R,) the places, among the Q * K, that are in use: the views; or slice(None): all are, in their order.
        of_pair: (P,) view of each asked-for pair, or slice(None) where they are the same.
    """

    items: Tensor
    users: Tensor
    places: Tensor | slice
    of_pair: Tensor | slice

    def select(self, values: Tensor) -> Tensor:
        """Values of all places (Q, K, ...) -> those of the views (R, ...)."""
        flat = values.flatten(0, 1)  # (Q * K, ...)
        return flat if isinstance(self.places, slice) else flat.index_select(0, self.places)

    @property
    def rows(self) -> Tensor:
        """(R,) which of the Q rows a view stands in."""
        width = self.users.shape[1]  # K
        if isinstance(self.places, slice):
            return torch.arange(len(self.items) * width, device=self.items.device) // width
        return self.places // width


def lay_out(pair_items: Tensor, pair_users: Tensor, *, num_items: int) -> Views:
    """Rows of as many viewers as an item has on average: at most about half of the places stay unused.

    Args:
        pair_items: (P,) int64, in any order.
        pair_users: (P, D) embeddings.
        num_items: N, of which each pair names one.
    """
    num_pairs = len(pair_items)
    width = max(1, -(-num_pairs // num_items))  # K
    order = torch.argsort(pair_items, stable=True)  # (P,)
    viewers = torch.bincount(pair_items, minlength=num_items)  # (N,)
    rows = (viewers + width - 1) // width  # (N,)
    in_order = pair_items[order]  # (P,)
    rank = torch.arange(num_pairs, device=pair_items.device) - (viewers.cumsum(0) - viewers)[in_order]  # (P,) 0, 1 ...
    place = (rows.cumsum(0) - rows)[in_order] * width + rank  # (P,)
    places = torch.empty_like(place).scatter_(0, order, place)  # (P,)
    items = torch.repeat_interleave(torch.arange(num_items, device=pair_items.device), rows)  # (Q,)
    users = pair_users.new_zeros(len(items) * width, pair_users.shape[1]).index_copy(0, places, pair_users)
    return Views(items, users.unflatten(0, (len(items), width)), places, slice(None))


def lay_out_one(viewer: Tensor, num_items: int) -> Views:
    """One viewer (D,) before each of N items, in their order: said once, so that his terms are computed once."""
    rows = torch.arange(num_items, device=viewer.device)  # (N,)
    return Views(rows, viewer[None, None], slice(None), slice(None))


def lay_out_items(pair_items: Tensor, pair_users: Tensor) -> Views:
    """Each distinct item once, for nobody in particular: what serves where users see no difference."""
    items, of_pair = torch.unique(pair_items, return_inverse=True)  # (Q,), (P,)
    nobody = pair_users.new_zeros(len(items), 1, pair_users.shape[1])  # (Q, 1, D)
    return Views(items, nobody, torch.arange(len(items), device=items.device), of_pair)
