"""Where batches come from: the order of a seed, and the memory that data take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_gair import UniformWeighting
from art_gair.engine.classifier import TensorClassifier
from art_gair.training import data
from art_gair.training.data import epochs_from_arrays
from tests.models import classifier_of, digits, digits_classifier, trainer_of


def order(classifier: TensorClassifier, n: int = 50) -> tuple[list[int], Tensor]:
    """Return the labels of two epochs in their order, and where torch's generator stands after them."""
    torch.manual_seed(7)
    x = np.zeros((n, 1, 8, 8), np.float32)
    epoch = epochs_from_arrays(classifier, x, np.arange(n), 16, unlabelled=False)
    labels = [int(y) for _ in range(2) for _, part, *_ in epoch() for y in part.tolist()]
    return labels, torch.get_rng_state()


def wide_classifier(n: int = 50) -> TensorClassifier:
    return TensorClassifier(classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(64, n)), (1, 8, 8), n))


def test_the_order_does_not_depend_on_where_the_data_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that fit and data that do not; the generator is drawn from in the same way."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *a: pytest.fail("asks for the free memory"))
    resident, state = order(wide_classifier())
    assert sorted(resident[:50]) == list(range(50))
    assert resident[:50] != resident[50:]
    monkeypatch.setattr(data, "RESIDENT_BYTES", 0)
    crossing, other_state = order(wide_classifier())
    assert crossing == resident
    assert torch.equal(state, other_state)


@pytest.mark.parametrize("bound", [0, 2**30], ids=["on the host", "on the device"])
def test_the_order_is_drawn_on_the_host_for_another_device_too(bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device holds no values here, but what is drawn can be told by where the generator stands."""
    _, expected = order(wide_classifier())
    monkeypatch.setattr(data, "RESIDENT_BYTES", bound)
    classifier = wide_classifier()
    classifier.device = torch.device("meta")
    torch.manual_seed(7)
    epoch = epochs_from_arrays(classifier, np.zeros((50, 1, 8, 8), np.float32), np.arange(50), 16, unlabelled=False)
    batches = [batch for _ in range(2) for batch in epoch()]
    assert {x.device.type for x, *_ in batches} == {"meta" if bound else "cpu"}
    assert [len(x) for x, *_ in batches] == [16, 16, 16, 2] * 2
    assert torch.equal(torch.get_rng_state(), expected)


def test_batches_say_whether_labels_are_missing() -> None:
    x, y = digits(32)
    y[3] = -1
    epoch = epochs_from_arrays(TensorClassifier(digits_classifier()), x, y, 8, unlabelled=True)
    for _, labels, some_missing, _ in epoch():
        assert some_missing == bool((labels < 0).any())


# Memory

STATUS = Path("/proc/self/status")
MIB = 2**20


def anonymous() -> int:
    """Return this process's memory that is no file's, bytes."""
    line = re.search(r"RssAnon:\s*(\d+) kB", STATUS.read_text())
    assert line is not None
    return int(line[1]) * 1024


class Peak(nn.Module):
    """Classifies by a few pixels, and notes the memory in use whenever it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.peak = 0

    def forward(self, x: Tensor) -> Tensor:
        self.peak = max(self.peak, anonymous())
        out: Tensor = self.linear(x[:, 0, 0, :4])
        return out


@pytest.fixture
def memory_map(tmp_path: Path) -> Any:
    """A read-only map of 256 MiB of images, 512 of them, as a data set of large images is."""
    shape = (512, 1, 256, 512)
    path = tmp_path / "x.npy"
    values = np.lib.format.open_memmap(path, "w+", np.float32, shape)  # type: ignore[no-untyped-call]
    values[:, 0, 0, :4] = 0.5
    values.flush()
    del values
    return np.load(path, mmap_mode="r")


@pytest.mark.skipif(not STATUS.exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("resident", [True, False], ids=["within the bound", "beyond the bound"])
def test_a_training_on_a_memory_map_takes_a_quarter_of_its_size(
    memory_map: Any, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bound: 64 MiB for 256 MiB of data, checks of the values included; a copy would take four times that."""
    if not resident:
        monkeypatch.setattr(data, "RESIDENT_BYTES", 0)
    model = Peak()
    classifier = classifier_of(model, memory_map.shape[1:], 2)
    trainer = trainer_of(classifier, UniformWeighting(), max_iter=1, num_random_init=0)
    y = np.arange(len(memory_map)) % 2
    trainer.fit(memory_map[:8], y[:8], batch_size=4, nb_epochs=1)  # modules that torch loads at their first use
    before, model.peak = anonymous(), 0
    trainer.fit(memory_map, y, batch_size=4, nb_epochs=1, validation_data=(memory_map[:8], y[:8]))
    assert memory_map.nbytes == 256 * MIB
    assert model.peak - before < 64 * MIB
