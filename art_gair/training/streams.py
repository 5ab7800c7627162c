"""The random streams of a training: on one process torch's own generators, on several a shared one beside them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from art_gair import generators
from art_gair.distributed.group import ALONE, Group
from art_gair.distributed.share import Share
from art_gair.whole_batch import Place, part_at


class Streams:
    """What a training draws from.

    On one process all is drawn from the global generators. On several the order of the samples and the starts of the
    attacks come from shared generators, which stand alike on all of them and go as the global ones would on one. What a
    process draws for its own rows (augmentation, dropout) comes from its global generators, seeded for each step; what
    plugins and the optimizer draw comes from these as well, then seeded alike on all processes.
    """

    def __init__(self, group: Group, device: torch.device) -> None:
        self.group, self.device = group, device
        self.shared: dict[str, Any] = {}
        self.base = 0
        self.order: torch.Generator | None = None
        self.noise: torch.Generator | None = None

    def begin(self) -> None:
        """Begin where the generators of process 0 stand."""
        if self.group.size > 1:
            self.base = zlib.crc32(repr(self.group.from_first(generators.states(self.device))).encode())
            self.order = torch.Generator()
            self.noise = self.order if self.device.type == "cpu" else torch.Generator(self.device)
            self._share(self.group.from_first(generators.read(self.device)))

    def begin_epoch(self) -> None:
        """Let all processes draw the same order in this epoch, whatever an attack has drawn."""
        if self.group.size > 1:
            self._share(self.group.from_first(self._read_shared()))

    def seed_own(self, epoch: int, step: int) -> None:
        """Seed the global generators of each process otherwise, for what it draws for its own rows in a step."""
        self._seed(f"{epoch} {step} {self.group.rank}")

    def seed_alike(self, epoch: int, step: int) -> None:
        """Seed them alike on all, for what plugins and the optimizer draw: they must do the same to the model."""
        self._seed(f"{epoch} {step} alike")

    def _seed(self, text: str) -> None:
        if self.group.size > 1:
            generators.seed(self.device, zlib.crc32(f"{self.base} {text}".encode()))

    def drawing(self, share: Share | None) -> AbstractContextManager[None]:
        """Surround an attack on a share of a batch."""
        if share is None or self.noise is None:
            return nullcontext()
        gather, own, counts = self.group.gather_rows, share.own, share.counts
        return part_at(
            Place(share.n, share.first, share.rows, self.noise, gather=lambda rows: gather(rows[own], counts))
        )

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Make the shared generators the global ones for a time: for a loader that each process goes through alike."""
        if self.order is None:
            yield
            return
        own = generators.read(self.device)
        generators.put_back(self.device, self._read_shared())
        try:
            yield
        finally:
            self._share(generators.read(self.device))
            generators.put_back(self.device, own)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Put all back on leaving."""
        before = None if self.order is None else self._read_shared()
        with generators.restored(self.device):
            try:
                yield
            finally:
                if before is not None:
                    self._share(before)

    def read(self) -> dict[str, Any]:
        """Return where the streams stand that all processes share, in the form of `generators.read`."""
        return generators.read(self.device) if self.order is None else {**self._read_shared(), "base": self.base}

    def put_back(self, state: dict[str, Any]) -> None:
        """Put them where `read` found them, on however many processes that was."""
        if self.order is None:
            generators.put_back(self.device, state)
        else:
            self._share(state)
            self.base = state.get("base", self.base)

    def finish(self) -> None:
        """Leave the global generators where one process would have left them."""
        if self.order is not None:
            generators.put_back(self.device, self._read_shared())
            self.order = self.noise = None

    def _share(self, state: dict[str, Any]) -> None:
        assert self.order is not None
        self.shared = {"numpy": state["numpy"], "python": state["python"]}
        self.order.set_state(state["torch"])
        if self.noise is not None and self.noise is not self.order and state["cuda"] is not None:
            self.noise.set_state(state["cuda"])

    def _read_shared(self) -> dict[str, Any]:
        assert self.order is not None
        on_gpu = self.noise is not None and self.noise is not self.order
        return {
            "torch": self.order.get_state(),
            "cuda": self.noise.get_state() if on_gpu and self.noise is not None else None,
            **self.shared,
        }


GLOBAL = Streams(ALONE, torch.device("cpu"))
"""Those of one process on the CPU."""
