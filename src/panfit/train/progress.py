"""What a person sees while a run goes on, and how to stop it: a progress bar on stderr, a Ctrl-C that loses nothing."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from panfit.evaluate import Result


class Reporter:
    """A live progress display; silent when not enabled."""

    def __init__(self, *, enabled: bool) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not enabled,
        )
        self._tasks: dict[str, TaskID] = {}
        self._steps_per_epoch = 1

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def callback(self, name: str) -> Callable[[int, int], None]:
        """A (done, total) callback that draws its own bar."""

        def update(done: int, total: int) -> None:
            self.update(name, done, total)

        return update

    def update(self, name: str, done: int, total: int, note: str = "") -> None:
        """Set a named bar."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note="")
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)

    def start_training(self, num_epochs: int, steps_per_epoch: int, *, done: int) -> None:
        """Show the epochs' bar and the steps' bar."""
        self._steps_per_epoch = steps_per_epoch
        self._num_epochs, self._epoch, self._step = num_epochs, done, 0
        self.update("epochs", done, num_epochs)

    def step(self, mean_loss: float) -> None:
        """One training step is done."""
        self._step += 1
        self.update(
            "steps", (self._step - 1) % self._steps_per_epoch + 1, self._steps_per_epoch, f"loss {mean_loss:.4f}"
        )

    def validated(self, result: Result, *, best: float) -> None:
        """One validation is done."""
        note = f"val FITB {result.fitb:.3f}  AUC {result.auc:.3f}  NDCG {result.ndcg:.3f}  (best {best:.4f})"
        self.update("epochs", self._epoch, self._num_epochs, note)

    def epoch_done(self, epochs: int) -> None:
        """Epochs done so far."""
        self._epoch = epochs
        self._bars.update(self._tasks["epochs"], completed=epochs)


class StopRequest:
    """Turns the first Ctrl-C (or SIGTERM) into a request, honored between two steps; the second stops at once.

    Attributes:
        asked: whether there was one.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._previous: list[Callable[[int, FrameType | None], object] | int | None] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python lets nobody set handlers
            self._previous = [signal.signal(number, self._ask) for number in self.SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in zip(self.SIGNALS, self._previous, strict=False):
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if somebody asked to stop."""
        if self.asked:
            raise KeyboardInterrupt
