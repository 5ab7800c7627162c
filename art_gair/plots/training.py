"""Figures of a training, from its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from art_gair.plots.style import COLOURS, make_figure, percent_axis

Record = Mapping[str, Any]
"""One epoch of `trainer.history`."""

LINES = {
    "accuracy": {
        "train_robust_accuracy": "training attack",
        "clean_accuracy": "validation, clean",
        "robust_accuracy": "validation, robust",
    },
    "loss": {"loss": "weighted", "unweighted_loss": "unweighted"},
    "effective sample size": {"effective_sample_size": "of a batch"},
}
"""Panels of `training_curves`: entries of the record, and what their lines are called."""

NEEDED = ("epoch", "burn_in", "kappa_histogram", *(key for lines in LINES.values() for key in lines))
"""Entries of a record that the figures need."""


def training_curves(history: Sequence[Record]) -> Any:
    """Draw accuracy, loss and the effective sample size over the epochs; the burn-in is shaded.

    :param history: `trainer.history`.
    :raises TypeError, ValueError: if it is empty, or no list of records.
    """
    _require_epochs(history)
    figure, axes = make_figure(3, size=(6.4, 7.5))
    for axis, (title, lines) in zip(axes, LINES.items(), strict=True):
        for colour, (key, label) in zip(COLOURS, lines.items(), strict=False):
            points = [(record["epoch"], record[key]) for record in history if record[key] is not None]
            if points:
                axis.plot(*zip(*points, strict=True), marker=".", color=colour, label=label)
        for record in history:
            if record["burn_in"]:
                axis.axvspan(record["epoch"] - 0.5, record["epoch"] + 0.5, color="#eeeeee", zorder=0)
        axis.set_ylabel(title)
        axis.legend(frameon=False, fontsize=9)
        axis.xaxis.get_major_locator().set_params(integer=True)
    percent_axis(axes[0].yaxis)
    axes[0].set_title("Training (burn-in shaded)" if any(r["burn_in"] for r in history) else "Training")
    axes[-1].set_xlabel("epoch")
    return figure


def kappa_heatmap(history: Sequence[Record]) -> Any:
    """Draw the kappa histogram of each epoch as a column of colours.

    :param history: `trainer.history` of a training whose attack counts kappa.
    :raises TypeError, ValueError: if it is empty, no list of records, or holds no kappa.
    """
    _require_epochs(history)
    counts = [record["kappa_histogram"] for record in history]
    if not all(counts):
        raise ValueError("history holds no kappa; expected one of a training with GeometryAwarePGD or FriendlyPGD.")
    shares = np.array([np.array(c) / sum(c) for c in counts]).T
    figure, axis = make_figure()
    first, last = history[0]["epoch"], history[-1]["epoch"]
    extent = (first - 0.5, last + 0.5, -0.5, len(shares) - 0.5)
    image = axis.imshow(shares, origin="lower", aspect="auto", cmap="viridis", extent=extent, interpolation="nearest")
    bar = figure.colorbar(image, ax=axis, label="samples")
    percent_axis(bar.ax.yaxis)
    burn_in = sum(bool(record["burn_in"]) for record in history)
    if 0 < burn_in < len(history):
        axis.axvline(first + burn_in - 0.5, color="white", linestyle="--", linewidth=1)
        axis.text(first + burn_in - 0.4, 0.0, "weights from here", color="white", fontsize=8, rotation=90)
    axis.set(xlabel="epoch", ylabel="kappa", title="How many PGD steps samples withstand")
    for side in (axis.xaxis, axis.yaxis):
        side.get_major_locator().set_params(integer=True)
    return figure


def _require_epochs(history: Any) -> None:
    if not isinstance(history, (list, tuple)):
        raise TypeError(f"history is {history!r}; expected a list of records, trainer.history.")
    if not history:
        raise ValueError("history is empty; expected the records of at least one epoch.")
    for record in history:
        if not isinstance(record, Mapping):
            raise TypeError(f"history holds {record!r}; expected the records of epochs.")
        missing = [key for key in NEEDED if key not in record]
        if missing:
            raise ValueError(f"history holds a record without {', '.join(missing)}; expected the records of epochs.")
