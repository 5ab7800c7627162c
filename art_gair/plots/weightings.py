"""Figures of weightings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from art_gair.checks import require_int
from art_gair.plots.style import COLOURS, make_figure


def weight_functions(weightings: Mapping[str, Any], max_iter: int = 10) -> Any:
    """Draw weights against kappa, in kind the paper's figure of weight functions; each value of kappa once in a batch.

    :param weightings: weightings of kappa alone, by name.
    :param max_iter: K, at least 1.
    :raises ValueError: if there is none, or max_iter is too small.
    :raises TypeError: if weightings is no mapping, one of them cannot do without logits, or max_iter is no int.
    """
    require_int(max_iter, "max_iter", at_least=1)
    if not isinstance(weightings, Mapping):
        raise TypeError(f"weightings is {weightings!r}; expected a dict, name to weighting.")
    if not weightings:
        raise ValueError("weightings is empty; expected at least one, by name.")
    kappa = torch.arange(max_iter + 1)
    figure, axis = make_figure()
    for i, (name, weighting) in enumerate(weightings.items()):
        try:
            weights = weighting(kappa=kappa, max_iter=max_iter, logits=None, labels=None, epoch=0)
        except Exception as error:
            raise TypeError(f"weightings' {name!r}, {weighting!r}, needs more than kappa: {error}") from error
        if not isinstance(weights, torch.Tensor) or weights.shape != kappa.shape:
            raise TypeError(
                f"weightings' {name!r}, {weighting!r}, returned {weights!r}; expected {len(kappa)} weights."
            )
        axis.plot(kappa.numpy(), weights.numpy(), marker=".", color=COLOURS[i % len(COLOURS)], label=name)
    axis.axhline(1.0, color="#999999", linewidth=0.8, zorder=0)
    axis.set(xlabel="kappa", ylabel="weight (mean 1)", title="Weight of a sample by its kappa")
    axis.legend(frameon=False)
    return figure
