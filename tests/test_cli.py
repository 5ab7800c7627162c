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
from torch import nn

from art_gair.cli import main, number
from art_gair.evaluation import RobustnessReport, evaluate_robustness
from art_gair.loading import CommandError, load_checkpoint
from tests.evaluation.planted import adversarially_trained, held_out
from tests.models import assert_same_state, conv_net, state_of

MODULE = """
from torch import nn
from tests.models import conv_net

def net():
    return conv_net()

class Shifted(nn.Sequential):
    def forward(self, x):
        return super().forward(x.flatten(1) - 0.5)

def shifted():
    return Shifted(nn.Linear(64, 10))

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
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert "worst case" in process.stdout
    assert "report/report.html" in process.stdout
    assert "%|" not in process.stderr  # no progress bar in a file
    expected = evaluate_robustness(adversarially_trained(), *held_out(40), eps=0.15, verbose=False)
    report = RobustnessReport.from_json(folder / "report" / "report.json")
    np.testing.assert_array_equal(report.robust, expected.robust)


@pytest.mark.slow
def test_docstrings_may_be_stripped(folder: Path) -> None:
    """Under -OO a sign keeps its rule, and the page its words."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-OO", "-m", "art_gair", *arguments(n=10)]
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert "withstand every attack" in (folder / "report" / "report.html").read_text()


def test_several_radii_make_several_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"digit {i}" for i in range(10)]
    assert main([*arguments(n=10), "--eps", "0.05", "0.1", "--class-names", *names]) == 0
    for eps in ("0.05", "0.1"):
        assert "worst class digit" in (folder / "report" / f"eps-{eps}" / "report.md").read_text()
    assert capsys.readouterr().out.count("The report is") == 2


def test_the_console_command_and_the_template_are_installed() -> None:
    setup = (Path(__file__).parents[1] / "setup.py").read_text()
    assert '"art_gair = art_gair.cli:main"' in setup
    assert '"report/template.html"' in setup


def test_a_sequential_with_a_forward_of_its_own_is_run_by_it(folder: Path) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 10)
    torch.save(nn.Sequential(linear).state_dict(), "shifted.pt")
    assert main(arguments(model="cli_models:shifted", checkpoint="shifted.pt")) == 0
    x, y = held_out(40)
    right = linear(torch.from_numpy(x).flatten(1) - 0.5).argmax(dim=1).numpy() == y
    np.testing.assert_array_equal(RobustnessReport.from_json("report/report.json").clean.correct, right)


def test_uint8_images_of_channels_last_are_understood(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = held_out(12)
    np.savez("uint8.npz", x=np.moveaxis((255 * x).round().astype(np.uint8), 1, 3), y=y)
    assert main(arguments(data="uint8.npz", n=10)) == 0
    assert "shape (10, 1, 8, 8), times 0.00392157" in capsys.readouterr().err


@pytest.mark.parametrize("entry", ["state_dict", "net", "model", "weights of mine"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_checkpoints_that_people_have_are_loaded(
    folder: Path, capsys: pytest.CaptureFixture[str], entry: str, prefix: str
) -> None:
    model = adversarially_trained().model
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    torch.save({entry: state, "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(())}}}}, "wrapped.pt")
    loaded = conv_net()
    load_checkpoint(loaded, Path("wrapped.pt"))
    assert_same_state(loaded, state_of(model))
    said = capsys.readouterr().err
    assert f"the weights under {entry!r}" in said
    assert ("without the prefix" in said) == bool(prefix)


def test_a_model_whose_own_part_is_called_module_keeps_its_names(folder: Path) -> None:
    model = nn.Module()
    model.module = nn.Linear(2, 2)
    torch.save(model.state_dict(), "plain.pt")
    load_checkpoint(model, Path("plain.pt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({0: torch.ones(2), 1: torch.ones(2)}, r"holds the entries \[0, 1\], of which none are state dicts"),
        ({"model": {"a": torch.ones(1)}, "ema": {"a": torch.ones(1)}}, r"\['model', 'ema'\] are state dicts.*--entry"),
        ([torch.ones(2)], "holds a list; expected a state dict"),
        ({}, "of which none are state dicts"),
    ],
)
def test_what_is_no_single_state_dict_is_explained(folder: Path, content: Any, message: str) -> None:
    torch.save(content, "odd.pt")
    with pytest.raises(CommandError, match=message):
        load_checkpoint(conv_net(), Path("odd.pt"))


def test_one_of_several_state_dicts_can_be_chosen(folder: Path) -> None:
    model = adversarially_trained().model
    torch.save({"model": conv_net().state_dict(), "ema": model.state_dict()}, "two.pt")
    loaded = conv_net()
    load_checkpoint(loaded, Path("two.pt"), "ema")
    assert_same_state(loaded, state_of(model))


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


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((0, 1, 8, 8)), "y": np.zeros(0)}, "expected numbers (n, ...) and one label for each"),
        ({"x": np.zeros((3, 1, 8, 8)), "y": np.zeros(2)}, "expected numbers (n, ...) and one label for each"),
        ({"x": np.zeros((3, 1, 8, 8)).astype(str), "y": np.zeros(3)}, "expected numbers (n, ...)"),
        ({"x": np.zeros((3, 1, 8, 8)), "y": np.full(3, 0.5)}, "y holds values that are no class index"),
    ],
)
def test_unusable_data_are_explained(
    folder: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, Any], message: str
) -> None:
    np.savez("odd.npz", **arrays)
    assert main(arguments(data="odd.npz")) == 2
    assert message in capsys.readouterr().err


def test_a_torn_file_is_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (folder / "digits.npz").read_bytes()
    (folder / "torn.npz").write_bytes(whole[: len(whole) // 2])
    assert main(arguments(data="torn.npz")) == 2
    assert "--data torn.npz cannot be read" in capsys.readouterr().err


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
