"""The learned rivals of Table 1 in plain loops over torch scalars: what `panfit.baselines` must equal (decision D27).

Written from the literature (Veit 2015, Han 2017, Vasileva 2018), one scalar at a time; nothing here imports panfit.
Outfits are lists of item rows, -1 where a slot is empty.
"""

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

Vector = list[Any]


def linear(weight: Any, vector: Sequence[Any], bias: Any = None) -> Vector:
    """W x + b."""
    rows = [sum(weight[i, j] * vector[j] for j in range(len(vector))) for i in range(len(weight))]
    return rows if bias is None else [row + bias[i] for i, row in enumerate(rows)]


def dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(vector: Sequence[Any]) -> Vector:
    length = dot(vector, vector) ** 0.5
    return [x / length for x in vector]


def distance(a: Sequence[Any], b: Sequence[Any]) -> Any:
    squared = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return squared**0.5 if squared > 0 else 0.0


def positive_part(x: Any) -> Any:
    return x if x > 0 else 0.0 * x


def mean(values: Sequence[Any]) -> Any:
    return sum(values) / len(values) if values else 0.0


def cosine(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return dot(unit(a), unit(b))


def triplets(
    likes: Any, negatives: Any, valid: Any, categories: Sequence[str], *, same: bool
) -> list[tuple[int, int, int, int, int]]:
    """(anchor's slot, positive's slot, anchor, positive, negative) of every like, other slot and valid negative."""
    found = []
    for like, draws, oks in zip(likes, negatives, valid, strict=True):
        for m, n in permutations(range(len(categories)), 2):
            if categories[m] == categories[n] and not same:
                continue
            for drawn, ok in zip(draws, oks, strict=True):
                if ok and like[m] != -1 and like[n] != -1 and drawn[n] not in (like[m], like[n]):
                    found.append((m, n, like[m], like[n], drawn[n]))
    return found


# --- SiameseNet -------------------------------------------------------------------------------------------------------


def siamese_terms(
    embeddings: Any, likes: Any, negatives: Any, valid: Any, categories: Sequence[str], *, loss: str, margin: float
) -> tuple[Any, Any]:
    """(cost of the pairs worn together, cost of the pairs apart)."""
    together, apart = [], []
    for like in likes:
        for m, n in combinations(range(len(categories)), 2):
            if categories[m] != categories[n] and like[m] != -1 and like[n] != -1:
                a, b = embeddings[like[m]], embeddings[like[n]]
                together.append(distance(a, b) ** 2 if loss == "contrastive" else -dot(a, b))
    for _, _, anchor, _, negative in triplets(likes, negatives, valid, categories, same=False):
        a, b = embeddings[anchor], embeddings[negative]
        if loss == "contrastive":
            apart.append(positive_part(margin - distance(a, b)) ** 2)
        else:
            apart.append(positive_part(dot(a, b) - margin))
    return mean(together), mean(apart)


def siamese_score(embeddings: Any, outfit: Sequence[int], categories: Sequence[str], *, loss: str) -> Any:
    values = []
    for m, n in combinations(range(len(categories)), 2):
        if categories[m] != categories[n] and outfit[m] != -1 and outfit[n] != -1:
            a, b = embeddings[outfit[m]], embeddings[outfit[n]]
            values.append(-distance(a, b) if loss == "contrastive" else dot(a, b))
    return mean(values)


def han_siamese_question(embeddings: Any, outfit: Sequence[int], blank: int, candidates: Sequence[int]) -> Vector:
    """Mean of the question's embeddings, normalized, and its cosine with each candidate."""
    given = [embeddings[row] for slot, row in enumerate(outfit) if row != -1 and slot != blank]
    middle = [mean([vector[d] for vector in given]) for d in range(len(given[0]))]
    return [cosine(middle, embeddings[row]) for row in candidates]


# --- Bi-LSTM ----------------------------------------------------------------------------------------------------------


def sigmoid(x: Any) -> Any:
    return 1 / (1 + (-x).exp())


def read(sequence: Sequence[Any], weights: dict[str, Any]) -> list[Vector]:
    """An LSTM (gates in PyTorch's order: input, forget, cell, output) and its output layer, after each item."""
    width = weights["lstm.weight_hh_l0"].shape[1]
    zero = sequence[0][0] * 0.0
    hidden, cell = [zero] * width, [zero] * width
    predictions = []
    for item in sequence:
        of_item = linear(weights["lstm.weight_ih_l0"], item, weights["lstm.bias_ih_l0"])
        of_hidden = linear(weights["lstm.weight_hh_l0"], hidden, weights["lstm.bias_hh_l0"])
        gates = [a + b for a, b in zip(of_item, of_hidden, strict=True)]
        for d in range(width):
            enter, forget = sigmoid(gates[d]), sigmoid(gates[width + d])
            new, leave = gates[2 * width + d].tanh(), sigmoid(gates[3 * width + d])
            cell[d] = forget * cell[d] + enter * new
            hidden[d] = leave * cell[d].tanh()
        predictions.append(linear(weights["output.weight"], hidden, weights["output.bias"]))
    return predictions


def surprises(sequence: Sequence[Any], weights: dict[str, Any], pool: Sequence[Any]) -> Vector:
    """-log softmax of each next item over pool and END; END, the zero vector, follows the last."""
    width = len(sequence[0])
    following = [*sequence[1:], [0.0] * width]
    losses = []
    for predicted, target in zip(read(sequence, weights), following, strict=True):
        logits = [dot(predicted, item) for item in [*pool, [0.0] * width]]
        normalizer = sum(logit.exp() for logit in logits)
        losses.append(normalizer.log() - dot(predicted, target))
    return losses


def worn(embeddings: Any, outfit: Sequence[int]) -> list[Any]:
    return [embeddings[row] for row in outfit if row != -1]


def bilstm_losses(
    embeddings: Any, likes: Any, forward: dict[str, Any], backward: dict[str, Any], pool: Any
) -> tuple[Any, Any]:
    """The mean over all steps of all likes, in each direction."""
    onward, back = [], []
    for like in likes:
        sequence = worn(embeddings, like)
        onward += surprises(sequence, forward, pool)
        back += surprises(sequence[::-1], backward, pool)
    return mean(onward), mean(back)


def bilstm_score(
    embeddings: Any, outfit: Sequence[int], forward: dict[str, Any], backward: dict[str, Any], pool: Any
) -> Any:
    sequence = worn(embeddings, outfit)
    return -mean(surprises(sequence, forward, pool)) - mean(surprises(sequence[::-1], backward, pool))


def bilstm_question(
    embeddings: Any,
    outfit: Sequence[int],
    blank: int,
    candidates: Sequence[int],
    forward: dict[str, Any],
    backward: dict[str, Any],
) -> Vector:
    """Softmaxes over the candidates from the left or the right; their mean where there are items on both sides."""
    left = [embeddings[row] for row in outfit[:blank] if row != -1]
    right = [embeddings[row] for row in outfit[blank + 1 :] if row != -1][::-1]
    found = []
    for sequence, weights in ((left, forward), (right, backward)):
        if sequence:
            predicted = read(sequence, weights)[-1]
            powers = [dot(predicted, embeddings[row]).exp() for row in candidates]
            found.append([power / sum(powers) for power in powers])
    return [mean([probs[k] for probs in found]) for k in range(len(candidates))]


def bilstm_vse(images: Sequence[Any], texts: Sequence[Any], *, margin: float) -> Any:
    """Both directions' hinges, summed over all pairs of different items, over n^2."""
    total = 0.0
    for i in range(len(texts)):
        for j in range(len(images)):
            if i != j:
                own = cosine(texts[i], images[i])
                total = total + positive_part(margin - own + cosine(texts[i], images[j]))
                total = total + positive_part(margin - own + cosine(texts[j], images[i]))
    return total / len(texts) ** 2


# --- CSN --------------------------------------------------------------------------------------------------------------


def in_space(general: Any, mask: Any, *, training: bool) -> Vector:
    """The masked embedding, L2-normalized; the mask goes through ReLU in training alone."""
    return unit([x * (positive_part(w) if training else w) for x, w in zip(general, mask, strict=True)])


def space_of(categories: Sequence[str], m: int, n: int) -> int:
    """Spaces are numbered as pairs of slots m < n first bring their two categories together."""
    order: list[frozenset[str]] = []
    for a, b in combinations(range(len(categories)), 2):
        pair = frozenset((categories[a], categories[b]))
        if pair not in order:
            order.append(pair)
    return order.index(frozenset((categories[m], categories[n])))


def batch_norm(columns: Sequence[Vector], scale: Any, shift: Any, *, eps: float) -> list[Vector]:
    """In training: by the mean and the biased variance of the batch."""
    width = len(columns[0])
    centers = [mean([row[d] for row in columns]) for d in range(width)]
    variances = [mean([(row[d] - centers[d]) ** 2 for row in columns]) for d in range(width)]
    return [
        [(row[d] - centers[d]) / (variances[d] + eps) ** 0.5 * scale[d] + shift[d] for d in range(width)]
        for row in columns
    ]


def csn_words(text: Any, first: Any, scale: Any, shift: Any, second: Any, bias: Any) -> list[Vector]:
    """Linear, batch normalization, ReLU, linear, L2."""
    normed = batch_norm([linear(first, row) for row in text], scale, shift, eps=0.001)
    return [unit(linear(second, [positive_part(x) for x in row], bias)) for row in normed]


def csn_terms(
    general: Any,
    words: Any,
    told: Sequence[bool],
    likes: Any,
    negatives: Any,
    valid: Any,
    categories: Sequence[str],
    masks: Any,
    *,
    margin: float,
) -> dict[str, Any]:
    """The released code's six terms (in training). ``words``: None without text."""

    def hinge(anchor: Any, near: Any, far: Any) -> Any:
        return positive_part(distance(anchor, near) - distance(anchor, far) + margin)

    triplet, mask_norms, image, text = [], [], [], []
    lengths: list[list[Any]] = [[], [], []]
    vse: list[list[Any]] = [[], [], []]
    for m, n, anchor, positive, negative in triplets(likes, negatives, valid, categories, same=True):
        mask = masks[space_of(categories, m, n)]
        x, y, z = (in_space(general[row], mask, training=True) for row in (anchor, positive, negative))
        triplet.append(hinge(x, y, z))
        mask_norms.append(sum(positive_part(w) for w in mask))
        x, y, z = general[anchor], general[positive], general[negative]
        image.append((hinge(y, z, x) + hinge(z, y, x)) / 2)
        rows = (anchor, positive, negative)
        for role, row in enumerate(rows):
            lengths[role].append(dot(general[row], general[row]))
        if words is None:
            continue
        for role, row in enumerate(rows):
            if told[row]:
                others = [other for place, other in enumerate(rows) if place != role]
                vse[role].append(mean([hinge(words[row], general[row], general[other]) for other in others]))
        if all(told[row] for row in rows):
            x, y, z = words[anchor], words[positive], words[negative]
            text.append((hinge(y, z, x) + hinge(z, y, x)) / 2)
    return {
        "triplet": mean(triplet),
        "norm": mean([mean(squares) ** 0.5 for squares in lengths]),
        "mask": mean(mask_norms),
        "image": mean(image),
        "text": mean(text),
        "vse": mean([mean(role) for role in vse]),
    }


def csn_score(general: Any, outfit: Sequence[int], categories: Sequence[str], masks: Any) -> Any:
    """Minus the mean distance over all pairs, each in its space, the raw masks applied (at test)."""
    distances = []
    for m, n in combinations(range(len(categories)), 2):
        if outfit[m] != -1 and outfit[n] != -1:
            mask = masks[space_of(categories, m, n)]
            a, b = (in_space(general[row], mask, training=False) for row in (outfit[m], outfit[n]))
            distances.append(distance(a, b))
    return -mean(distances) if distances else 0.0
