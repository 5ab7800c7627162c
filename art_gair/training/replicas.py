"""The model on several processes: torch's DistributedDataParallel around the objective, and buffers kept alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

from art_gair.distributed.group import Group
from art_gair.engine.model_state import live_state, moved_to, put_back
from art_gair.objectives.base import Terms
from art_gair.training.snapshot import BITS

Forward = Callable[[], Terms]
"""Takes the terms of a part of the batch."""


class Replicas:
    """The same model on each process; gradients of a backward pass are averaged over them.

    Attacks run on the model itself, which exchanges nothing. Only the objective's forward goes through
    DistributedDataParallel.

    :param module: the model.
    """

    def __init__(self, module: nn.Module, processes: Group) -> None:
        self.module, self.processes = module, processes
        self.trained: list[int] = []
        self.parallel: DistributedDataParallel | None = None

    def terms(self, forward: Forward) -> Terms:
        """Return what the forward gives; a backward pass from there averages gradients over the processes."""
        logits, weighted, plain = self._up_to_date()(forward)
        return Terms(logits, weighted, plain)

    @contextmanager
    def gathering(self, last: bool) -> Iterator[None]:
        """Surround forward and backward of a part: gradients are exchanged after the last one alone."""
        parallel = self._up_to_date()
        if last:
            yield
            return
        with parallel.no_sync():
            yield

    def mean(self, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean over the processes of gradients that no backward pass has exchanged, in one exchange a type.

        A parameter without a gradient on a process has a zero there: a model may use another part of itself on each.
        """
        found = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
        means: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(g.dtype for g in found):
            some = [g for g in found if g.dtype == dtype]
            flat = self.processes.sum(torch.cat([g.reshape(-1) for g in some])) / self.processes.size
            parts = flat.split([g.numel() for g in some])
            means |= {id(g): part.view_as(g) for g, part in zip(some, parts, strict=True)}
        return [means[id(g)] for g in found]

    @torch.no_grad()
    def share_statistics(self, weight: float) -> None:
        """Average the running statistics that the forward has moved, so that all processes attack the same model.

        :param weight: this process's share of the batch's samples.
        """
        moved = [m for m in self.module.modules() if isinstance(m, _NormBase) and m.training]
        single = [m for m in moved if not isinstance(m, nn.SyncBatchNorm) and m.running_mean is not None]
        statistics = [t for m in single for t in (m.running_mean, m.running_var) if t is not None]
        if not statistics:
            return
        flat = torch.cat([t.reshape(-1).double() for t in statistics])
        parts = self.processes.sum(flat * weight).split([t.numel() for t in statistics])
        for t, part in zip(statistics, parts, strict=True):
            t.copy_(part.view_as(t))

    @torch.no_grad()
    def require_alike(self, epoch: int) -> None:
        """Hold the parameters of the processes against each other.

        :raises ValueError: on each of them, if they differ.
        """
        parameters = (p.detach().contiguous() for p in self.module.parameters())
        sums = [torch.view_as_real(p) if p.is_complex() else p for p in parameters]
        sums = [p.view(BITS[p.element_size()]).sum(dtype=torch.int64).to(self.processes.device) for p in sums]
        every = self.processes.gather_numbers(torch.stack(sums).tolist() if sums else [])
        if any(numbers != every[0] for numbers in every):
            raise ValueError(
                f"the model's parameters differ between the {len(every)} processes at the end of epoch {epoch}: a "
                "plugin, a scheduler or the optimizer does something else on each, such as by a generator of its own."
            )

    @torch.no_grad()
    def settle_buffers(self) -> None:
        """Give all processes the buffers of process 0, at the end of an epoch: some models move more than norms do."""
        buffers = live_state(self.module, parameters=False)
        if buffers:
            on_host = {name: None if t is None else t.cpu() for name, t in buffers.items()}
            first = self.processes.from_first(on_host)
            if self.processes.rank:
                put_back(self.module, moved_to(self.module, first), parameters=False)

    def _up_to_date(self) -> DistributedDataParallel:
        """Return the wrapped model, wrapped again where other parameters are trained than before."""
        trained = [id(p) for p in self.module.parameters() if p.requires_grad]
        if self.parallel is None or trained != self.trained:
            self.trained = trained
            names = inspect.signature(DistributedDataParallel).parameters
            quiet = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
            settings: dict[str, Any] = {quiet: False, "find_unused_parameters": True}
            self.parallel = DistributedDataParallel(_Update(self.module), process_group=self.processes.data, **settings)
        return self.parallel


class _Update(nn.Module):
    """Runs a forward of the model that is not its own `forward`: an objective may run it more than once."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, run: Forward) -> tuple[Tensor, Tensor, Tensor | None]:
        terms = run()
        return terms.logits, terms.weighted, terms.plain
