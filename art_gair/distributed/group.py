"""The processes of a training, as the rest of the package sees them: it need not know whether there are several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Group(Protocol):
    """What the processes exchange. Each of them must make the same calls in the same order."""

    rank: int
    """Number of this process, 0..size - 1; that of 0 writes files and speaks."""

    size: int

    device: torch.device
    """Where this process's model belongs."""

    data: Any
    """Torch's process group for tensors on the device, None for one process."""

    def together(self, what: str) -> AbstractContextManager[None]:
        """Surround what all processes do together, named `what`: an error of one ends all with that error."""
        ...

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes; the host does not wait for a device."""
        ...

    def all_true(self, flags: Tensor) -> Tensor:
        """Return for each of some flags, bool, whether it is true on all processes."""
        ...

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows of all processes, in the order of their ranks.

        :param counts: how many rows each process gives.
        """
        ...

    def gather_numbers(self, numbers: Sequence[int]) -> list[list[int]]:
        """Return the whole numbers of each process, by way of the host."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """Return the plain value of each process, by way of the host."""
        ...

    def from_first(self, value: T) -> T:
        """Return the value of process 0, which may hold tensors on the host; those of the others are not looked at."""
        ...


class Alone:
    """One process; nothing is exchanged."""

    rank, size = 0, 1
    device, data = torch.device("cpu"), None

    def sum(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values

    def all_true(self, flags: Tensor) -> Tensor:
        """Return the flags."""
        return flags

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows."""
        return rows

    def gather_numbers(self, numbers: Sequence[int]) -> list[list[int]]:
        """Return the numbers."""
        return [list(numbers)]

    def gather(self, value: Any) -> list[Any]:
        """Return the value."""
        return [value]

    def from_first(self, value: T) -> T:
        """Return the value."""
        return value

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Work on something; there is nobody to tell if it fails."""
        yield


ALONE = Alone()


def require_same(group: Group, settings: dict[str, str], what: str) -> None:
    """Hold the settings of the processes against each other.

    :raises ValueError: on each of them, with the names of those that differ, and what they are.
    """
    if group.size == 1:
        return
    every = group.gather(settings)
    names = sorted({name for found in every for name in found})
    differing = [name for name in names if len({found.get(name) for found in every}) > 1]
    if differing:
        shown = "; ".join(f"{name}: {', '.join(_short(f.get(name, '-')) for f in every)}" for name in differing[:10])
        more = f"; and {len(differing) - 10} more" if len(differing) > 10 else ""
        raise ValueError(f"{what} differs between the {group.size} processes. By rank: {shown}{more}.")


def flags_of(flags: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return several flags as one tensor."""
    return torch.stack([flag.to(device).reshape(()) for flag in flags])


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
