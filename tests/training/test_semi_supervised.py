"""Pseudo-labels, and batches of two sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from art_gair import AdversarialTrainerGAIRAT, TanhWeighting
from art_gair.objectives import CompositeKL
from art_gair.training.semi_supervised import SemiSupervisedBatches, pseudo_label
from tests.models import digits, digits_classifier


def test_pseudo_labels_are_the_confident_predictions() -> None:
    x, _ = digits(300)
    classifier = digits_classifier()
    logits = torch.from_numpy(classifier.predict(x))
    confidence, label = (t.numpy() for t in logits.softmax(dim=1).max(dim=1))
    threshold = float(np.median(confidence))
    labels = pseudo_label(classifier, x, threshold, batch_size=64)
    assert labels.dtype == np.int64
    sure = np.abs(confidence - threshold) > 1e-5
    assert (labels[sure] == np.where(confidence >= threshold, label, -1)[sure]).all()
    assert (pseudo_label(classifier, x) == label).all()


def test_each_batch_has_its_share_of_either_set() -> None:
    x, x_more = np.zeros((10, 2), np.float32), np.ones((7, 2), np.float32)
    batches = SemiSupervisedBatches(x, np.arange(10), x_more, np.full(7, -1), batch_size=6, share=1 / 3)
    for _ in range(2):
        epoch = list(batches)
        assert [len(b[0]) for b in epoch] == [6, 6, 3]
        assert [(b[1] == -1).sum() for b in epoch] == [2, 2, 1]
        assert sorted(torch.cat([b[1] for b in epoch]).tolist()) == [-1] * 5 + list(range(10))
        for inputs, labels in epoch:
            assert torch.equal(inputs[:, 0] == 1, labels == -1)


def test_each_label_stays_with_its_own_sample() -> None:
    x, x_more = np.arange(10.0)[:, None], np.arange(100.0, 107.0)[:, None]
    x_more.setflags(write=False)
    batches = SemiSupervisedBatches(x, np.arange(10), x_more, np.arange(100, 107), batch_size=6)
    for inputs, labels in batches:
        assert torch.equal(inputs[:, 0].long(), labels)


def test_unlabelled_samples_are_gone_through_in_passes() -> None:
    x_more = np.arange(5, dtype=np.float32)[:, None]
    batches = SemiSupervisedBatches(np.zeros((10, 1)), np.zeros(10), x_more, np.full(5, -1), batch_size=4)
    seen = torch.cat([x[y == -1] for x, y in batches]).flatten().tolist()
    assert sorted(seen) == sorted([0.0, 1.0, 2.0, 3.0, 4.0] * 2)


def test_gair_rst_trains_on_both() -> None:
    x, y = digits(90)
    classifier = digits_classifier()
    confidence = torch.from_numpy(classifier.predict(x[30:])).softmax(dim=1).amax(dim=1)
    labels = pseudo_label(classifier, x[30:], threshold=confidence.median().item())
    assert -1 in labels
    batches = SemiSupervisedBatches(x[:30], y[:30], x[30:], labels, batch_size=20)
    trainer = AdversarialTrainerGAIRAT(classifier, weighting=TanhWeighting(), objective=CompositeKL(), burn_in=1)
    trainer.fit_generator(batches, nb_epochs=2)
    assert sum(trainer.history[1]["kappa_histogram"]) == 60


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda x, y: SemiSupervisedBatches(x, y[:3], x, y),
            ValueError,
            r"y has shape \(3,\); expected indices, \(8,\)",
        ),
        (lambda x, y: SemiSupervisedBatches(x, y, x, y[:3]), ValueError, r"y_unlabelled has shape \(3,\)"),
        (lambda x, y: SemiSupervisedBatches(x, y, x[:0], y[:0]), ValueError, "x_unlabelled has shape .* at least one"),
        (
            lambda x, y: SemiSupervisedBatches(x, y, x[:, 0], y),
            ValueError,
            r"x_unlabelled has samples of shape \(8, 8\)",
        ),
        (lambda x, y: SemiSupervisedBatches(x, y, x, y, share=1.0), ValueError, "share is 1.0; expected .* < 1"),
        (lambda x, y: SemiSupervisedBatches(x, y, x, y, 2, 0.1), ValueError, "share is 0.1; of a batch of 2"),
        (
            lambda x, y: SemiSupervisedBatches(x, y, x, y, 1),
            ValueError,
            "batch_size is 1; expected an int of at least 2",
        ),
        (lambda x, y: pseudo_label(digits_classifier(), x, 1.5), ValueError, "threshold is 1.5; expected"),
        (lambda x, y: pseudo_label(digits_classifier(), x * 2), ValueError, "x has the value 2.0, outside"),
    ],
)
def test_bad_arguments_are_named(make: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(*digits(8))
