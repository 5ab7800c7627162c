"""Every example runs, on little data."""

from __future__ import annotations

import csv
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adversarial_training_custom_weighting
import adversarial_training_digits
import adversarial_training_distributed
import adversarial_training_gairat
import adversarial_training_long_run
import adversarial_training_methods
import adversarial_training_semi_supervised
import art.config
import numpy as np
import pytest
import robustness_report
import run_notebook
import torch
from data import load_cifar10
from matplotlib.image import imread
from models import MODELS

from art_gair.attacks.norms import NORMS
from art_gair.attacks.pgd import PGD
from art_gair.engine.inputs import Box
from tests.reference import algorithm_1

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_digits_demo_prints_a_table_and_saves_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "folder" / "figures"
    adversarial_training_digits.main(["--epochs", "2", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "| accuracy, % | plain | AT | GAIRAT |" in printed
    assert "| **worst case** (95 % interval) |" in printed
    for name in ("methods", "kappa", "weights", "examples"):
        assert imread(out / f"{name}.png").std() > 0


def test_get_started_is_thirty_lines_that_run(capsys: pytest.CaptureFixture[str]) -> None:
    source = (EXAMPLES / "get_started_pytorch.py").read_text(encoding="utf-8")
    assert source.count("\n") <= 30
    exec(compile(source.replace("nb_epochs=15", "nb_epochs=2"), "get_started_pytorch.py", "exec"), {})
    assert "worst case" in capsys.readouterr().out


NOTEBOOK = EXAMPLES / "adversarial_training_gairat_digits.ipynb"


def outputs_of(notebook: dict[str, Any]) -> list[list[str]]:
    """Return what kinds of output each code cell has."""
    return [
        [kind for output in cell["outputs"] for kind in output.get("data", {"stream": ""})]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_the_notebook_runs_in_its_small_form_and_shows_what_the_file_shows() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    kept = outputs_of(notebook)
    names = run_notebook.run(notebook, {"EPOCHS": 2, "TRAIN": 128, "SAMPLES": 20})
    assert outputs_of(notebook) == kept
    assert [len(names[trainer].history) for trainer in ("at", "gairat")] == [2, 2]
    assert sum("image/png" in kinds for kinds in kept) == 7


def test_a_notebook_is_run_and_written(tmp_path: Path) -> None:
    source = ["%matplotlib inline\n", "print('one')\n", "1 + 1"]
    cell = {"cell_type": "code", "source": source, "outputs": [], "execution_count": None}
    (tmp_path / "little.ipynb").write_text(json.dumps({"cells": [cell], "nbformat": 4}))
    run_notebook.main([str(tmp_path / "little.ipynb")])
    (ran,) = json.loads((tmp_path / "little.ipynb").read_text())["cells"]
    assert (ran["execution_count"], ran["source"]) == (1, source)
    assert ran["outputs"][0]["text"] == ["one\n"]
    assert ran["outputs"][1]["data"] == {"text/plain": ["2"]}


@pytest.mark.slow
def test_methods_are_compared_in_a_table_and_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "methods.png"
    adversarial_training_methods.main(["--methods", "at", "mail_trades", "--epochs", "1", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "| accuracy, % | at | mail_trades |" in printed
    assert imread(out).std() > 0


@pytest.mark.slow
def test_the_distributed_example_trains_on_one_process_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for epochs in ("1", "2"):
        adversarial_training_distributed.main(["--epochs", epochs, "--out", str(tmp_path)])
    assert "Training goes on at epoch 1" in caplog.text
    assert "worst case" in capsys.readouterr().out
    assert (tmp_path / "report" / "report.html").is_file()


def test_the_custom_weighting_trains_and_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    batch: dict[str, Any] = {
        "kappa": torch.zeros(3),
        "max_iter": 10,
        "logits": logits,
        "labels": torch.zeros(3).long(),
        "epoch": 0,
    }
    assert adversarial_training_custom_weighting.double_the_fooled(**batch).tolist() == pytest.approx([0.75, 1.5, 0.75])
    adversarial_training_custom_weighting.main(["--epochs", "1"])
    printed = capsys.readouterr().out
    assert "double_the_fooled" in printed
    assert "worst case" in printed


@pytest.mark.slow
def test_the_robustness_report_sets_methods_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robustness_report.main(["--epochs", "2", "--samples", "40", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| accuracy, % | AT | GAIRAT |" in printed
    for method in ("AT", "GAIRAT"):
        assert (tmp_path / method / "report.html").exists()


@pytest.mark.slow
def test_semi_supervised_labels_and_trains(capsys: pytest.CaptureFixture[str]) -> None:
    adversarial_training_semi_supervised.main(["--epochs", "3", "--threshold", "0.3"])
    printed = capsys.readouterr().out
    assert "200 labelled digits; " in printed
    assert "| accuracy, % | GAIR-TRADES | GAIR-RST |" in printed


class SignalAfterEpoch(logging.Handler):
    """Sends this process a signal when the log tells of an epoch's end, as a person or a job queue may at any time."""

    def __init__(self, epoch: int, number: signal.Signals) -> None:
        super().__init__()
        self.epoch, self.number = epoch, number

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(f"epoch: {self.epoch} "):
            signal.raise_signal(self.number)


@pytest.fixture
def stop_after(caplog: pytest.LogCaptureFixture) -> Callable[..., None]:
    """Return what runs a function that is stopped after an epoch."""
    log = logging.getLogger("art_gair.training.progress")
    caplog.set_level(logging.INFO, log.name)

    def run(epoch: int, number: signal.Signals, ends: type[BaseException], function: Any, *arguments: Any) -> None:
        handler = SignalAfterEpoch(epoch, number)
        log.addHandler(handler)
        try:
            with pytest.raises(ends):
                function(*arguments)
        finally:
            log.removeHandler(handler)

    return run


@pytest.mark.slow
def test_the_long_run_is_watched_saved_and_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stop_after: Callable[..., None]
) -> None:
    options = ["--epochs", "3", "--out", str(tmp_path)]
    stop_after(1, signal.SIGINT, KeyboardInterrupt, adversarial_training_long_run.main, options)
    assert (tmp_path / "saves/epoch-0002-batch-000000.checkpoint").exists()
    adversarial_training_long_run.main(options)
    printed = capsys.readouterr().out
    assert "3 epochs. Best: epoch" in printed
    assert "worst case" in printed
    with (tmp_path / "epochs.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) == 2


@pytest.mark.parametrize(("name", "millions"), [("small_cnn", 1.6), ("resnet18", 11.2), ("preact_resnet18", 11.2)])
def test_networks_have_their_standard_size(name: str, millions: float) -> None:
    model = MODELS[name]().eval()
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_wrn_32_10_has_its_standard_size() -> None:
    with torch.device("meta"):
        model = MODELS["wrn32_10"]()
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(46.2, abs=0.05)


def little_cifar(path: Path) -> Path:
    """Write noise in the shape of CIFAR-10; what is learnt from it does not matter here."""
    rng = np.random.default_rng(0)
    arrays = {f"x_{s}": rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8) for s in ("train", "test")}
    np.savez(path, **arrays, y_train=np.arange(12) % 10, y_test=np.arange(12) % 10)  # type: ignore[arg-type]
    return path


def test_the_cifar_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model=small_cnn", "--subset=8", "--test-subset=4", "--epochs=1", "--batch-size=4", "--max-iter=1"]
    file, saved = little_cifar(tmp_path / "cifar.npz"), tmp_path / "model.pt"
    adversarial_training_gairat.main([*options, "--data", str(file), "--save", str(saved)])
    printed = capsys.readouterr().out
    assert "small_cnn: 8 training images, 1 epochs, seed 0" in printed
    assert "worst case" in printed
    MODELS["small_cnn"]().load_state_dict(torch.load(saved, weights_only=True))


@pytest.mark.slow
def test_the_cifar_example_goes_on_after_a_kill(tmp_path: Path, stop_after: Callable[..., None]) -> None:
    options = ["--model=small_cnn", "--subset=8", "--test-subset=12", "--epochs=2", "--batch-size=4", "--max-iter=1"]
    options += ["--data", str(little_cifar(tmp_path / "cifar.npz"))]
    adversarial_training_gairat.main([*options, "--save", str(tmp_path / "whole.pt")])
    stopped = [*options, "--checkpoint", str(tmp_path / "saves"), "--save", str(tmp_path / "stopped.pt")]
    stop_after(0, signal.SIGTERM, SystemExit, adversarial_training_gairat.main, stopped)
    adversarial_training_gairat.main(stopped)
    whole, in_two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "stopped"))
    for name, value in whole.items():
        assert torch.equal(value, in_two[name]), name


def test_the_cifar_example_has_the_papers_defaults() -> None:
    args = adversarial_training_gairat.arguments([])
    assert (args.eps, args.eps_step, args.max_iter, args.lam) == (8 / 255, 2 / 255, 10, -1.0)
    assert (args.epochs, args.burn_in, args.lr, args.batch_size) == (100, 0.3, 0.1, 128)
    wrn = adversarial_training_gairat.arguments(["--model", "wrn32_10"])
    assert (wrn.eps, wrn.eps_step, wrn.epochs, wrn.burn_in) == (0.031, 0.007, 120, 0.5)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet18", {0: 0.1, 29: 0.1, 30: 0.01, 59: 0.01, 60: 0.001, 99: 0.001}),
        ("wrn32_10", {0: 0.1, 59: 0.1, 60: 0.01, 89: 0.01, 90: 0.001, 109: 0.001, 110: 0.0005, 119: 0.0005}),
    ],
)
def test_the_learning_rate_falls_as_in_the_paper(model: str, expected: dict[int, float]) -> None:
    args = adversarial_training_gairat.arguments(["--model", model])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=args.lr)
    scheduler = adversarial_training_gairat.lr_schedule(optimizer, args.settings, args.epochs)
    rates = {}
    for epoch in range(args.epochs):
        rates[epoch] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
    assert {epoch: rates[epoch] for epoch in expected} == pytest.approx(expected)


def test_a_file_that_lacks_an_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "half.npz", x_train=np.zeros(1))
    with pytest.raises(ValueError, match=r"half.npz lacks \['y_train', 'x_test', 'y_test'\]"):
        load_cifar10(tmp_path / "half.npz", None)


@pytest.mark.slow
def test_cifar_comes_from_arts_loader(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(art.config, "ART_DATA_PATH", str(tmp_path))
    subprocess.run([sys.executable, data_folder / "prepare_art_data.py", "--out", tmp_path], check=True)
    x_train, y_train, x_test, y_test = load_cifar10(None, 100)
    assert [a.shape for a in (x_train, y_train, x_test, y_test)] == [
        (100, 3, 32, 32),
        (100,),
        (10000, 3, 32, 32),
        (10000,),
    ]
    assert (x_train.min(), x_train.max(), str(x_train.dtype)) == (0, 1, "float32")


@pytest.mark.slow
def test_kappa_on_real_images_equals_the_literal_algorithm(data_folder: Path) -> None:
    """SmallCNN on exact CIFAR-10 images, in float64, sample by sample."""
    x_all, _, _, _ = load_cifar10(data_folder / "cifar10-exact-subset.npz", 16)
    x = torch.from_numpy(x_all).double()
    model = MODELS["small_cnn"]().double()
    with torch.no_grad():
        for _ in range(30):
            model(x)  # BatchNorm takes on the statistics of the images, and predictions differ
    model.eval()
    labels = model(x).argmax(dim=1)
    box = Box(torch.tensor(0.0).double(), torch.tensor(1.0).double())
    eps, eps_step = torch.tensor(2 / 255).double(), torch.tensor(0.5 / 255).double()
    x_adv, kappa = PGD(NORMS[np.inf], "ce", 4, 0, box)(model, x, labels, eps, eps_step)
    for i in range(len(x)):
        expected, k = algorithm_1.attack_one(
            model,
            x[i],
            int(labels[i]),
            norm=np.inf,
            eps=float(eps),
            eps_step=float(eps_step),
            max_iter=4,
            start=x[i],
            bounds=(0.0, 1.0),
            loss=algorithm_1.cross_entropy,
        )
        assert k == kappa[i]
        torch.testing.assert_close(x_adv[i], expected, rtol=0, atol=1e-9)
    assert len(set(kappa.tolist())) > 1
