"""Images for the report: where PGD-20 succeeds best, and least."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from art_gair.evaluation.threat import Threat
from art_gair.logits import probability_margins
from art_gair.report.results import AttackResult, Examples

SHOWN = 5
"""Best and worst examples each."""


def find_examples(threat: Threat, x: Tensor, labels: Tensor, result: AttackResult | None) -> Examples | None:
    """Attack the samples once more that PGD-20 moved deepest into a wrong class, and those it moved least.

    :return: None for samples that are no images, or where PGD-20 did not run.
    """
    if result is None or x.ndim != 4:
        return None
    order = np.argsort(result.margins[result.attacked], kind="stable")
    rows = np.flatnonzero(result.attacked)[order]
    rows = np.concatenate([rows[:SHOWN], rows[SHOWN:][::-1][:SHOWN]])
    clean, true = x[rows].float(), labels[rows]
    x_adv, _ = threat.pgd(clean, true, loss="ce", max_iter=20, step=0.25)
    logits = threat.logits(x_adv)
    lower, span = threat.box.lower.cpu(), (threat.box.upper - threat.box.lower).cpu()
    images = [(255 * (z - lower) / span).clamp(0, 255).round().to(torch.uint8).numpy() for z in (clean, x_adv)]
    margins = probability_margins(logits, true).numpy()
    return Examples(images[0], images[1], true.numpy(), logits.argmax(dim=1).numpy(), margins)
