"""AutoAttack as its authors package it (pyautoattack), on inputs of any clip_values and any shape."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from art_gair import generators
from art_gair.engine.compare import PROBE
from art_gair.evaluation.threat import Threat

NORMS = {"inf": "Linf", "2": "L2", "2.0": "L2", "1": "L1", "1.0": "L1"}

TARGETS = 9
"""Target classes of its targeted attacks, the most likely wrong ones."""

FORWARD = 1 / 3
"""A forward pass as a share of a pass with its gradient, for the progress bar."""

LEAST_SIDE = 5
"""Square's patterns for the norms 2 and 1 are made of fifths of an image."""


def require_autoattack() -> ModuleType:
    """Return the package.

    :raises ImportError: with the command that installs it.
    """
    try:
        import pyautoattack
    except ImportError as error:
        raise ImportError(
            "AutoAttack's own code is not installed; run `pip install pyautoattack`, or choose preset='quick'."
        ) from error
    package: ModuleType = pyautoattack
    return package


def run_autoattack(threat: Threat, x: Tensor, labels: Tensor, version: str, seed: int, notes: list[str]) -> Tensor:
    """Run AutoAttack on x: adversarial examples like x, float32 on the CPU.

    Its code works on images in 0..1, so it sees x scaled to that; a vector is an image of one row to it. With fewer
    than ten classes it targets all the wrong ones; with three it takes the untargeted DLR loss, with two, which have
    no DLR loss, FAB without a target; notes say so, and hold what its own checks warn of.

    :param version: "standard", "rand", or "square" alone.
    """
    package, classifier, lower = require_autoattack(), threat.classifier, threat.box.lower
    span = threat.box.upper - lower
    shape = x.shape[1:] if x.ndim == 4 else (1, 1, x[0].numel())
    device = classifier.device

    def unscaled(z: Tensor) -> Tensor:
        return torch.addcmul(lower, z.view(len(z), *x.shape[1:]), span)

    def model(z: Tensor) -> Tensor:
        threat.moved(len(z) * (1.0 if z.requires_grad else FORWARD))
        return logits(unscaled(z))

    with classifier.attacked(classifier.batch(x[:PROBE])) as logits:
        scaled = torch.cat([(batch - lower) / span for batch in threat.batches(x)]).clamp_(0.0, 1.0)
        attack = package.AutoAttack(
            model,
            norm=NORMS[str(threat.norm)],
            eps=threat.eps / float(span.flatten()[0]),
            seed=seed,
            device=device,
            version="rand" if version == "rand" else "standard",
        )
        _fit_to(attack, version, classifier.nb_classes, shape[1], notes)
        with _its_checks(notes):
            examples, _ = attack.run_standard_evaluation(
                scaled.view(-1, *shape), labels.to(device), batch_size=threat.batch_size
            )
    return torch.cat([unscaled(part).cpu() for part in examples.split(threat.batch_size)])


def _fit_to(attack: Any, version: str, nb_classes: int, height: int, notes: list[str]) -> None:
    """Choose the attacks that the number of classes and the shape allow."""
    if version == "square":
        attack.attacks_to_run = ["square"]
    targets = min(TARGETS, nb_classes - 1)
    for part in (attack.apgd_targeted, attack.fab):
        part.n_target_classes = min(part.n_target_classes, targets)
    swaps: dict[str, str | None] = {}
    if nb_classes <= 3:
        swaps = {"apgd-t": "apgd-dlr"} if nb_classes == 3 else {"apgd-t": None, "apgd-dlr": None, "fab-t": "fab"}
    if attack.norm != "Linf" and height < LEAST_SIDE:
        swaps["square"] = None
    chosen = [swaps.get(name, name) for name in attack.attacks_to_run]
    left_out = [name for name in attack.attacks_to_run if name in swaps]
    attack.attacks_to_run = [name for name in chosen if name is not None]
    if left_out:
        ran = ", ".join(attack.attacks_to_run)
        notes.append(
            f"{', '.join(left_out)} cannot be had for {nb_classes} classes and images of height {height} under "
            f"{attack.norm}; it ran {ran or 'nothing'}."
        )
    if targets < TARGETS and nb_classes > 2:
        notes.append(f"its targeted attacks have {targets} target classes, all the wrong ones, instead of {TARGETS}.")


@contextmanager
def _its_checks(notes: list[str]) -> Iterator[None]:
    """Write down what AutoAttack's checks warn of; undo what they leave behind in the interpreter."""
    from pyautoattack import checks

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes.append(record.getMessage())

    logger, listener, tracer = logging.getLogger("auto-attack"), Listener(logging.WARNING), sys.gettrace()
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # counts of all models it has ever looked at
    logger.addHandler(listener)
    try:
        with generators.restored():
            yield
    finally:
        logger.removeHandler(listener)
        sys.settrace(tracer)  # its check for dynamic models takes a debugger's or coverage's away
