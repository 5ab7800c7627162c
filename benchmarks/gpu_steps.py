"""A step of a trainer from the inside of its `fit`: seconds, host syncs and memory.

The optimizer says when a step ends, so the start of a `fit` (tracing, checks, copies) is not counted, whoever's it is.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from contenders import Timed, Work
from measure import added_peak, synchronize
from torch.utils._python_dispatch import TorchDispatchMode

FIRST_STEPS = 2
"""Steps before the clock starts: the device chooses its kernels, the engine its view."""

FEWEST, MOST = 4, 200
"""Timed steps."""

SYNC = "called a synchronizing CUDA operation"

HOST_READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal")
"""On a CPU: operations whose result the host would wait for on a GPU. Copies between the two are not seen."""

NOT_CALLERS = (str(Path(torch.__file__).parent), __file__, contextlib.__file__, warnings.__file__)


@dataclass(frozen=True)
class WatchedWork(Work):
    """Work of a given number of batches whose optimizer calls `on_step` after each of its steps."""

    batches: int = FIRST_STEPS + FEWEST
    on_step: Callable[[], None] = field(default=lambda: None)

    @property
    def steps(self) -> int:
        """Batches of one `fit`."""
        return self.batches

    def classifier(self) -> PyTorchClassifier:
        """Return an untrained classifier, the same each time."""
        classifier = super().classifier()
        classifier.optimizer.register_step_post_hook(lambda *_: self.on_step())
        return classifier


class Marks:
    """Notes a value after the first steps and after the last one."""

    def __init__(self, batches: int, read: Callable[[], Any]) -> None:
        self.batches, self.read = batches, read
        self.steps = 0
        self.values: list[Any] = []

    def __call__(self) -> None:
        """Count a step."""
        self.steps += 1
        if self.steps in (FIRST_STEPS, self.batches):
            self.values.append(self.read())

    def ends(self) -> tuple[Any, Any]:
        """Return the values at the start and at the end of the steps that count.

        :raises RuntimeError: if the optimizer did not take one step for each batch.
        """
        if self.steps != self.batches:
            raise RuntimeError(f"the optimizer took {self.steps} steps in {self.batches} batches; expected as many.")
        first, last = self.values
        return first, last


def measure_steps(work: Work, contender: Callable[[Work], Timed], target: float) -> dict[str, Any]:
    """Measure a step of a contender.

    :param target: seconds that the timed steps should take together.
    :return: seconds a step, the number of steps timed, seconds until the end of the first steps, host syncs a step and
        the lines they come from, and on a GPU the peak memory in MiB that a `fit` adds.
    """
    gc.collect()
    if work.device == "cuda":
        torch.cuda.empty_cache()  # what an earlier cell has left
    figures, rough = _first_fit(work, contender)
    batches = FIRST_STEPS + min(max(int(target / rough), FEWEST), MOST)
    seconds, start = _timed_fit(work, contender, batches)
    return figures | {"seconds a step": seconds, "timed steps": batches - FIRST_STEPS, "start, s": start}


def _first_fit(work: Work, contender: Callable[[Work], Timed]) -> tuple[dict[str, Any], float]:
    """Host syncs and memory of a short fit, and a rough time of its steps."""
    with counted_syncs(work.device) as syncs:
        marks = Marks(WatchedWork.batches, lambda: (time.perf_counter(), Counter(syncs)))
        call = contender(_watched(work, marks))
        peak = added_peak(call, work.device) if work.device == "cuda" else call()
    (began, before), (ended, after) = marks.ends()
    lines = {line: count / FEWEST for line, count in (after - before).most_common(10)}
    figures = {"host syncs a step": sum((after - before).values()) / FEWEST, "syncs from": lines}
    return figures | ({} if peak is None else {"peak MiB": peak}), (ended - began) / FEWEST


def _timed_fit(work: Work, contender: Callable[[Work], Timed], batches: int) -> tuple[float, float]:
    """Seconds a step, and seconds until the first steps have been taken."""

    def now() -> float:
        synchronize(work.device)
        return time.perf_counter()

    marks = Marks(batches, now)
    call = contender(_watched(work, marks))
    start = now()
    call()
    first, last = marks.ends()
    return (last - first) / (batches - FIRST_STEPS), first - start


def _watched(work: Work, marks: Marks) -> WatchedWork:
    settings = (work.model, work.batch, work.precision, work.device, work.max_iter, work.compile)
    return WatchedWork(*settings, batches=marks.batches, on_step=marks)


class HostReads(TorchDispatchMode):
    """Calls `on_read` for each operation that hands the host a value."""

    def __init__(self, on_read: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on_read = on_read

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and report it if it is one of them."""
        if func.overloadpacket.__name__ in HOST_READS:
            self.on_read()
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_syncs(device: str) -> Iterator[Counter[str]]:
    """Yield a counter of the host syncs so far, by the line of Python outside torch that they come from.

    On a GPU torch itself reports them. On a CPU there are none: operations that would wait for a GPU are counted,
    those on tensors of the host included.
    """
    syncs: Counter[str] = Counter()

    def count() -> None:
        syncs[_caller()] += 1

    if device != "cuda":
        with HostReads(count):
            yield syncs
        return
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: count() if SYNC in str(message) else None
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield syncs
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _caller() -> str:
    """Return the innermost line that belongs neither to torch nor to this file, its path shortened."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(NOT_CALLERS):
        frame = frame.f_back
    if frame is None:
        return "unknown"
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-3:])}:{frame.f_lineno}"
