"""The paper in plain loops: the slow oracles that every fast path must equal, in value and in gradient.

Written from the equations alone, one scalar at a time, without looking at the fast code; nothing here imports panfit.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

# ---------------------------------------------------------------------------------------------------------------------
# Metrics: AUC by counting pairs, both NDCGs rank by rank, FITB question by question (decisions D16, D17)
# ---------------------------------------------------------------------------------------------------------------------


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Pairs in the right order, a tie counting one half, over all pairs; NaN without a pair."""
    right = 0.0
    pairs = 0
    for liked in positive:
        for other in negative:
            pairs += 1
            if liked > other:
                right += 1.0
            elif liked == other:
                right += 0.5
    return right / pairs if pairs else math.nan


def _orderings(positive: Sequence[float], negative: Sequence[float]) -> list[list[int]]:
    """The relevances (1, 0) in every order of falling score that ties allow: all permutations, filtered."""
    candidates = [(score, 1) for score in positive] + [(score, 0) for score in negative]
    allowed = []
    for permutation in itertools.permutations(candidates):
        scores = [score for score, _ in permutation]
        if all(first >= second for first, second in itertools.pairwise(scores)):
            allowed.append([relevance for _, relevance in permutation])
    return allowed


def _dcg_at(relevances: Sequence[int], cut: int, *, fhn: bool) -> float:
    total = 0.0
    for rank in range(1, cut + 1):
        discount = math.log2(max(rank, 2)) if fhn else math.log2(rank + 1)
        total += (2 ** relevances[rank - 1] - 1) / discount
    return total


def ndcg_all_ranks(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Mean over orderings of ties, and over every cut-off, of DCG@m / IDCG@m; NaN without positives or negatives."""
    if not positive or not negative:
        return math.nan
    ideal = [1] * len(positive) + [0] * len(negative)
    values = []
    for relevances in _orderings(positive, negative):
        for cut in range(1, len(ideal) + 1):
            values.append(_dcg_at(relevances, cut, fhn=True) / _dcg_at(ideal, cut, fhn=True))
    return sum(values) / len(values)


def ndcg(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Mean over orderings of ties of DCG / IDCG over the whole list; NaN without positives or negatives."""
    if not positive or not negative:
        return math.nan
    ideal = [1] * len(positive) + [0] * len(negative)
    values = []
    for relevances in _orderings(positive, negative):
        values.append(_dcg_at(relevances, len(ideal), fhn=False) / _dcg_at(ideal, len(ideal), fhn=False))
    return sum(values) / len(values)


def fitb(scores: Sequence[Sequence[float]], answers: Sequence[int]) -> list[float]:
    """For each question: 0 if a candidate beats the answer, else one over the number of candidates that equal it."""
    values = []
    for question, answer in zip(scores, answers, strict=True):
        beaten = False
        equal = 0
        for score in question:
            if score > question[answer]:
                beaten = True
            if score == question[answer]:
                equal += 1
        values.append(0.0 if beaten else 1.0 / equal)
    return values


# --- PAN Eq. 5-9: mining and losses ---------------------------------------------------------------------------------


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), for a torch scalar."""
    return (1 + x.exp()).log()


def bpr(positive: Any, negative: Any, valid: Any) -> Any:
    """Eq. 6, triplet by triplet: (B, K) scores; the mean over the valid ones."""
    total, count = 0.0, 0
    for b in range(len(positive)):
        for k in range(len(positive[b])):
            if valid[b][k]:
                total = total + softplus(-(positive[b][k] - negative[b][k]))
                count += 1
    return total / max(count, 1)


def visual_semantic(image_codes: Any, text_codes: Any, items: Any, margin: Any) -> Any:
    """Eq. 8 with a similarity (decision D12), hinge by hinge."""
    num_rows, num_bits = len(items), len(image_codes[0])

    def similarity(a: Any, b: Any) -> Any:
        return sum(a[d] * b[d] for d in range(num_bits)) / num_bits

    total, counted = 0.0, 0
    for r in range(num_rows):
        row, others = 0.0, 0
        for k in range(num_rows):
            if items[k] == items[r]:
                continue
            own = similarity(image_codes[r], text_codes[r])
            text_negative = margin - own + similarity(image_codes[r], text_codes[k])
            image_negative = margin - own + similarity(image_codes[k], text_codes[r])
            row = row + (text_negative if text_negative > 0 else 0) + (image_negative if image_negative > 0 else 0)
            others += 1
        if others:
            total = total + row / others
            counted += 1
    return total / max(counted, 1)


def near_users(distances: Any, users: Any, k_ratio: Any) -> Any:
    """Sec. 2.3: for each row, the rows of the K-ratio nearest other users; ties go to whoever comes first."""
    seen = list(dict.fromkeys(users))
    first = {user: users.index(user) for user in seen}
    num_near = min(len(seen) - 1, max(1, round(k_ratio * (len(seen) - 1))))
    near = []
    for user in users:
        others = [other for other in seen if other != user]
        others.sort(key=lambda other: distances[first[user]][first[other]])  # sort is stable
        chosen = others[:num_near]
        near.append([other in chosen for other in users])
    return near


def hardest(pool: Any, hardness: Any, count: Any) -> Any:
    """For each row, its `count` hardest pool members, hardest first."""
    chosen = []
    for row, members in enumerate(pool):
        rows = [column for column, inside in enumerate(members) if inside]
        rows.sort(key=lambda column: -hardness[row][column])
        chosen.append(rows[:count])
    return chosen


# ---------------------------------------------------------------------------------------------------------------------
# Eq. 1-4, one torch scalar at a time, so that gradients flow: user embedding, gates, predictor (decisions D2-D6, D14)
# ---------------------------------------------------------------------------------------------------------------------


def user_embedding(weight: Any, user: int) -> list[Any]:
    """Eq. 1: f_u = F e_u with F (D, M) given as its transpose (M, D): a product with a one-hot vector, in full."""
    num_users, dim = weight.shape
    return [sum(weight[other, d] * (1.0 if other == user else 0.0) for other in range(num_users)) for d in range(dim)]


def _gate(logits: Sequence[Any], kind: str) -> list[Any]:
    open_ = [1 / (1 + (-logit).exp()) for logit in logits]
    if kind == "sigmoid":
        return open_
    if kind == "mean":
        mean = sum(open_) / len(open_)
        return [each / mean for each in open_]
    if kind == "double":
        return [2 * each for each in open_]
    if kind == "softmax":
        powers = [logit.exp() for logit in logits]
        return [each / sum(powers) * len(powers) for each in powers]
    assert kind == "residual"
    return [1 + each for each in open_]


def _product(weight: Any, vector: Sequence[Any]) -> list[Any]:
    return [sum(weight[row, column] * vector[column] for column in range(len(vector))) for row in range(len(weight))]


def channel_gate(feature_map: Any, user: Any, w_0: Any, w_1: Any, w_u: Any, *, kind: str, relu: bool) -> list[Any]:
    """Eq. 2 for one map (C, H, W) and one user (D,): C numbers."""
    channels, height, width = feature_map.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    average = [sum(feature_map[c, y, x] for y, x in places) / len(places) for c in range(channels)]
    maximum = [max(feature_map[c, y, x] for y, x in places) for c in range(channels)]
    logits = _product(w_u, list(user))
    for descriptor in (average, maximum):
        hidden = _product(w_0, descriptor)
        if relu:
            hidden = [each if each > 0 else each * 0 for each in hidden]
        logits = [logit + each for logit, each in zip(logits, _product(w_1, hidden), strict=True)]
    return _gate(logits, kind)


def user_map(feature_map: Any, user: Any, w_u: Any) -> list[Any]:
    """W_su u of Eq. 3, W_su (HW or 1, D), for one user (D,): HW numbers."""
    _, height, width = feature_map.shape
    of_user = _product(w_u, list(user))
    return of_user if len(of_user) > 1 else of_user * (height * width)


def user_query(feature_map: Any, user: Any, w_q: Any, w_k: Any, position: Any) -> list[Any]:
    """(W_q u) . (W_k x_l + e_l) / sqrt(Q) at every place l (D28); x_l (C,) of the map, mean 0 and variance 1: HW."""
    channels, height, width = feature_map.shape
    query = _product(w_q, list(user))
    answers = []
    for place in range(height * width):
        column = [feature_map[c, place // width, place % width] for c in range(channels)]
        mean = sum(column) / channels
        variance = sum((value - mean) ** 2 for value in column) / channels
        key = _product(w_k, [(value - mean) / (variance + 1e-5) ** 0.5 for value in column])
        met = sum(query[q] * (key[q] + position[q, place]) for q in range(len(query)))
        answers.append(met / math.sqrt(len(query)))
    return answers


def spatial_gate(
    feature_map: Any, channel: Sequence[Any], of_user: Sequence[Any], kernel: Any, *, kind: str
) -> list[list[Any]]:
    """Eq. 3 for one map (C, H, W), its channel gate, the user's term (HW) and a kernel (2, k, k): H x W."""
    channels, height, width = feature_map.shape
    gated = [
        [[feature_map[c, y, x] * channel[c] for x in range(width)] for y in range(height)] for c in range(channels)
    ]
    average = [[sum(gated[c][y][x] for c in range(channels)) / channels for x in range(width)] for y in range(height)]
    maximum = [[max(gated[c][y][x] for c in range(channels)) for x in range(width)] for y in range(height)]
    side = kernel.shape[1]
    logits = []
    for y in range(height):
        for x in range(width):
            total = of_user[y * width + x]
            for descriptor, weights in ((average, kernel[0]), (maximum, kernel[1])):
                for dy in range(side):
                    for dx in range(side):
                        row, column = y + dy - side // 2, x + dx - side // 2
                        if 0 <= row < height and 0 <= column < width:
                            total = total + descriptor[row][column] * weights[dy, dx]
            logits.append(total)
    flat = _gate(logits, kind)
    return [flat[y * width : (y + 1) * width] for y in range(height)]


def attended_map(feature_map: Any, channel: Sequence[Any], spatial: Sequence[Sequence[Any]]) -> list[list[list[Any]]]:
    """The map (C, H, W) after both gates."""
    channels, height, width = feature_map.shape
    return [
        [[feature_map[c, y, x] * channel[c] * spatial[y][x] for x in range(width)] for y in range(height)]
        for c in range(channels)
    ]


def _weighted(first: Any, weight: Any, second: Any) -> Any:
    """first^T W second, W (D, D) or its diagonal (D,)."""
    dim = len(first)
    if weight.ndim == 1:
        return sum(first[d] * weight[d] * second[d] for d in range(dim))
    return sum(first[d] * weight[d, e] * second[e] for d in range(dim) for e in range(dim))


def preference(
    user_code: Any,
    item_codes: Any,
    mask: Sequence[bool],
    categories: Sequence[str],
    w_user: Any,
    w_item: Any,
    *,
    alpha: float,
    scale: float,
) -> tuple[Any, Any, Any]:
    """Eq. 4 for one outfit: user code (D,), item codes (S, V, D) -> y, g, alpha p (each times scale).

    The sums run over all ordered pairs m != n of different categories, as printed; z1 and z2 count the terms.
    """
    num_slots, num_modalities, dim = item_codes.shape
    general, personal = 0.0 * user_code[0], 0.0 * user_code[0]
    for v in range(num_modalities):
        p, g, z_1, z_2 = 0.0 * user_code[0], 0.0 * user_code[0], 0, 0
        for m in range(num_slots):
            if not mask[m]:
                continue
            p = p + _weighted(user_code, w_user, item_codes[m, v])
            z_1 += dim
            for n in range(num_slots):
                if n != m and mask[n] and categories[m] != categories[n]:
                    g = g + _weighted(item_codes[m, v], w_item, item_codes[n, v])
                    z_2 += dim
        personal = personal + scale * alpha * p / z_1 / num_modalities
        if z_2:
            general = general + scale * g / z_2 / num_modalities
    return general + personal, general, personal
