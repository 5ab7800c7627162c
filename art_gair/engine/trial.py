"""A run of the model that is only a trial: it leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from art_gair import generators
from art_gair.engine.attributes import kept_attributes
from art_gair.engine.model_state import copied, live_state, put_back


@contextmanager
def leaving_no_trace(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Put the module's buffers, its plain attributes (see `kept_attributes`) and all generators back on leaving.

    A lazy module is made by its first run: of that only the generators are put back.
    """
    with ExitStack() as stack:
        if not any(map(is_lazy, chain(module.parameters(), module.buffers()))):
            stack.callback(put_back, module, copied(live_state(module, parameters=False)), parameters=False)
            stack.enter_context(kept_attributes(module))
        stack.enter_context(generators.restored(device))
        yield
