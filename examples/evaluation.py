"""What every example reports: accuracy clean and under two PGD-20 attacks, of which the worse one counts."""

from __future__ import annotations

from typing import Any

from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray

from art_gair import GeometryAwarePGD

COLUMNS = ("clean", "PGD-20", "margin PGD-20")


def accuracies(classifier: PyTorchClassifier, x: NDArray[Any], y: NDArray[Any], eps: float) -> list[float]:
    """Return accuracies, 0..1, in the order of COLUMNS: steps of eps / 4, one random start (the paper's PGD-20)."""
    inputs = [x]
    for loss in ("ce", "margin"):
        inputs.append(GeometryAwarePGD(classifier, eps=eps, eps_step=eps / 4, max_iter=20, loss=loss).generate(x, y))
    return [float((classifier.predict(z).argmax(axis=1) == y).mean()) for z in inputs]


def table(results: dict[str, list[float]], seconds: dict[str, float]) -> str:
    """Lay out the accuracies, in percent, one line a method; a star marks the worse of the two attacks."""
    width = max(map(len, results))
    lines = [f"{'':{width}}  " + "  ".join(f"{name:>14}" for name in (*COLUMNS, "training, s"))]
    for method, (clean, ce, margin) in results.items():
        cells = [f"{100 * clean:.1f} ", f"{100 * ce:.1f}{'*' if ce <= margin else ' '}"]
        cells += [f"{100 * margin:.1f}{'*' if margin <= ce else ' '}", f"{seconds[method]:.1f} "]
        lines.append(f"{method:{width}}  " + "  ".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)
