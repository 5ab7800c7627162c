"""Figures of a training, a weighting, a classifier and a report; matplotlib is imported when one is drawn.

Every function returns a `matplotlib.figure.Figure`, for `figure.savefig(path)` or a notebook; none touches pyplot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from art_gair.engine.classifier import TensorClassifier
from art_gair.report.statistics import interval
from art_gair.training.history import EpochRecord

if TYPE_CHECKING:
    from art_gair.report.data import RobustnessReport

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
        raise ImportError("figures need matplotlib; run `pip install art_gair[plots]`.") from error
    return Figure


def _figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 4.0)) -> tuple[Any, Any]:
    figure = require_matplotlib()(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)


def _percent(axis: Any) -> None:
    """Label an axis of shares 0..1 in per cent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


# ---- a training


def training_curves(history: Sequence[EpochRecord]) -> Any:
    """Draw accuracy, loss and the effective sample size over the epochs; the burn-in is shaded.

    :param history: `trainer.history`.
    :raises ValueError: if it is empty.
    """
    _require_epochs(history)
    figure, axes = _figure(3, size=(6.4, 7.5))
    epochs = [record["epoch"] for record in history]
    panels = (
        (
            "accuracy",
            {
                "train_robust_accuracy": "training attack",
                "clean_accuracy": "validation, clean",
                "robust_accuracy": "validation, robust",
            },
        ),
        ("loss", {"loss": "weighted", "unweighted_loss": "unweighted"}),
        ("effective sample size", {"effective_sample_size": "of a batch"}),
    )
    for axis, (title, lines) in zip(axes, panels, strict=True):
        for colour, (key, label) in zip(COLOURS, lines.items(), strict=False):
            values = [record[key] for record in history]  # type: ignore[literal-required]
            if None not in values:
                axis.plot(epochs, values, marker=".", color=colour, label=label)
        for record in history:
            if record["burn_in"]:
                axis.axvspan(record["epoch"] - 0.5, record["epoch"] + 0.5, color="#eeeeee", zorder=0)
        axis.set_ylabel(title)
        axis.legend(frameon=False, fontsize=9)
        axis.xaxis.get_major_locator().set_params(integer=True)
    _percent(axes[0].yaxis)
    axes[0].set_title("Training (burn-in shaded)" if any(r["burn_in"] for r in history) else "Training")
    axes[-1].set_xlabel("epoch")
    return figure


def kappa_heatmap(history: Sequence[EpochRecord]) -> Any:
    """Draw the kappa histogram of each epoch as a column of colours.

    :param history: `trainer.history` of a training whose attack counts kappa.
    :raises ValueError: if it is empty, or holds no kappa.
    """
    _require_epochs(history)
    counts = [record["kappa_histogram"] for record in history]
    if not all(counts):
        raise ValueError("history holds no kappa; expected one of a training with GeometryAwarePGD or FriendlyPGD.")
    shares = np.array([np.array(c) / sum(c) for c in counts]).T
    figure, axis = _figure()
    first, last = history[0]["epoch"], history[-1]["epoch"]
    extent = (first - 0.5, last + 0.5, -0.5, len(shares) - 0.5)
    image = axis.imshow(shares, origin="lower", aspect="auto", cmap="viridis", extent=extent, interpolation="nearest")
    bar = figure.colorbar(image, ax=axis, label="samples")
    _percent(bar.ax.yaxis)
    axis.set(xlabel="epoch", ylabel="kappa", title="How many PGD steps samples withstand")
    for side in (axis.xaxis, axis.yaxis):
        side.get_major_locator().set_params(integer=True)
    return figure


def _require_epochs(history: Any) -> None:
    if not history:
        raise ValueError("history is empty; expected the records of at least one epoch.")


# ---- a weighting


def weight_functions(weightings: Mapping[str, Any], max_iter: int = 10) -> Any:
    """Draw weights against kappa, in kind the paper's figure of weight functions; each value of kappa once in a batch.

    :param weightings: weightings of kappa alone, by name.
    :raises ValueError: if there is none.
    :raises TypeError: if one of them cannot do without logits.
    """
    if not weightings:
        raise ValueError("weightings is empty; expected at least one, by name.")
    kappa = torch.arange(max_iter + 1)
    figure, axis = _figure()
    for i, (name, weighting) in enumerate(weightings.items()):
        try:
            weights = weighting(kappa=kappa, max_iter=max_iter, logits=None, labels=None, epoch=0)
        except (AttributeError, TypeError, ValueError) as error:
            raise TypeError(f"weightings' {name!r}, {weighting!r}, needs more than kappa: {error}") from error
        axis.plot(kappa.numpy(), weights.numpy(), marker=".", color=COLOURS[i % len(COLOURS)], label=name)
    axis.axhline(1.0, color="#999999", linewidth=0.8, zorder=0)
    axis.set(xlabel="kappa", ylabel="weight (mean 1)", title="Weight of a sample by its kappa")
    axis.legend(frameon=False)
    return figure


# ---- a classifier


def decision_boundary(classifier: Any, x: Any, y: Any, kappa: Any = None, resolution: int = 200) -> Any:
    """Draw the classes of a classifier of two features, and samples on it, coloured by kappa or by class.

    :param classifier: an ART PyTorchClassifier of inputs (2,).
    :param x: samples (n, 2).
    :param y: classes (n,).
    :param kappa: int (n,), or None.
    :param resolution: points of the grid in each direction.
    :raises ValueError: if x has another shape.
    """
    x, y = np.asarray(x, dtype=np.float32), np.asarray(y)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x has shape {x.shape}; expected (n, 2).")
    low, high = x.min(axis=0), x.max(axis=0)
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    grid = np.meshgrid(*(np.linspace(a, b, resolution, dtype=np.float32) for a, b in zip(low, high, strict=True)))
    points = np.stack([g.ravel() for g in grid], axis=1)
    classes = _logits(classifier, points).argmax(axis=1).reshape(resolution, resolution)
    figure, axis = _figure(size=(6.4, 5.2))
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
    """
    points = PCA(n_components=2).fit_transform(_logits(classifier, np.asarray(x, dtype=np.float32)))
    figure, axis = _figure(size=(6.4, 5.2))
    _scatter(figure, axis, points, np.asarray(y), kappa)
    axis.set(xlabel="first component", ylabel="second component", title="Logits, by principal components")
    return figure


def _logits(classifier: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    tensor_classifier = TensorClassifier(classifier)
    with tensor_classifier.evaluating(), torch.no_grad():
        parts = [
            tensor_classifier.logits(part.to(tensor_classifier.device)).cpu()
            for part in torch.from_numpy(x).split(4096)
        ]
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def _scatter(figure: Any, axis: Any, points: NDArray[Any], y: NDArray[Any], kappa: Any) -> None:
    if len(y) != len(points):
        raise ValueError(f"y has {len(y)} labels for {len(points)} samples; expected one each.")
    if kappa is None:
        for label in np.unique(y):
            chosen = y == label
            colour = COLOURS[int(label) % len(COLOURS)]
            axis.scatter(*points[chosen].T, s=14, color=colour, edgecolor="white", linewidth=0.3, label=str(label))
        axis.legend(title="class", frameon=False, fontsize=8, ncols=2)
        return
    if len(kappa) != len(points):
        raise ValueError(f"kappa has {len(kappa)} values for {len(points)} samples; expected one each.")
    drawn = axis.scatter(*points.T, s=16, c=np.asarray(kappa), cmap="viridis", edgecolor="white", linewidth=0.3)
    figure.colorbar(drawn, ax=axis, label="kappa")


# ---- a report


def attack_bars(report: RobustnessReport) -> Any:
    """Draw accuracy clean, under each attack and in the worst case, with 95 % intervals."""
    counts = {"clean": int(report.clean.correct.sum())}
    for attack in report.attacks:
        alone = report.accuracy(attack.name)
        share = report.standing_after(attack.name) if alone is None else alone
        counts[attack.title if alone is not None else f"{attack.title}\n(after those above)"] = round(report.n * share)
    counts["worst case"] = int(report.robust.sum())
    shares = np.array(list(counts.values())) / report.n
    bounds = np.array([interval(count, report.n) for count in counts.values()])
    figure, axis = _figure(size=(6.4, 1.2 + 0.45 * len(counts)))
    colours = [CLEAN, *[BROKEN] * len(report.attacks), DARK]
    axis.barh(list(counts), shares, color=colours, xerr=np.abs(bounds.T - shares), ecolor="#444444", capsize=3)
    for i, share in enumerate(shares):
        axis.text(
            0.01,
            i,
            f"{100 * share:.1f}",
            va="center",
            fontsize=9,
            color="black",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
        )
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.02), xlabel="accuracy (95 % interval)")
    _percent(axis.xaxis)
    return figure


def accuracy_against_eps(report: RobustnessReport) -> Any:
    """Draw accuracy under PGD-20 as eps grows, with 95 % intervals; eps of the report and guessing are marked."""
    eps, right, n = (np.array(column) for column in zip(*report.curve, strict=True))
    share = right / n
    bounds = np.array([interval(int(k), int(m)) for k, m in zip(right, n, strict=True)])
    figure, axis = _figure()
    error = np.abs(bounds.T - share)
    axis.errorbar(eps, share, yerr=error, marker="o", color=DARK, ecolor="#999999", capsize=3)
    axis.axhline(1 / report.nb_classes, color=BROKEN, linestyle="--", label="guessing")
    axis.axvline(report.settings["eps"], color=ROBUST, linestyle=":", label=f"eps = {report.settings['eps']:.3g}")
    axis.set_xscale("symlog", linthresh=report.settings["eps"])
    axis.set(ylim=(-0.02, 1.02), xlabel=f"eps, norm {report.settings['norm']}", ylabel="accuracy under PGD-20")
    axis.set_xticks([0.0, report.settings["eps"], eps[-1]], ["0", f"{report.settings['eps']:.3g}", f"{eps[-1]:.3g}"])
    axis.minorticks_off()
    _percent(axis.yaxis)
    axis.legend(frameon=False)
    return figure


def kappa_histogram(report: RobustnessReport) -> Any:
    """Draw how many samples withstand so many steps of PGD-20, and how many of them withstand all attacks."""
    shares = report.by_kappa()
    figure, axis = _figure()
    values, robust = [s.value for s in shares], np.array([s.robust for s in shares])
    broken = np.array([s.n for s in shares]) - robust
    axis.bar(values, robust, color=ROBUST, label="withstand every attack")
    axis.bar(values, broken, bottom=robust, color=BROKEN, label="fall to one")
    axis.set(xlabel="kappa of PGD-20", ylabel="samples", xlim=(-0.6, 20.6), xticks=range(0, 21, 4))
    axis.legend(frameon=False)
    return figure


def margins(report: RobustnessReport) -> Any:
    """Draw the margins p_y - max p_j of the samples, and the least ones under all attacks."""
    figure, axis = _figure()
    edges = np.linspace(-1.0, 1.0, 41)
    axis.hist(report.clean.margins, edges, color=CLEAN, label="clean")
    axis.hist(report.adversarial_margins, edges, histtype="step", linewidth=1.8, color=DARK, label="under all attacks")
    axis.axvline(0.0, color="#999999", linewidth=0.8)
    axis.set(xlabel="margin: p of the class less the largest other (right of 0: classified right)", ylabel="samples")
    axis.legend(frameon=False)
    return figure


def robustness_by_class(report: RobustnessReport) -> Any:
    """Draw clean and robust accuracy of each class."""
    shares = report.by_class()
    figure, axis = _figure()
    places = np.arange(len(shares))
    axis.bar(places - 0.2, [s.clean / s.n for s in shares], 0.4, color=CLEAN, label="clean")
    axis.bar(places + 0.2, [s.robust / s.n for s in shares], 0.4, color=DARK, label="worst case")
    axis.set_xticks(places, [str(s.value) for s in shares])
    axis.set(xlabel="class", ylabel="accuracy", ylim=(0, 1.15))
    _percent(axis.yaxis)
    axis.legend(frameon=False, ncols=2, loc="upper right")
    return figure


def confusion(report: RobustnessReport) -> Any:
    """Draw what the worst attack makes of each class, as shares of the class."""
    counts = report.confusion()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axis = _figure(size=(6.0, 5.0))
    image = axis.imshow(shares, cmap="viridis", vmin=0.0, vmax=1.0)
    _percent(figure.colorbar(image, ax=axis, label="samples of the class").ax.yaxis)
    axis.set(xlabel="predicted under the worst attack", ylabel="class")
    for side in (axis.xaxis, axis.yaxis):
        side.get_major_locator().set_params(integer=True)
    return figure


def adversarial_examples(report: RobustnessReport) -> Any:
    """Draw images before and after PGD-20 and what it added: fallen deepest on the left, steadiest on the right.

    :return: None for samples that are no images of 1 or 3 channels.
    """
    examples = report.examples
    if examples is None or examples.clean.shape[1] not in (1, 3):
        return None
    clean, adversarial = (np.moveaxis(z, 1, 3) / 255.0 for z in (examples.clean, examples.adversarial))
    change = adversarial - clean
    size = max(float(np.abs(change).max()), 1e-6)
    count = len(clean)
    figure = require_matplotlib()(figsize=(1.3 * count + 0.5, 4.4), layout="constrained")
    axes = figure.subplots(3, count, squeeze=False)
    for row, images in enumerate((clean, adversarial, MAGNIFIED + change / (2 * size))):
        for column, image in enumerate(images):
            axis = axes[row][column]
            axis.imshow(image.squeeze(), cmap="gray", vmin=0.0, vmax=1.0)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[row][0].set_ylabel(("clean", "under PGD-20", "added, magnified")[row], fontsize=9)
    for column in range(count):
        label, prediction = examples.labels[column], examples.predictions[column]
        colour = ROBUST if label == prediction else BROKEN
        axes[0][column].set_title(f"{label} → {prediction}", fontsize=10, color=colour)
    return figure
