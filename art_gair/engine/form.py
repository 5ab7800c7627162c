"""How a module is run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Form:
    """How a module is run: the memory format its images come in, and the precision of its arithmetic."""

    memory_format: torch.memory_format = torch.contiguous_format
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} and {str(self.memory_format).removeprefix('torch.')}"

    def __call__(self, module: nn.Module, x: Tensor) -> Any:
        """Run the module on a copy of x, since a model may begin with an operation in place."""
        x = x.clone(memory_format=self.memory_format) if x.ndim == 4 else x.clone()
        if self.dtype == torch.float32:
            return module(x)
        with torch.autocast(x.device.type, self.dtype):
            out: Any = module(x)
        return out.float() if isinstance(out, Tensor) else out

    def after(self, error: RuntimeError) -> Form | None:
        """Return another form for a forward that failed in this one; None if the memory format is not why it failed.

        In channels-last memory `view` cannot join the dimensions of an image. A branch may do so that is rarely taken.
        """
        if self.memory_format == torch.contiguous_format or "view size is not compatible" not in str(error):
            return None
        return replace(self, memory_format=torch.contiguous_format)


PLAIN = Form()
