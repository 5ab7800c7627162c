"""The command line, as people without a script use it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_gair.cli import main, number
from art_gair.evaluation import RobustnessReport, evaluate_robustness
from tests.evaluation.planted import adversarially_trained, held_out

MODULE = """
from torch import nn
from tests.models import conv_net

def net():
    return conv_net()

def number():
    return 3

def features():
    return nn.Flatten(0)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cli_models.py").write_text(MODULE)
    x, y = held_out(40)
    np.savez(tmp_path / "digits.npz", x_test=x, y_test=y)
    torch.save(adversarially_trained().model.state_dict(), tmp_path / "weights.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "cli_models", raising=False)
    return tmp_path


def arguments(**changes: Any) -> list[str]:
    settings = {"model": "cli_models:net", "checkpoint": "weights.pt", "data": "digits.npz", "eps": "38.25/255"}
    settings |= {"out": "report", "device": "cpu", **changes}
    return ["evaluate", *(part for name, value in settings.items() for part in (f"--{name}", str(value)))]


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), ("1e-2", 0.01), (" 1 / 4 ", 0.25)])
def test_numbers_are_understood(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "8/0", "eight", "1/2/3"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no number; expected one like"):
        number(text)


def test_it_gives_the_report_of_a_script(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "art_gair", *arguments()]
    came = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert "worst case" in came.stdout
    assert "report/report.html" in came.stdout
    expected = evaluate_robustness(adversarially_trained(), *held_out(40), eps=0.15, verbose=False)
    found = RobustnessReport.from_json(folder / "report" / "report.json")
    np.testing.assert_array_equal(found.robust, expected.robust)


def test_uint8_images_of_channels_last_are_understood(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = held_out(12)
    np.savez("uint8.npz", x=np.moveaxis((255 * x).round().astype(np.uint8), 1, 3), y=y)
    assert main(arguments(data="uint8.npz", n=10)) == 0
    assert "shape (10, 1, 8, 8), times 0.00392157" in capsys.readouterr().err


def test_a_checkpoint_may_hold_the_weights_beside_other_things(folder: Path) -> None:
    state = {f"module.{k}": v for k, v in adversarially_trained().model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, "wrapped.pt")
    assert main(arguments(checkpoint="wrapped.pt", n=5)) == 0


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def test_a_checkpoint_with_code_is_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Bomb()}, "bomb.pt")
    assert main(arguments(checkpoint="bomb.pt")) == 2
    assert "cannot be loaded as weights alone" in capsys.readouterr().err
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "cli_models"}, "expected MODULE:FUNCTION"),
        ({"model": "nowhere:net"}, "No module named 'nowhere'"),
        ({"model": "cli_models:nothing"}, "has no function 'nothing'"),
        ({"model": "cli_models:number"}, "returned a int; expected an nn.Module"),
        ({"model": "cli_models:features"}, "does not fit --model"),
        ({"checkpoint": "missing.pt"}, "--checkpoint missing.pt cannot be read"),
        ({"data": "missing.npz"}, "--data missing.npz cannot be read"),
        ({"data": "weights.pt"}, "--data weights.pt"),
        ({"n": 41}, "--n is 41; the file has 40 samples"),
        ({"scale": 2}, "outside the classifier's clip_values"),
        ({"eps": -1}, "eps is -1.0"),
        ({"layout": "nhwc"}, "does not take data"),
    ],
)
def test_wrong_arguments_are_explained(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    assert main(arguments(**changes)) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "report" / "report.html").exists()


def test_arrays_by_other_names_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("other.npz", images=np.zeros(3))
    assert main(arguments(data="other.npz")) == 2
    assert "holds ['images']; expected x_test and y_test, or x and y" in capsys.readouterr().err


def test_help_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = capsys.readouterr().out
    assert "example:" in text
    assert "8/255" in text
    for preset in ("quick", "standard", "full"):
        assert preset in text
