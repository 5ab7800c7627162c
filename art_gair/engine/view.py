"""What attacks run in the place of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from art_gair.engine.fold import FoldedModule
from art_gair.engine.form import PLAIN, Form


class ModelItself:
    """The model, where no folded copy of it can be had."""

    def __init__(self, module: nn.Module) -> None:
        self.source = self.module = module

    def run_as(self, form: Form) -> None:
        """Leave the weights alone."""

    def refresh(self) -> None:
        """Do nothing: these are the model's values."""

    def release(self) -> None:
        """Do nothing: they are needed."""


@dataclass(frozen=True)
class View:
    """What stands for the model in eval mode, and the form it is run in."""

    stand_in: FoldedModule | ModelItself
    form: Form
    run: Any
    """The stand-in's module, or what torch.compile made of it."""

    @property
    def is_model(self) -> bool:
        """Whether it is the model as its user runs it, so that there is nothing to hold against it."""
        return self.run is self.stand_in.source and self.form == PLAIN

    @classmethod
    def unfolded(cls, module: nn.Module, form: Form = PLAIN) -> View:
        """Return the model itself as a view."""
        return cls(ModelItself(module), form, module)


HOOK_TABLES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_hooks(module: nn.Module) -> bool:
    """Whether a hook sees each run of the module: one of its submodules' or a global one."""
    if any(getattr(torch_module, f"_global{table}") for table in HOOK_TABLES):
        return True
    return any(getattr(m, table) for m in module.modules() for table in HOOK_TABLES)
