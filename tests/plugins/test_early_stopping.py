"""EarlyStopping: when it stops, what it counts, and going on after a kill."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest

from art_gair import EarlyStopping
from art_gair.plugins import StopTraining
from tests.plugins.records import begin, record


def stops_at(plugin: EarlyStopping, values: Sequence[float | None], first: int = 0) -> int | None:
    """Return the epoch after which the plugin ends the training, None if it never does."""
    for epoch, value in enumerate(values, start=first):
        try:
            plugin.end_epoch(record(epoch, **{plugin.monitor: value}))
        except StopTraining:
            return epoch
    return None


@pytest.mark.parametrize(
    ("plugin", "values", "expected"),
    [
        (EarlyStopping(2), [0.1, 0.2, 0.2, 0.1], 3),
        (EarlyStopping(2), [0.1, 0.2, 0.1, 0.3, 0.1], None),
        (EarlyStopping(1), [0.3, 0.3], 1),
        (EarlyStopping(1, "clean_accuracy"), [0.3, 0.4, 0.2], 2),
        (EarlyStopping(2, "loss"), [2.0, 1.0, 1.5, 1.0], 3),
        (EarlyStopping(2, min_delta=0.05), [0.10, 0.14, 0.16, 0.20, 0.21], 4),
        (EarlyStopping(1, "loss", min_delta=0.5), [2.0, 1.5], 1),
        (EarlyStopping(2), [None, 0.2, None, 0.1, None, None, 0.1], 6),
        (EarlyStopping(2, "loss"), [math.nan, math.nan], 1),
        (EarlyStopping(2, "loss"), [math.nan, 1.0, math.nan, 0.5], None),
    ],
    ids=lambda value: str(value),
)
def test_it_stops_after_patience_validated_epochs_without_an_improvement(
    plugin: EarlyStopping, values: list[float | None], expected: int | None
) -> None:
    begin(plugin)
    assert stops_at(plugin, values) == expected


@pytest.mark.parametrize(
    ("plugin", "values", "message"),
    [
        (
            EarlyStopping(2, min_delta=0.01),
            [0.1, 0.52345, 0.53, 0.5],
            "robust_accuracy has not improved by more than 0.01 for 2 validated epochs; best: 0.5234, epoch 1.",
        ),
        (EarlyStopping(1, "loss"), [1.0, 2.0], "loss has not improved for 1 epochs; best: 1.0000, epoch 0."),
        (EarlyStopping(1, "loss"), [math.nan], "loss has not improved for 1 epochs; no epoch had a finite value."),
    ],
)
def test_the_message_names_the_best_epoch(plugin: EarlyStopping, values: list[float], message: str) -> None:
    begin(plugin)
    *earlier, last = values
    assert stops_at(plugin, earlier) is None
    with pytest.raises(StopTraining, match=f"^{re.escape(message)}$"):
        plugin.end_epoch(record(len(earlier), **{plugin.monitor: last}))


def test_a_resumed_training_stops_where_an_uninterrupted_one_does() -> None:
    values: list[float | None] = [0.1, 0.5, 0.4, None, 0.45, 0.3, 0.2]
    plugin = EarlyStopping(3)
    begin(plugin)
    assert stops_at(plugin, values) == 5
    for cut in range(1, 5):
        plugin, resumed = EarlyStopping(3), EarlyStopping(3)
        begin(plugin)
        assert stops_at(plugin, values[:cut]) is None
        begin(resumed, json.loads(json.dumps(plugin.state_dict())))
        assert stops_at(resumed, values[cut:], first=cut) == 5
        assert (resumed.best, resumed.best_epoch) == (0.5, 1)


def test_another_monitor_begins_anew() -> None:
    plugin, resumed = EarlyStopping(1), EarlyStopping(1, "loss")
    begin(plugin)
    stops_at(plugin, [0.5])
    begin(resumed, plugin.state_dict())
    assert stops_at(resumed, [1.0, 1.0], first=1) == 2


def test_each_training_begins_anew() -> None:
    plugin = EarlyStopping(2)
    for _ in range(2):
        begin(plugin)
        assert stops_at(plugin, [0.5, 0.4, 0.3]) == 2


def test_only_accuracies_need_validation() -> None:
    assert EarlyStopping(1).needs_validation
    assert EarlyStopping(1, "clean_accuracy").needs_validation
    assert not EarlyStopping(1, "loss").needs_validation


def test_it_only_watches_and_says_what_it_is() -> None:
    assert not EarlyStopping(1).affects_training
    assert repr(EarlyStopping(3, "loss", 0.5)) == "EarlyStopping(patience=3, monitor='loss', min_delta=0.5)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience is 0; expected an int of at least 1"),
        ({"patience": 1.0}, TypeError, "patience is 1.0; expected an int"),
        (
            {"patience": 1, "monitor": "lr"},
            ValueError,
            "monitor is 'lr'; expected 'robust_accuracy', 'clean_acc.*'loss'",
        ),
        ({"patience": 1, "monitor": None}, ValueError, "monitor is None; expected 'robust_accuracy'"),
        ({"patience": 1, "monitor": ["loss"]}, ValueError, r"monitor is \['loss'\]; expected 'robust_accuracy'"),
        ({"patience": 1, "min_delta": -0.1}, ValueError, "min_delta is -0.1; expected a finite number, >= 0"),
        ({"patience": 1, "min_delta": math.inf}, ValueError, "min_delta is inf; expected a finite number"),
        ({"patience": 1, "min_delta": "0"}, TypeError, "min_delta is '0'; expected a number"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EarlyStopping(**arguments)
