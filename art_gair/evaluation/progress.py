"""The progress bar of an evaluation, in passes of the model, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from torch import Tensor
from tqdm.auto import tqdm

from art_gair.evaluation.attacks import Attack
from art_gair.evaluation.threat import Threat

FORMAT = "{desc}{percentage:3.0f}%|{bar}| {elapsed}"


class Progress:
    """A bar that counts forward and backward passes of samples.

    :param title: what is evaluated.
    :param shown: whether there is a bar at all.
    """

    def __init__(self, title: str, *, shown: bool) -> None:
        self.title = title
        self.bar = tqdm(total=1.0, desc=title, disable=not shown, leave=False, bar_format=FORMAT)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.close()

    def advance(self, passes: float) -> None:
        """Move the bar on by passes of samples, never beyond its end."""
        self.bar.update(max(0.0, min(passes, self.bar.total - self.bar.n)))

    def name(self, text: str) -> None:
        """Say what is being done."""
        self.bar.set_description(f"{self.title}, {text}")


def estimate_seconds(
    threat: Threat, x: Tensor, labels: Tensor, attacks: Sequence[Attack], n: float, progress: Progress
) -> str:
    """Say how long the attacks take, about: the passes they make at most, at the pace of a short PGD on one batch.

    :param n: samples that are attacked, by this process.
    """
    passes = sum(attack.passes for attack in attacks) * n
    progress.bar.total = max(passes, 1.0)
    rows = slice(0, threat.batch_size)
    threat.pgd(x[rows], labels[rows], loss="ce", max_iter=1, step=0.25)  # sets the fast view up
    began = time.perf_counter()
    threat.pgd(x[rows], labels[rows], loss="ce", max_iter=2, step=0.25)
    return format_seconds((time.perf_counter() - began) / (2 * len(x[rows])) * passes)


def format_seconds(seconds: float) -> str:
    """Say a time in a unit that suits it."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(1.0, seconds):.0f} s"
