"""What the processes of one training tell each other. In one that trains alone, all of it hands back what it is given.

Every process draws the same chance for the whole step, works on its own share of the likes, and computes the loss of
the *whole* step: `Ranks.gather` puts the others' scores and codes, which carry no gradient, around its own, which do.
So a process's gradient is its share of the whole gradient, and their sum (`GradientSum`) is the gradient of one process
that works on everything. No term is weighted, and none is written twice. Imports no model.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from panfit.errors import TrainingError
from panfit.evaluate import FloatArray, QuestionScorer, Scorer
from panfit.outfits import FitbQuestions, Outfits

PATIENCE = timedelta(days=7)
"""How long processes wait for those whose turn it is (photos of a whole catalogue are decoded by one of them). One that
dies does not keep the others waiting: whoever started them ends them."""
BUCKET_BYTES = 16 * 2**20
"""Gradients are summed in pieces of about this size, while the rest of the backward pass still runs."""

T = TypeVar("T")


class LostProcess(TrainingError):
    """Another process of this training is gone; its own message says why."""


@contextmanager
def _asking(rank: int) -> Iterator[None]:
    """Inside, processes talk; what the transport says of one that is gone becomes a LostProcess."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcess(
            f"process {rank} of this training lost another one, whose own message says why; "
            f"the last saved state is whole: --resume goes on from it ({str(error).splitlines()[0]})"
        ) from error


class Ranks:
    """Where this process stands among those that train together.

    Args:
        rank: of this process, from 0.
        size: how many there are. Above 1, torch.distributed's process group must be there.
        local_rank: of this process on its machine.

    Attributes:
        first: whether this process writes the files, the log and the progress.
    """

    def __init__(self, rank: int = 0, size: int = 1, *, local_rank: int = 0) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self.first = rank == 0
        if size > 1:
            with _asking(rank):
                self._hosts = dist.new_group(backend="gloo")  # numbers that live on the CPU: no GPU waits for them
                self._turns = dist.new_group(backend="gloo", timeout=PATIENCE)

    def share(self, count: int) -> slice:
        """This process's rows of a step's ``count``: in order of ranks, as even as can be; none where they are few."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def in_turns(self, work: Callable[[], T]) -> T:
        """``work`` that fills a cache: process 0 first, then one of each machine, then all, who find it filled."""
        if self.size == 1:
            return work()
        turn = 0 if self.first else 1 if self.local_rank == 0 else 2
        for now in range(3):
            if now == turn:
                result = work()
            with _asking(self.rank):
                dist.barrier(group=self._turns)
        return result

    def from_first(self, value: T) -> T:
        """What process 0 calls ``value``; waits for it however long it takes."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        with _asking(self.rank):
            dist.broadcast_object_list(values, src=0, group=self._turns)
        found: T = values[0]
        return found

    def stop_together(self, check: Callable[[], None]) -> None:
        """Raises what ``check`` raises here, or KeyboardInterrupt where it raised in another process only."""
        if self.size == 1:
            return check()
        reason: BaseException | None = None
        try:
            check()
        except BaseException as error:
            reason = error
        stopping = self.total(np.array([float(reason is not None)]))  # (1,)
        if reason is not None:
            raise reason
        if stopping[0]:
            raise KeyboardInterrupt

    def total(self, numbers: FloatArray) -> FloatArray:
        """(n,) float64 -> (n,) their sums over the processes, the same in each of them."""
        if self.size == 1:
            return numbers
        sums = torch.from_numpy(np.array(numbers, dtype=np.float64))  # (n,) a copy
        with _asking(self.rank):
            dist.all_reduce(sums, group=self._hosts)
        return sums.numpy()

    def same_start(self, module: nn.Module) -> None:
        """Every process takes process 0's weights and buffers."""
        if self.size > 1:
            with _asking(self.rank), torch.no_grad():
                for tensor in module.state_dict().values():
                    dist.broadcast(tensor, src=0)

    def average_statistics(self, module: nn.Module) -> None:
        """Batch normalization sees a process's own rows; its running statistics become the processes' mean."""
        statistics = [] if self.size == 1 else running_statistics(module)
        if not statistics:
            return
        flat = torch.cat([each.flatten() for each in statistics]) / self.size  # (n,)
        with _asking(self.rank):
            dist.all_reduce(flat)
        for each, mean in zip(statistics, flat.split([each.numel() for each in statistics]), strict=True):
            each.copy_(mean.view_as(each))

    def gather(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Each (n, ...), n differing between processes -> (N, ...) of all processes, in order of ranks.

        The own rows are the given ones, gradient and all; the others' carry none. One message for all tensors.
        """
        if self.size == 1:
            return tensors
        row_bytes = [math.prod(each.shape[1:]) * each.element_size() for each in tensors]
        own = torch.cat([each.detach().contiguous().flatten().view(torch.uint8) for each in tensors])  # (bytes,)
        with _asking(self.rank):
            counts = self._counts([len(each) for each in tensors])  # (ranks, tensors)
            most = max(int(counts[rank] @ row_bytes) for rank in range(self.size))
            buffer = own.new_zeros(most)  # (bytes,)
            buffer[: len(own)] = own
            received = [torch.empty_like(buffer) for _ in range(self.size)]
            dist.all_gather(received, buffer)
        parts: list[list[Tensor]] = [[] for _ in tensors]
        for rank, message in enumerate(received):
            start = 0
            for place, (tensor, count, width) in enumerate(zip(tensors, counts[rank].tolist(), row_bytes, strict=True)):
                there = message[start : start + count * width].clone().view(tensor.dtype)  # a copy is aligned
                parts[place].append(tensor if rank == self.rank else there.view(count, *tensor.shape[1:]))
                start += count * width
        return tuple(torch.cat(part) for part in parts)

    def _counts(self, counts: list[int]) -> NDArray[np.int64]:
        """(tensors,) row counts of this process -> (ranks, tensors)."""
        table = torch.zeros(self.size, len(counts), dtype=torch.int64)  # (ranks, tensors)
        table[self.rank] = torch.tensor(counts)
        dist.all_reduce(table, group=self._hosts)
        return table.numpy()

    def add_up(self, terms: dict[str, Tensor], *, weight: float) -> dict[str, Tensor]:
        """Named () terms of the own rows, which count by ``weight`` -> their weighted sums over the processes.

        A term's gradient stays that of the own, weighted rows. For losses that are not taken apart into rows.
        """
        if self.size == 1:
            return terms
        own = {name: value * weight for name, value in terms.items()}
        values = torch.stack([value.detach().float() for value in own.values()])  # (terms,)
        with _asking(self.rank):
            dist.all_reduce(values)
        return {
            name: value + (total.to(value.dtype) - value.detach())
            for (name, value), total in zip(own.items(), values, strict=True)
        }

    def scorer(self, scorer: Scorer) -> Scorer:
        """The same scorer, the work split between the processes by users; every process gets all scores."""
        if self.size == 1:
            return scorer
        return (
            _SharedQuestionScorer(scorer, self) if isinstance(scorer, QuestionScorer) else _SharedScorer(scorer, self)
        )


ALONE = Ranks()
"""One process that trains by itself."""


def running_statistics(module: nn.Module) -> list[Tensor]:
    """The running means and variances of a module's batch normalizations."""
    found = [(each.running_mean, each.running_var) for each in module.modules() if hasattr(each, "running_mean")]
    return [tensor for pair in found for tensor in pair if isinstance(tensor, Tensor)]


class GradientSum:
    """The processes' gradients become their sum, in every process; while the backward pass still runs, where it can.

    A parameter that no process has a gradient of keeps none, as in one process: it is not decayed.

    Args:
        parameters: those that are trained, in the model's order; gradients come in about the opposite one.
        ranks: of one process, nothing is done.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], ranks: Ranks, *, bucket_bytes: int = BUCKET_BYTES) -> None:
        self._ranks = ranks
        self._buckets: list[list[nn.Parameter]] = []
        self._hooks: list[Any] = []
        self._sent: list[tuple[Tensor, Any]] = []
        if ranks.size == 1:
            return
        held = bucket_bytes
        for parameter in reversed([each for each in parameters if each.requires_grad]):
            if held >= bucket_bytes:
                self._buckets.append([])
                held = 0
            self._buckets[-1].append(parameter)
            held += parameter.numel() * parameter.element_size()
        self._waiting = [len(bucket) for bucket in self._buckets]
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._hook(place))
            for place, bucket in enumerate(self._buckets)
            for parameter in bucket
        ]

    def close(self) -> None:
        """Leave the parameters alone from now on."""
        for hook in self._hooks:
            hook.remove()

    def _hook(self, place: int) -> Callable[[Tensor], None]:
        def ready(_: Tensor) -> None:
            self._waiting[place] -= 1
            # In the same order everywhere, whatever a process computes first and whatever it leaves out.
            while len(self._sent) < len(self._buckets) and self._waiting[len(self._sent)] == 0:
                self._send()

        return ready

    def _send(self) -> None:
        bucket = self._buckets[len(self._sent)]
        grads = [parameter.grad for parameter in bucket]
        known = bucket[0].new_tensor([float(grad is not None) for grad in grads])  # (n,)
        pieces = [
            (torch.zeros_like(parameter) if grad is None else grad).detach().flatten()
            for parameter, grad in zip(bucket, grads, strict=True)
        ]
        flat = torch.cat([*pieces, known])  # (all numbers of the bucket + n,)
        with _asking(self._ranks.rank):
            self._sent.append((flat, dist.all_reduce(flat, async_op=True)))

    def finish(self) -> None:
        """After the backward pass: send what is left, wait, and put the sums where the gradients were."""
        while len(self._sent) < len(self._buckets):
            self._send()
        for bucket, (flat, work) in zip(self._buckets, self._sent, strict=True):
            with _asking(self._ranks.rank):
                work.wait()
            *sums, known = flat.split([*(parameter.numel() for parameter in bucket), len(bucket)])
            unseen = [place for place, parameter in enumerate(bucket) if parameter.grad is None]
            anywhere = known.tolist() if unseen else []  # read only where it matters: a GPU would wait for it
            for place, (parameter, total) in enumerate(zip(bucket, sums, strict=True)):
                if parameter.grad is not None:
                    parameter.grad.copy_(total.view_as(parameter))
                elif anywhere[place]:
                    parameter.grad = total.view_as(parameter).clone()
        self._sent = []
        self._waiting = [len(bucket) for bucket in self._buckets]


class _SharedScorer:
    """A `panfit.evaluate.Scorer` whose work is split between the processes, whole users to each."""

    def __init__(self, scorer: Scorer, ranks: Ranks) -> None:
        self._scorer, self._ranks = scorer, ranks

    def both(self, outfits: Outfits) -> tuple[FloatArray, FloatArray]:
        """(relaxed (B,), binary (B,)) scores, the same in every process."""
        own = np.flatnonzero(owner_of(outfits.users, self._ranks.size) == self._ranks.rank)  # (b,)
        scores = np.zeros((2, len(outfits)))  # (2, B)
        if len(own):
            scores[:, own] = self._scorer.both(outfits.take(own))
        relaxed, binary = self._ranks.total(scores.ravel()).reshape(scores.shape)
        return relaxed, binary


class _SharedQuestionScorer(_SharedScorer):
    """The same of a `panfit.evaluate.QuestionScorer`."""

    def question_scores(self, questions: FitbQuestions) -> FloatArray:
        """(Q, K) scores of the candidates, the same in every process."""
        own = np.flatnonzero(owner_of(questions.outfits.users, self._ranks.size) == self._ranks.rank)  # (q,)
        scores = np.zeros(questions.candidates.shape)  # (Q, K)
        if len(own):
            assert isinstance(self._scorer, QuestionScorer)
            asked = FitbQuestions(
                questions.outfits.take(own), questions.blank[own], questions.candidates[own], questions.answer[own]
            )
            scores[own] = self._scorer.question_scores(asked)
        return self._ranks.total(scores.ravel()).reshape(scores.shape)


def owner_of(users: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """(B,) users of outfits -> (B,) which of ``size`` processes scores each: whole users, about as many outfits."""
    _, of_user, counts = np.unique(users, return_inverse=True, return_counts=True)  # (B,), (U,)
    before = np.cumsum(counts) - counts  # (U,)
    owners: NDArray[np.int64] = (before * size // max(len(users), 1)).astype(np.int64)[of_user]
    return owners
