"""Figures of a classifier and its samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from art_gair.checks import require_int
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.inputs import as_tensor, check_inputs, check_labels
from art_gair.plots.style import BROKEN, COLOURS, ROBUST, make_figure, require_matplotlib


def decision_boundary(classifier: Any, x: Any, y: Any, kappa: Any = None, resolution: int = 200) -> Any:
    """Draw the classes of a classifier of two features, and samples on it, coloured by kappa or by class.

    :param classifier: an ART PyTorchClassifier of inputs (2,).
    :param x: samples (n, 2).
    :param y: classes (n,).
    :param kappa: int (n,), or None.
    :param resolution: points of the grid in each direction.
    :raises EstimatorError, TypeError, ValueError: if an argument is unusable, by its name.
    """
    tensor_classifier = TensorClassifier(classifier)
    if tensor_classifier.input_shape != (2,):
        raise ValueError(
            f"classifier takes inputs {tensor_classifier.input_shape}; expected one of two features, (2,)."
        )
    require_int(resolution, "resolution", at_least=2)
    x, y, kappa = _samples(tensor_classifier, x, y, kappa)
    low, high = x.min(axis=0), x.max(axis=0)
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    grid = np.meshgrid(*(np.linspace(a, b, resolution, dtype=np.float32) for a, b in zip(low, high, strict=True)))
    points = np.stack([g.ravel() for g in grid], axis=1)
    classes = _logits(tensor_classifier, points).argmax(axis=1).reshape(resolution, resolution)
    figure, axis = make_figure(size=(6.4, 5.2))
    axis.contourf(*grid, classes, levels=np.arange(classifier.nb_classes + 1) - 0.5, cmap="Pastel1", alpha=0.6)
    _scatter(figure, axis, x, y, kappa)
    axis.set(xlabel="x1", ylabel="x2", title="Decision regions and samples")
    return figure


def logits_pca(classifier: Any, x: Any, y: Any, kappa: Any = None) -> Any:
    """Draw the first two principal components of the samples' logits, coloured by kappa or by class.

    In kind the paper's picture of the method: samples of small kappa lie between the classes.

    :param classifier: an ART PyTorchClassifier.
    :param x: samples (n, *input_shape).
    :param y: classes (n,).
    :param kappa: int (n,), or None.
    :raises EstimatorError, TypeError, ValueError: if an argument is unusable, by its name.
    """
    tensor_classifier = TensorClassifier(classifier)
    x, y, kappa = _samples(tensor_classifier, x, y, kappa)
    if len(x) < 2:
        raise ValueError("x holds one sample; expected at least two, which principal components need.")
    with np.errstate(invalid="ignore"):  # where all logits are the same
        points = PCA(n_components=2).fit_transform(_logits(tensor_classifier, x))
    figure, axis = make_figure(size=(6.4, 5.2))
    _scatter(figure, axis, points, y, kappa)
    axis.set(xlabel="first component", ylabel="second component", title="Logits, by principal components")
    return figure


def _samples(classifier: TensorClassifier, x: Any, y: Any, kappa: Any) -> tuple[Any, Any, Any]:
    """Return samples, which may lie outside clip_values, their classes, and kappa, as arrays."""
    inputs = as_tensor(x, "x").cpu()
    check_inputs(inputs, "x", classifier.input_shape, None)
    labels = check_labels(y, len(inputs), "y", classifier.nb_classes).cpu().numpy()
    return inputs.float().numpy(), labels, None if kappa is None else _numbers(kappa, "kappa", len(inputs), "samples")


def _numbers(values: Any, name: str, n: int, things: str) -> NDArray[Any]:
    """Return whole numbers, one for each of n things."""
    numbers: NDArray[Any] = as_tensor(values, name).cpu().to(torch.float64).numpy()
    if numbers.ndim != 1:
        raise ValueError(f"{name} has shape {numbers.shape}; expected ({n},).")
    if len(numbers) != n:
        raise ValueError(f"{name} has {len(numbers)} values for {n} {things}; expected one each.")
    if not (np.abs(numbers) < 2**53).all() or (numbers != np.floor(numbers)).any():
        raise ValueError(f"{name} holds values that are no whole numbers; expected int ({n},).")
    return numbers.astype(np.int64)


def _logits(tensor_classifier: TensorClassifier, x: NDArray[np.float32]) -> NDArray[np.float32]:
    with tensor_classifier.evaluating(), torch.no_grad():
        parts = [
            tensor_classifier.logits(part.to(tensor_classifier.device)).cpu()
            for part in torch.from_numpy(x).split(4096)
        ]
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def _scatter(figure: Any, axis: Any, points: NDArray[Any], y: NDArray[Any], kappa: Any) -> None:
    if kappa is None:
        for label in np.unique(y):
            chosen = y == label
            colour = COLOURS[int(label) % len(COLOURS)]
            axis.scatter(*points[chosen].T, s=14, color=colour, edgecolor="white", linewidth=0.3, label=str(label))
        axis.legend(title="class", frameon=False, fontsize=8, ncols=2)
        return
    drawn = axis.scatter(*points.T, s=16, c=kappa, cmap="viridis", edgecolor="white", linewidth=0.3)
    figure.colorbar(drawn, ax=axis, label="kappa")


def examples_by_kappa(x: Any, x_adv: Any, labels: Any, predictions: Any, kappa: Any) -> Any:
    """Draw images above and their adversarial examples below, a column each.

    :param x: images (n, channels, height, width) in [0, 1], of 1 or 3 channels.
    :param x_adv: the same shape.
    :param labels: classes (n,).
    :param predictions: classes of x_adv, (n,).
    :param kappa: int (n,).
    :raises TypeError, ValueError: if x or x_adv are no images, or the others no numbers, one for each.
    """
    x, x_adv = (
        as_tensor(images, name).cpu().to(torch.float64).numpy() for images, name in ((x, "x"), (x_adv, "x_adv"))
    )
    if x.ndim != 4 or x.shape[1] not in (1, 3) or x.size == 0 or x_adv.shape != x.shape:
        raise ValueError(f"x and x_adv have shapes {x.shape} and {x_adv.shape}; expected (n, 1 or 3, height, width).")
    for images, name in ((x, "x"), (x_adv, "x_adv")):
        if not np.isfinite(images).all():
            raise ValueError(f"{name} contains NaN or infinite values; expected finite numbers.")
    named = ((labels, "labels"), (predictions, "predictions"), (kappa, "kappa"))
    labels, predictions, kappa = (_numbers(values, name, len(x), "images") for values, name in named)
    figure = require_matplotlib()(figsize=(1.15 * len(x) + 0.3, 3.2), layout="constrained")
    axes = figure.subplots(2, len(x), squeeze=False)
    for column in range(len(x)):
        wrong = predictions[column] != labels[column]
        titles = (f"{labels[column]}, kappa {kappa[column]}", f"seen as {predictions[column]}")
        for axis, image, title, colour in zip(
            axes[:, column], (x[column], x_adv[column]), titles, ("black", BROKEN if wrong else ROBUST), strict=True
        ):
            axis.imshow(np.moveaxis(image, 0, 2).squeeze(), cmap="gray", vmin=0.0, vmax=1.0)
            axis.set_title(title, fontsize=9, color=colour)
            axis.set_axis_off()
    figure.suptitle("Images, and their adversarial examples below, by kappa", fontsize=11)
    return figure
