"""TensorBoard: events as TensorBoard reads them, resuming, pictures, and disks that fail."""

from __future__ import annotations

import errno
import io
import logging
import math
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor

from art_gair import TensorBoard
from art_gair.engine.inputs import Box
from art_gair.plugins.image_grid import BORDER, image_grid
from art_gair.plugins.tensorboard import ROOM, WEIGHT_LIMITS
from art_gair.training.history import WEIGHT_EDGES, Examples
from tests.models import digits
from tests.plugins.records import KAPPA, WEIGHTS, begin, record

PICTURE = "examples/clean_adversarial_difference"
UNIT = Box(torch.tensor(0.0), torch.tensor(1.0))


@pytest.fixture(autouse=True)
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number the files such that those of one second sort in the order in which they were begun."""
    counter = event_file_writer.AtomicCounter(100)
    monkeypatch.setattr(event_file_writer, "_global_uid", counter)


def events(folder: Path) -> EventAccumulator:
    """Read all events of a folder, as TensorBoard does."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0}).Reload()


def steps(folder: Path, tag: str = "loss/weighted") -> list[int]:
    return [event.step for event in events(folder).Scalars(tag)]


def watched(epoch: int, shape: tuple[int, ...] = (1, 8, 8), n: int = 16) -> Any:
    """Return a record with examples."""
    x = torch.rand(n, *shape)
    x_adv = (x + 0.1 * torch.randn_like(x).sign()).clamp(0, 1)
    with_examples = record(epoch)
    with_examples.examples = Examples(x, x_adv, torch.zeros(n, dtype=torch.int64), None)
    return with_examples


def picture(folder: Path) -> Any:
    """Return the last picture, (height, width, 3) in 0..255."""
    encoded = events(folder).Images(PICTURE)[-1].encoded_image_string
    return np.asarray(Image.open(io.BytesIO(encoded)))


def writing_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if type(thread).__module__ == event_file_writer.__name__]


def test_every_number_of_the_record_is_shown(tmp_path: Path) -> None:
    plugin = TensorBoard(tmp_path)
    begin(plugin)
    for epoch in range(2):
        plugin.end_epoch(record(epoch))
    plugin.finish()
    read = events(tmp_path)
    shown = {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert shown.pop("loss/weighted") == [(0, pytest.approx(1 / 3)), (1, pytest.approx(1 / 4))]
    assert shown.pop("loss/unweighted") == [(0, pytest.approx(0.3)), (1, pytest.approx(0.2))]
    assert shown.pop("weights/burn_in") == [(0, 1.0), (1, 0.0)]
    assert shown.pop("weights/lam") == [(1, -1.0)]
    same = {
        **{"accuracy/train_robust": 0.5, "accuracy/clean": 0.75, "accuracy/robust": 0.25},
        **{"weights/effective_sample_size": 6.5, "training/skipped_batches": 0.0},
        **{"training/lr": pytest.approx(0.05), "training/seconds": 1.5, "training/attack_passes": 7.5},
    }
    assert shown == {tag: [(0, value), (1, value)] for tag, value in same.items()}


def test_an_epoch_is_in_the_file_when_its_hook_returns(tmp_path: Path) -> None:
    plugin = TensorBoard(tmp_path)
    begin(plugin)
    plugin.end_epoch(record(0))
    assert steps(tmp_path) == [0]
    plugin.end_epoch(record(1))
    assert steps(tmp_path) == [0, 1]
    plugin.finish()


def test_the_histograms_have_the_recorded_counts(tmp_path: Path) -> None:
    plugin = TensorBoard(tmp_path)
    begin(plugin)
    plugin.end_epoch(record(3))
    plugin.finish()
    kappa = events(tmp_path).Histograms("kappa/histogram")[0]
    assert kappa.step == 3
    assert kappa.histogram_value.bucket == KAPPA
    assert kappa.histogram_value.bucket_limit == [0.5, 1.5, 2.5, 3.5]
    assert (kappa.histogram_value.min, kappa.histogram_value.max) == (-0.5, 3.5)
    assert (kappa.histogram_value.num, kappa.histogram_value.sum) == (12, 21)
    assert kappa.histogram_value.sum_squares == 57
    weights = events(tmp_path).Histograms("weights/log2_histogram")[0].histogram_value
    assert weights.bucket == WEIGHTS
    assert weights.bucket_limit == [-4, -3, -2, -1, 0, 1, 2, 3, 4, 5]
    assert (weights.min, weights.max) == (-4, 5), "from the first bin that is not empty to the last"


def test_the_bins_of_the_weights_are_the_training_s() -> None:
    assert tuple(WEIGHT_LIMITS[1:-1]) == tuple(math.log2(edge) for edge in WEIGHT_EDGES)


def test_an_attack_without_kappa_has_no_histogram_of_it(tmp_path: Path) -> None:
    plugin = TensorBoard(tmp_path)
    begin(plugin)
    plugin.end_epoch(record(0, kappa_histogram=[]))
    plugin.finish()
    assert events(tmp_path).Tags()["histograms"] == ["weights/log2_histogram"]


def test_a_resumed_training_shows_no_epoch_twice(tmp_path: Path) -> None:
    """Killed in epoch 3, resumed in epoch 2 with another object; the values are those of the second one."""
    plugin = TensorBoard(tmp_path)
    begin(plugin)
    for epoch in range(4):
        plugin.end_epoch(record(epoch))
    plugin.on_error(KeyboardInterrupt())
    resumed = TensorBoard(tmp_path)
    begin(resumed, plugin.state_dict())
    for epoch in range(2, 5):
        resumed.end_epoch(record(epoch, loss=10.0 + epoch))
    resumed.finish()
    losses = [(e.step, e.value) for e in events(tmp_path).Scalars("loss/weighted")]
    assert losses == [(0, pytest.approx(1 / 3)), (1, pytest.approx(1 / 4)), (2, 12.0), (3, 13.0), (4, 14.0)]


def test_a_new_training_hides_an_earlier_one(tmp_path: Path) -> None:
    plugin = TensorBoard(tmp_path)
    for last in (4, 2):
        begin(plugin)
        for epoch in range(last):
            plugin.end_epoch(record(epoch))
        plugin.finish()
    assert steps(tmp_path) == [0, 1]


def test_the_thread_that_writes_ends_with_the_training(tmp_path: Path) -> None:
    for end in (TensorBoard.finish, lambda plugin: plugin.on_error(ValueError())):
        plugin = TensorBoard(tmp_path)
        begin(plugin)
        end(plugin)
        plugin.end_epoch(record(0))
        assert len(writing_threads()) == 1
        end(plugin)
        assert not writing_threads()


def test_images_are_shown_by_the_range_of_the_classifier(tmp_path: Path) -> None:
    plugin = TensorBoard(tmp_path)
    begin(plugin, clip_values=(0.0, 2.0))
    shown = watched(0)
    plugin.end_epoch(shown)
    plugin.finish()
    image = picture(tmp_path)
    assert image.shape == (3 * 68, 8 * 68, 3)
    clean, adversarial = (image[top : top + 64 : 8, 2:66:8, 0] / 255 for top in (2, 70))
    np.testing.assert_allclose(clean, shown.examples.x[0, 0] / 2, atol=1 / 255)
    np.testing.assert_allclose(adversarial, shown.examples.x_adv[0, 0] / 2, atol=1 / 255)


@pytest.mark.parametrize("shape", [(5,), (2, 8, 8), (8, 8), (1, 8, 8, 8)], ids=str)
def test_inputs_that_are_no_images_are_not_shown(tmp_path: Path, shape: tuple[int, ...]) -> None:
    plugin = TensorBoard(tmp_path)
    begin(plugin)
    plugin.end_epoch(watched(0, shape))
    plugin.finish()
    assert events(tmp_path).Tags()["images"] == []
    assert steps(tmp_path) == [0]


def test_images_can_be_switched_off(tmp_path: Path) -> None:
    plugin = TensorBoard(tmp_path, images=False)
    begin(plugin)
    plugin.end_epoch(watched(0))
    plugin.finish()
    assert events(tmp_path).Tags()["images"] == []


@pytest.mark.parametrize(
    ("shape", "n", "cell", "columns"),
    [
        ((1, 8, 8), 16, (64, 64), 8),
        ((3, 32, 32), 16, (64, 64), 8),
        ((1, 28, 28), 3, (84, 84), 3),
        ((3, 5, 200), 16, (65, 2600), 1),
        ((3, 224, 224), 16, (224, 224), 4),
    ],
    ids=str,
)
def test_small_images_are_magnified_and_large_ones_fewer(
    shape: tuple[int, ...], n: int, cell: tuple[int, int], columns: int
) -> None:
    x = torch.rand(n, *shape)
    assert image_grid(x, x, UNIT).shape == (3, 3 * (cell[0] + 4), columns * (cell[1] + 4))


def test_a_grid_has_borders_and_the_difference_magnified() -> None:
    x = torch.from_numpy(digits(2)[0])
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] += 0.01
    x_adv[1, 0, 7, 7] += 0.005
    grid = image_grid(x, x_adv, UNIT)
    assert grid[:, 0, 0].tolist() == pytest.approx(BORDER)
    assert grid[:, 67, 30].tolist() == grid[:, 30, 69].tolist() == pytest.approx(BORDER)
    difference = grid[0, 138:202, 2:66]
    assert (difference[:8, :8].unique().tolist(), difference[8:].unique().tolist()) == ([1.0], [0.5])
    assert grid[0, 201, 133].item() == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (None, [0.0, 0.75, 1.0]),
        (Box(torch.tensor(-math.inf), torch.tensor(math.inf)), [0.0, 0.75, 1.0]),
        (Box(torch.full((3, 1, 1), -2.0), torch.full((3, 1, 1), 6.0)), [0.125, 0.5, 0.625]),
    ],
    ids=["no box", "no bounds", "one bound a channel"],
)
def test_grey_is_between_the_bounds_or_what_is_there(box: Box | None, expected: list[float]) -> None:
    x = torch.full((1, 3, 64, 64), -1.0)
    x[..., 1:] = 2.0
    x_adv = x.clone()
    x_adv[..., 2:] = 3.0
    row = image_grid(x, x_adv, box)[:, 70, 2:5]
    assert row.tolist() == [expected] * 3


@pytest.mark.parametrize("value", [0.0, math.nan], ids=str)
def test_a_grid_of_one_value_is_finite(value: float) -> None:
    x: Tensor = torch.full((2, 1, 8, 8), value)
    assert torch.isfinite(image_grid(x, x, None)).all()


class Disk:
    """A disk that can be full for the writer's thread, though not for the file that is tried out before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        write = RecordWriter.write

        def write_unless_full(writer: Any, data: bytes) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(writer, data)

        monkeypatch.setattr(RecordWriter, "write", write_unless_full)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("first", [0, 1], ids=["from the start", "later"])
def test_an_error_in_the_writer_s_thread_is_warned_of_once_and_the_training_goes_on(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture, first: int
) -> None:
    plugin = TensorBoard(tmp_path)
    begin(plugin)
    for epoch in range(7):
        disk.full = epoch in (first, first + 1, first + 3)
        plugin.end_epoch(watched(epoch))
    plugin.finish()
    assert steps(tmp_path) == [epoch for epoch in range(7) if epoch not in (first, first + 1, first + 3)]
    message = (
        f"TensorBoard events could not be written to {tmp_path}: [Errno {errno.ENOSPC}] No space left on device. "
        "Training goes on."
    )
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [message] * 2
    for thread in writing_threads():
        thread.join(timeout=10.0)
    assert not writing_threads()


def test_a_full_disk_is_found_before_the_thread_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings are errors here, so an error in the thread would fail this test."""
    plugin = TensorBoard(tmp_path)
    begin(plugin)
    plugin.end_epoch(record(0))

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            assert len(data) == ROOM
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tempfile.TemporaryFile", lambda dir: Full())
        for epoch in (1, 2):
            plugin.end_epoch(record(epoch))
    plugin.end_epoch(record(3))
    plugin.finish()
    assert steps(tmp_path) == [0, 3]
    assert len(caplog.records) == 1


def test_a_folder_that_is_deleted_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "a" / "runs"
    plugin = TensorBoard(folder)
    begin(plugin)
    plugin.end_epoch(record(0))
    shutil.rmtree(tmp_path / "a")
    for epoch in (1, 2, 3):
        plugin.end_epoch(record(epoch))
    plugin.finish()
    assert steps(folder) == [2, 3]
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_a_folder_that_is_deleted_at_the_end_does_not_fail_the_training(tmp_path: Path) -> None:
    for end in (TensorBoard.finish, lambda plugin: plugin.on_error(ValueError())):
        plugin = TensorBoard(tmp_path / "runs")
        begin(plugin)
        plugin.end_epoch(record(0))
        shutil.rmtree(tmp_path / "runs")
        end(plugin)


def test_without_tensorboard_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="TensorBoard needs tensorboard; run `pip install tensorboard`"):
        TensorBoard(tmp_path)


@pytest.mark.parametrize("folder", [None, 3, b"runs", True])
def test_a_folder_of_another_type_is_refused(folder: Any) -> None:
    with pytest.raises(TypeError, match=f"folder is {folder!r}; expected the path of a folder, a str or PathLike"):
        TensorBoard(folder)


def test_a_file_as_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ValueError, match=f"folder is {str(path)!r}, which is no folder; expected the path of a folder"):
        TensorBoard(path)
    with pytest.raises(ValueError, match=f"folder is '.*runs', but {str(path)!r} is no folder; expected"):
        TensorBoard(path / "runs")


@pytest.mark.parametrize("images", [1, None, "yes"])
def test_images_of_another_type_is_refused(tmp_path: Path, images: Any) -> None:
    with pytest.raises(TypeError, match=f"images is {images!r}; expected True or False"):
        TensorBoard(tmp_path, images=images)


def test_it_only_watches_and_says_what_it_is() -> None:
    assert not TensorBoard("runs").affects_training
    folder = str(Path("runs").absolute())
    assert repr(TensorBoard("runs", images=False)) == f"TensorBoard({folder!r}, images=False)"


def test_making_one_writes_nothing(tmp_path: Path) -> None:
    TensorBoard(tmp_path / "runs")
    begin(TensorBoard(tmp_path / "runs"))
    assert not list(tmp_path.iterdir())
