"""The epoch that did best on held-out data, kept and given back at the end of a training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.model_state import State, copied, live_state, moved_to, put_back
from art_gair.training.history import Accuracies

logger = logging.getLogger(__name__)


class BestEpoch:
    """Keeps a copy of the model's weights and buffers, of the epoch with the highest robust accuracy.

    Ties: higher clean accuracy, then the earlier epoch.

    :param classifier: whose model to keep.
    """

    def __init__(self, classifier: TensorClassifier) -> None:
        self.module = classifier.module
        self.kept: State = {}
        self.rank = (-1.0, -1.0)
        self.epoch: int | None = None
        self.model = "raw"
        self.only_class: int | None = None

    def look(self, epoch: int, accuracies: Accuracies, only_class: int | None = None) -> None:
        """Copy the model as it stands now, if it is the best so far.

        :param only_class: the class in which the model puts all samples, if it does.
        """
        if (accuracies.robust, accuracies.clean) > self.rank:
            kept = copied(live_state(self.module))  # the earlier copy stays whole if an interrupt comes now
            self.kept, self.rank = kept, (accuracies.robust, accuracies.clean)
            self.epoch, self.model, self.only_class = epoch, accuracies.model, only_class

    def restore(self) -> None:
        """Give the model the best epoch's weights and buffers, bit for bit."""
        put_back(self.module, self.kept)

    def state(self) -> dict[str, Any]:
        """Return what has been kept."""
        return {name: getattr(self, name) for name in ("kept", "rank", "epoch", "model", "only_class")}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what an earlier `state` returned."""
        for name, value in state.items():
            setattr(self, name, value)
        self.kept = moved_to(self.module, self.kept)


@contextmanager
def ending_with(best: BestEpoch | None, burn_in: Sequence[bool] = ()) -> Iterator[None]:
    """End a training, also one that an exception stops, with the best epoch's model; log and exception say so.

    :param burn_in: for each epoch whether its weights are 1 although a weighting was asked for.
    """
    try:
        yield
    except BaseException as error:
        error.__notes__ = [*getattr(error, "__notes__", []), *_restore(best, burn_in)]  # type: ignore[attr-defined]
        raise
    _restore(best, burn_in)
    if best is not None and best.epoch is None:
        logger.warning(
            "keep_best has kept no epoch: the training ended before one was validated, and the classifier holds the "
            "weights of the last. validate_every and validate_from say which epochs are."
        )


def _restore(best: BestEpoch | None, burn_in: Sequence[bool]) -> list[str]:
    """Return what there is to say: nothing if no epoch was kept."""
    if best is None or best.epoch is None:
        return []
    best.restore()
    whose = "" if best.model == "raw" else f" They are those of {best.model!r}."
    note = (
        f"The classifier holds the weights of epoch {best.epoch}, counted from 0, the best on validation_data "
        f"(keep_best).{whose}"
    )
    logger.info(note)
    notes = [note]
    if best.rank[0] == 0.0:
        notes.append("No validated model withstood on any sample of validation_data: keep_best has not chosen by that.")
        logger.warning(notes[-1])
    if best.only_class is not None:
        notes.append(
            f"The model that is kept finds class {best.only_class} alone: of validation_data all its samples are right "
            "and all others wrong. Where classes are uneven such a model may withstand most and tell nothing apart."
        )
        logger.warning(notes[-1])
    if not all(burn_in[: best.epoch + 1]) or all(burn_in):
        return notes
    warning = (
        f"Epoch {best.epoch}, counted from 0, lies in the burn-in, in which all weights are 1: this training never "
        f"used weights on the model that is kept. In a new one, validate_from={burn_in.index(False)} keeps the best "
        "epoch after it."
    )
    logger.warning(warning)
    return [*notes, warning]
