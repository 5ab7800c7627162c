"""What the processes exchange: one gradient a step, some numbers, and nothing during the attack."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from art_gair import AdversarialTrainerGAIRAT
from tests.distributed.cases import CASES, classifier_for
from tests.distributed.launch import Failed, launch
from tests.models import digits

pytestmark = pytest.mark.xdist_group(__name__)

SMALL = 64
"""Numbers that an exchange of some numbers has at most: a vector of sums."""


class Watched:
    """An attack whose time is marked."""

    def __init__(self, attack: Any) -> None:
        self.attack, self.max_iter, self.batch_size = attack, attack.max_iter, attack.batch_size

    def on_batches(self, classifier: Any, epoch: int) -> Any:
        perturb = self.attack.on_batches(classifier, epoch)

        def marked(x: Any, labels: Any) -> Any:
            with record_function("the attack"):
                return perturb(x, labels)

        return marked


def exchanges(case: str, steps: int) -> tuple[Counter[tuple[str, int]], int]:
    """Return the collective operations of a training by name and number of values, and those during an attack."""
    classifier = classifier_for(case, in_double=False)
    parts = CASES[case](classifier)
    parts["attack"] = Watched(parts["attack"])
    trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0, **parts)
    x, y = digits(16 * steps)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        trainer.fit(x, y, batch_size=16, nb_epochs=1, seed=3, verbose=False)
    found: Counter[tuple[str, int]] = Counter()
    events = [e for e in profiler.events() if e.name.startswith("gloo:")]
    attacks = [e.time_range for e in profiler.events() if e.name == "the attack"]
    for event in events:
        shapes = [shape for shape in event.input_shapes if shape]
        found[event.name, sum(int(torch.Size(shape).numel()) for shape in shapes)] += 1
    within = sum(any(a.start < e.time_range.end and e.time_range.start < a.end for a in attacks) for e in events)
    assert len(attacks) == steps
    return found, within


def of_a_step(case: str) -> tuple[Counter[tuple[str, int]], int, int]:
    """Return what a step exchanges, how often anything was exchanged during an attack, and the model's size."""
    few, within = exchanges(case, 2)
    more, also_within = exchanges(case, 5)
    each = Counter({kind: (more[kind] - few[kind]) // 3 for kind in more if more[kind] != few[kind]})
    return each, within + also_within, sum(p.numel() for p in classifier_for(case).model.parameters())


@pytest.mark.parametrize(
    ("case", "gradients"),
    [pytest.param("AT", 1, marks=pytest.mark.slow), ("GAIRAT", 1), ("TRADES, AWP, EMA", 2)],
)
def test_a_step_exchanges_its_gradient_and_some_numbers(case: str, gradients: int) -> None:
    """AWP takes a gradient of its own, of the weights without the biases."""
    for found in launch(2, of_a_step, case):
        assert not isinstance(found, Failed), found
        each, within, size = found
        large = {kind: times for kind, times in each.items() if kind[1] > SMALL}
        assert within == 0
        assert sum(large.values()) == gradients, each
        assert size <= sum(n * times for (_, n), times in large.items()) <= gradients * size, each
        assert 0 < sum(times for kind, times in each.items() if kind[1] <= SMALL) <= 10, each
