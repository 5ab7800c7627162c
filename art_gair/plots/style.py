"""Colours, and the few calls to matplotlib that every figure shares; it is imported when one is drawn."""

from __future__ import annotations

from typing import Any

ROBUST, BROKEN, CLEAN, DARK = "#117733", "#cc6677", "#88aacc", "#332288"
"""Colours that people with colour blindness tell apart (Tol)."""

COLOURS = (DARK, BROKEN, ROBUST, "#ddaa33", "#44aa99", "#882255")

MAGNIFIED = 0.5
"""Grey of no change in the picture of a perturbation."""


def require_matplotlib() -> Any:
    """Return matplotlib's Figure.

    :raises ImportError: with the command that installs it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"figures need matplotlib ({error}); run `pip install matplotlib`.") from error
    return Figure


def make_figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 4.0)) -> tuple[Any, Any]:
    """Return a figure and its axes; size in inches."""
    figure = require_matplotlib()(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)


def percent_axis(axis: Any) -> None:
    """Label an axis of shares 0..1 in per cent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
