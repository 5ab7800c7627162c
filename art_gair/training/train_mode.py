"""Train mode for the update, but for the submodules that the user put in eval mode."""

from __future__ import annotations

import logging

from torch import nn

logger = logging.getLogger(__name__)


class TrainMode:
    """Puts a model in train mode and leaves the parts in eval mode that its user left there, such as a frozen backbone.

    The user's choice can be read only while the model itself is in train mode: `predict` and `fit` put all of it in
    eval mode, as ART does. So it is noted when the trainer is made and when a training begins, and the last note
    counts.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.frozen: dict[str, nn.Module] = {}
        self.note()

    def note(self) -> None:
        """Note which submodules are in eval mode, unless the whole model is."""
        if self.module.training:
            self.frozen = {name: m for name, m in self.module.named_modules() if not m.training}

    def __call__(self) -> None:
        """Put the model in train mode."""
        self.module.train()
        for part in self.frozen.values():
            part.training = False

    def log(self) -> None:
        """Say which submodules stay in eval mode, or which look as if they should."""
        if self.frozen:
            tops = [name for name in self.frozen if name.rpartition(".")[0] not in self.frozen]
            logger.info("Submodules in eval mode stay in it: %s.", ", ".join(tops))
            return
        doubtful = [name for name, m in self.module.named_modules() if not m.training and _frozen_norm(m)]
        if doubtful:
            logger.warning(
                "The training moves the running statistics of %s, whose parameters are frozen. To keep them, call "
                "model.train() and put those layers in eval mode before fit; predict has put the whole model in it.",
                ", ".join(doubtful),
            )


def _frozen_norm(module: nn.Module) -> bool:
    """Whether a layer has running statistics and parameters that are all frozen."""
    parameters = list(module.parameters(recurse=False))
    has_statistics = getattr(module, "running_mean", None) is not None
    return has_statistics and bool(parameters) and not any(p.requires_grad for p in parameters)
