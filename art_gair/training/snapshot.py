"""What a step changes, as it was before: the optimizer's parameters and state, and the model's buffers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from art_gair.engine.model_state import State, alike, clones, copy_all, live_state, put_back

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers of as many bytes."""

Pairs = list[tuple[Tensor, Tensor]]
"""Tensors as they are and as they were, of one form."""


class OptimizerCopy:
    """A copy of an optimizer's state and of the settings of its parameter groups: tensors and plain values.

    Tensors inside lists or dictionaries of the state are not copied, only referred to.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.state = optimizer.state
        self.keys = set(self.state)
        owners = [*(v for v in self.state.values() if isinstance(v, dict)), *optimizer.param_groups]
        self.entries: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (owner, {k: v for k, v in owner.items() if k != "params"}) for owner in owners
        ]
        places = [(kept, k) for _, kept in self.entries for k, v in kept.items() if isinstance(v, Tensor)]
        for (kept, k), copy in zip(places, clones([kept[k] for kept, k in places]), strict=True):
            kept[k] = copy

    def tensors(self) -> list[Tensor]:
        """Return the tensors of the state as they are now."""
        states = (values for values in self.state.values() if isinstance(values, dict))
        return [v for values in states for v in values.values() if isinstance(v, Tensor)]

    def pairs(self) -> Pairs | None:
        """Return all tensors as they are and as they were; None if one was added, removed or resized since."""
        if len(self.state) != len(self.keys):
            return None
        pairs: Pairs = []
        for owner, kept in self.entries:
            names = [k for k, v in owner.items() if isinstance(v, Tensor)]
            if any(not alike(owner[k], kept.get(k)) for k in names):
                return None
            pairs += [(owner[k], kept[k]) for k in names]
        return pairs

    def restore(self) -> None:
        """Put everything back; what has been added is removed."""
        for key in set(self.state) - self.keys:
            del self.state[key]
        for owner, kept in self.entries:
            for k in owner.keys() - kept.keys() - {"params"}:
                del owner[k]
            for k, v in kept.items():
                if isinstance(v, Tensor) and alike(owner.get(k), v):
                    owner[k].copy_(v)
                else:
                    owner[k] = v

    def on_host(self) -> OptimizerCopy:
        """Return the part of the copy that does not lie on a device: numbers, and Adam's step counters."""
        part = object.__new__(OptimizerCopy)
        part.state, part.keys = self.state, self.keys
        part.entries = [
            (owner, {k: owner[k] if isinstance(v, Tensor) and not v.is_cpu else v for k, v in kept.items()})
            for owner, kept in self.entries
        ]
        return part


class Snapshot:
    """The parameters with a gradient and the optimizer's state as they are now, and buffers as they were given.

    :param buffers: copies of the model's buffers, from before the forward.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, buffers: State) -> None:
        self.module, self.buffers = module, buffers
        trained = (p for group in optimizer.param_groups for p in group["params"])
        self.parameters: list[Tensor] = [p for p in trained if p.grad is not None]
        self.values = clones(self.parameters)
        self.optimizer = OptimizerCopy(optimizer)

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back, bit for bit."""
        copy_all(self.parameters, self.values)
        put_back(self.module, self.buffers, parameters=False)
        self.optimizer.restore()

    def pairs(self) -> Pairs | None:
        """Return every tensor as it is and as it was; None if one was added, removed or resized since."""
        live, remembered = live_state(self.module, parameters=False), self.optimizer.pairs()
        buffers: list[tuple[Any, Any]] = [(t, self.buffers.get(name)) for name, t in live.items()]
        if remembered is None or live.keys() != self.buffers.keys() or not all(alike(*pair) for pair in buffers):
            return None
        tensors = [pair for pair in buffers if pair[0] is not None]
        return [*zip(self.parameters, self.values, strict=True), *tensors, *remembered]


@torch.no_grad()
def keep_if(flag: Tensor, pairs: Pairs) -> None:
    """Leave the tensors as they are if the flag holds, else as they were; the host need not know the flag.

    It works on the bits, since 0 * NaN is NaN. Each kind of tensor takes three multi-tensor operations.

    :param flag: a bool on the tensors' device.
    """
    kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for now, before in pairs:
        now, before = (torch.view_as_real(t) if t.is_complex() else t for t in (now, before))
        bits = BITS[now.element_size()]
        kind = kinds.setdefault(bits, ([], []))
        kind[0].append(now.view(bits))
        kind[1].append(before.view(bits))
    for bits, (now_bits, before_bits) in kinds.items():
        keep = flag.to(bits)
        torch._foreach_mul_(now_bits, keep)
        torch._foreach_mul_(before_bits, 1 - keep)
        torch._foreach_add_(now_bits, before_bits)
