"""A training's epochs as TensorBoard shows them."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_gair.checks import require_path
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.inputs import Box
from art_gair.plugins.base import Plugin
from art_gair.plugins.image_grid import can_be_shown, image_grid

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

TAGS = {
    "loss": "loss/weighted",
    "unweighted_loss": "loss/unweighted",
    "train_robust_accuracy": "accuracy/train_robust",
    "clean_accuracy": "accuracy/clean",
    "robust_accuracy": "accuracy/robust",
    "effective_sample_size": "weights/effective_sample_size",
    "lam": "weights/lam",
    "burn_in": "weights/burn_in",
}
"""Where numbers of the record are shown; others under training/."""

WEIGHT_LIMITS = range(-5, 6)
"""Bounds of the bins of `weight_histogram`, log2 of the weight: on this axis all bins are equally wide.

Those inside are the logarithms of training's WEIGHT_EDGES. The first bin begins at weight 0 and the last one has no
end; both are drawn as wide as the others."""

ROOM = 4 * 2**20
"""Bytes that an epoch's events need at most."""


class TensorBoard(Plugin):
    """Writes each epoch's record, and pictures of adversarial examples, as events for `tensorboard --logdir FOLDER`.

    Shown are all numbers of the record; histograms of kappa and of log2 of the weights, from the record's counts; and,
    if the inputs are grey or RGB images, some of the epoch's first batch: a row of clean images, a row of their
    adversarial examples, and the differences, magnified.

    A training that is resumed goes on in the same folder, and no epoch is shown twice: what the folder holds of the
    first epoch that is written, and of later ones, is hidden. A new training thus hides an earlier one entirely. When
    the events cannot be written, a warning is logged and the training goes on; that epoch may be missing, and the next
    one begins a new file.

    :param folder: where the files of events are written; made if missing.
    :param images: whether to write the pictures.
    :raises ImportError: if the package tensorboard is not installed.
    :raises TypeError: if folder is no str or PathLike, or images no bool.
    :raises ValueError: if folder is a file, or lies below one.
    """

    affects_training = False

    def __init__(self, folder: str | os.PathLike[str], images: bool = True) -> None:
        self.folder = require_path(folder, "folder", folder=True)
        if not isinstance(images, bool):
            raise TypeError(f"images is {images!r}; expected True or False.")
        self.images = images
        _summary_writer()
        self._begin(None)

    def _begin(self, box: Box | None) -> None:
        self.box = box
        self.writer: SummaryWriter | None = None
        self.failing = False

    def start(self, classifier: TensorClassifier, optimizer: torch.optim.Optimizer) -> None:
        """Note the range of the inputs."""
        self._begin(classifier.box)

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """Write the epoch's events, and wait until they are in the file."""
        scalars, histograms, picture = _scalars(record), _histograms(record), self._picture(record)
        try:
            writer = self._ready_writer(record["epoch"])
            for tag, value in scalars.items():
                writer.add_scalar(tag, value, record["epoch"])
            for tag, histogram in histograms.items():
                writer.add_histogram_raw(tag, **histogram, global_step=record["epoch"])
            if picture is not None:
                writer.add_image("examples/clean_adversarial_difference", picture, record["epoch"])
            writer.flush()
        except Exception as error:  # where TensorFlow is installed, it does the writing, and has errors of its own
            self._fail(error)
        else:
            self.failing = False

    def _picture(self, record: Mapping[str, Any]) -> Tensor | None:
        """Return the picture of the epoch's examples, if there are any and they are images."""
        examples = getattr(record, "examples", None)
        if not self.images or examples is None or not can_be_shown(examples.x):
            return None
        return image_grid(examples.x, examples.x_adv, self.box)

    def _ready_writer(self, epoch: int) -> SummaryWriter:
        """Return the writer, a new one if there is none; what was written of this epoch and later ones is hidden.

        :raises OSError: if nothing can be written. It is tried out here, since the writer writes in a thread of its
            own, and Python prints the traceback of an error there.
        """
        if self.writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.write(bytes(ROOM))
        if self.writer is None:
            self.writer = _summary_writer()(str(self.folder), purge_step=epoch)
        return self.writer

    def _fail(self, error: Exception) -> None:
        """Give the writer up, and log that, once until an epoch can be written again."""
        with suppress(Exception):
            self._close()
        if not self.failing:
            logger.warning("TensorBoard events could not be written to %s: %s. Training goes on.", self.folder, error)
        self.failing = True

    def _close(self) -> None:
        """Close the file; the next epoch begins a new one."""
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.close()

    def finish(self) -> None:
        """Close the file of events; each epoch's are in it already, so nothing is lost if that fails."""
        with suppress(Exception):
            self._close()

    def on_error(self, error: BaseException) -> None:
        """Close the file of events."""
        self.finish()

    def __repr__(self) -> str:
        return f"TensorBoard({str(self.folder)!r}, images={self.images})"


def _summary_writer() -> type[SummaryWriter]:
    """Return PyTorch's writer of events.

    :raises ImportError: with the command that installs what it needs.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("TensorBoard needs tensorboard; run `pip install tensorboard`.") from error
    return SummaryWriter


def _scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the record's numbers by their tags."""
    numbers = {key: value for key, value in record.items() if isinstance(value, (int, float)) and key != "epoch"}
    return {TAGS.get(key, f"training/{key}"): float(value) for key, value in numbers.items()}


def _histograms(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the record's histograms by their tags, without empty ones; kappa's bin k is from k - 0.5 to k + 0.5."""
    kappa, weights = record["kappa_histogram"], record["weight_histogram"]
    kappa_limits = [k - 0.5 for k in range(len(kappa) + 1)]
    bins = {"kappa/histogram": (kappa, kappa_limits), "weights/log2_histogram": (weights, WEIGHT_LIMITS)}
    return {tag: _histogram(counts, limits) for tag, (counts, limits) in bins.items() if any(counts)}


def _histogram(counts: Sequence[int], limits: Sequence[float]) -> dict[str, Any]:
    """Return what `add_histogram_raw` takes; moments as if each value lay in the middle of its bin.

    :param counts: not all 0.
    :param limits: one more than counts, ascending.
    """
    filled = [i for i, count in enumerate(counts) if count]
    middles = [(low + high) / 2 for low, high in pairwise(limits)]
    return {
        "min": limits[filled[0]],
        "max": limits[filled[-1] + 1],
        "num": sum(counts),
        "sum": sum(n * middle for n, middle in zip(counts, middles, strict=True)),
        "sum_squares": sum(n * middle**2 for n, middle in zip(counts, middles, strict=True)),
        "bucket_limits": list(limits[1:]),
        "bucket_counts": list(counts),
    }
