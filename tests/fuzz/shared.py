"""What many functions take: samples, labels, a classifier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier

from tests.fuzz.kinds import Kind, labels, made, samples
from tests.fuzz.world import NB_CLASSES, SHAPE

X_NEAR = made(
    x=lambda w: w.x.copy(),
    x_as_list=lambda w: w.x.tolist(),
    x_as_tensor=lambda w: torch.from_numpy(w.x.copy()),
    x_float64=lambda w: w.x.astype(np.float64),
    three_of_x=lambda w: w.x[:3].copy(),
    one_of_x=lambda w: w.x[:1].copy(),
    x_times_2=lambda w: 2 * w.x,
    x_with_nan=lambda w: np.where(np.eye(4) > 0, np.nan, w.x),
    x_of_objects=lambda w: w.x.astype(object),
    x_of_texts=lambda w: w.x.astype(str),
    x_class=lambda w: type(w.x),
)
Y_NEAR = made(
    y=lambda w: w.y.copy(),
    y_one_hot=lambda w: np.eye(NB_CLASSES)[w.y],
    y_float=lambda w: w.y.astype(np.float64),
    y_uint8=lambda w: w.y.astype(np.uint8),
    y_column=lambda w: w.y[:, None].copy(),
    y_tensor=lambda w: torch.from_numpy(w.y.copy()),
    y_too_large=lambda w: w.y + 1,
    y_negative=lambda w: w.y - 1,
    y_half=lambda w: w.y / 2,
    y_scores=lambda w: np.full((4, NB_CLASSES), 1 / NB_CLASSES),
    three_of_y=lambda w: w.y[:3].copy(),
    y_of_objects=lambda w: w.y.astype(object),
    y_of_bools=lambda w: w.y > 0,
)
X, Y = samples(*SHAPE, near=X_NEAR), labels(NB_CLASSES, near=Y_NEAR)

CLIPPED = Kind(
    lambda value: isinstance(value, PyTorchClassifier),
    made(
        classifier_class=lambda w: PyTorchClassifier,
        model=lambda w: w.classifier.model,
        without_optimizer=lambda w: w.other_classifier(optimizer=None),
        another_loss=lambda w: w.other_classifier(loss=torch.nn.MSELoss()),
        preprocessing=lambda w: w.other_classifier(preprocessing=(0.5, 0.5)),
    ),
)
CLASSIFIER = replace(
    CLIPPED,
    near=(
        *CLIPPED.near,
        *made(
            without_clip_values=lambda w: w.other_classifier(clip_values=None),
            infinite_clip_values=lambda w: w.other_classifier(clip_values=(-np.inf, np.inf)),
        ),
    ),
)
