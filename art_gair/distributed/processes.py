"""Several processes, by torch.distributed; an error of one of them ends them all, with that error."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others, where the process group does not say."""

POLL_SECONDS = 0.02

ANNOUNCED_SECONDS = 2.0
"""How long to look for the error of a process that was lost: it tells the others before it leaves."""


class PeerError(RuntimeError):
    """Another process failed, was lost, or did not come."""


class Processes:
    """The processes of torch's default group, in groups of their own: a `Group`.

    One group is for tensors on the device, gloo or NCCL; one, by gloo, for what the hosts decide together. Both are
    closed when the work is done, or has failed: then the others, who wait for this process, get an error at once.

    :param device: of this process's model.
    """

    opened = 0
    """How often groups were opened so far: it must be the same on each process."""

    def __init__(self, device: torch.device) -> None:
        self.device = local_device(device)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.store: Any = dist.distributed_c10d._get_default_store()
        self.timeout = _timeout()
        self.control: Any = None
        self.data: Any = None

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Work on something that all processes take part in.

        :param what: what this is called in errors.
        :raises PeerError: if another process does not come in time, fails, or is lost.
        """
        Processes.opened += 1
        self.key = f"art_gair/{Processes.opened}"
        try:
            self._wait_for_all(what)
            self.control = dist.new_group(backend="gloo", timeout=self.timeout)
            on_host = self.device.type == "cpu"
            self.data = self.control if on_host else dist.new_group(backend="nccl", timeout=self.timeout)
            yield
        except BaseException as error:
            failed = self._find_failed(error)
            if failed is None:
                self._announce(error)
            self.close()
            self._let_others_read()
            if failed is not None:
                raise failed from error
            raise
        self.close()

    def _wait_for_all(self, what: str) -> None:
        """Wait until each process has come here: groups cannot be opened without one of them."""
        keys = [f"{self.key}/{what}/{rank}" for rank in range(self.size)]
        self.store.set(keys[self.rank], "here")
        began = time.monotonic()
        while not self.store.check(keys):
            if time.monotonic() - began > self.timeout.total_seconds():
                missing = [rank for rank, key in enumerate(keys) if not self.store.check([key])]
                raise PeerError(
                    f"{what}: of {self.size} processes those of rank {', '.join(map(str, missing))} did not come "
                    f"within {self.timeout.total_seconds():g} s. Call it on each process alike, or with "
                    "distributed=False."
                )
            time.sleep(POLL_SECONDS)

    def _announce(self, error: BaseException) -> None:
        """Tell the others why this process leaves."""
        text = f"{self.rank} {type(error).__name__}: {error}"
        with suppress(Exception):
            self.store.compare_set(f"{self.key}/error", "", text)

    def _let_others_read(self) -> None:
        """Where process 0 holds the store, what was told is gone with it: it waits for those who come to read it."""
        keys = [f"{self.key}/left/{rank}" for rank in range(self.size)]
        with suppress(Exception):
            self.store.set(keys[self.rank], "")
            began = time.monotonic()
            while self.rank == 0 and not self.store.check(keys) and time.monotonic() - began < ANNOUNCED_SECONDS:
                time.sleep(POLL_SECONDS)

    def _find_failed(self, error: BaseException) -> PeerError | None:
        """Return the error of the process for whose sake a collective operation fails here; None if it is our own."""
        if not isinstance(error, RuntimeError) or isinstance(error, PeerError):
            return None
        announced, began = f"{self.key}/error", time.monotonic()
        with suppress(Exception):
            while _lost_contact(error) and not self.store.check([announced]):
                if time.monotonic() - began > ANNOUNCED_SECONDS:
                    break
                time.sleep(POLL_SECONDS)
            if self.store.check([announced]):
                rank, _, text = self.store.get(announced).decode().partition(" ")
                return PeerError(f"process {rank} of {self.size} failed. {text}")
        lost = f"another of the {self.size} processes was lost, or took more than {self.timeout.total_seconds():g} s"
        return PeerError(f"{lost}: {str(error).splitlines()[0]}") if _lost_contact(error) else None

    def close(self) -> None:
        """Close the groups; whoever waits for this process gets an error."""
        for group in dict.fromkeys((self.data, self.control)):
            if group is not None:
                with suppress(Exception):
                    dist.destroy_process_group(group)
        self.data = self.control = None

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes."""
        total = values.clone()
        dist.all_reduce(total, group=self.data)
        return total

    def all_true(self, flags: Tensor) -> Tensor:
        """Return for each flag whether it is true on all processes."""
        least = flags.to(torch.int32)
        dist.all_reduce(least, op=dist.ReduceOp.MIN, group=self.data)
        return least.bool()

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows of all processes; each sends as many as the one that has most."""
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        every = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(every, padded, group=self.data)
        return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)])

    def gather_numbers(self, numbers: Sequence[int]) -> list[list[int]]:
        """Return the whole numbers of each process."""
        mine = torch.tensor(list(numbers), dtype=torch.int64)
        every = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(every, mine, group=self.control)
        return [numbers.tolist() for numbers in every]

    def gather(self, value: Any) -> list[Any]:
        """Return the plain value of each process."""
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, value, group=self.control)
        return every

    def from_first(self, value: T) -> T:
        """Return the value of process 0."""
        box: list[Any] = [value if self.rank == 0 else None]
        dist.broadcast_object_list(box, src=0, group=self.control)
        first: T = box[0]
        return first


def local_device(device: torch.device) -> torch.device:
    """Return the GPU of this process, by torchrun's LOCAL_RANK; the CPU as it is, and a GPU that was chosen already."""
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        return device
    local = int(os.environ.get("LOCAL_RANK", dist.get_rank() % torch.cuda.device_count()))
    if local >= torch.cuda.device_count():
        raise ValueError(f"distributed: LOCAL_RANK is {local}, and there are {torch.cuda.device_count()} GPUs here.")
    return torch.device("cuda", local)


def _lost_contact(error: BaseException) -> bool:
    """Whether it is a collective operation that has failed; gloo raises nothing but RuntimeErrors."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _timeout() -> timedelta:
    """Return the timeout of torch's default group, as its user has set it."""
    try:
        options = dist.group.WORLD._get_backend(torch.device("cpu")).options  # type: ignore[union-attr]
        timeout: timedelta = options._timeout
    except (AttributeError, RuntimeError):
        return TIMEOUT
    return timeout
