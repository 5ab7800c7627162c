"""The command line of the report."""

from __future__ import annotations

import argparse
import importlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import nn

from art_gair import plots
from art_gair.evaluation.attacks import PRESETS
from art_gair.evaluation.evaluate import evaluate_robustness

NAMES = (("x_test", "y_test"), ("x", "y"))
"""Arrays of a data file, the first pair that it holds."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Entries under which checkpoints keep the weights, beside an epoch or an optimizer's state."""

DESCRIPTION = """Attack a PyTorch model in many ways, and say what it withstands and whether that can be believed.

Writes report.html (one page to mail), report.md, report.json and figures into --out, and a table to the terminal.
A run that was killed goes on where it stopped if it is started again with the same --out.
"""

EXAMPLE = """example:
  python -m art_gair evaluate --model my_models:resnet18 --checkpoint weights.pt --data cifar10.npz --eps 8/255 \\
      --preset standard --n 1000 --out report
"""


class CommandError(Exception):
    """A wrong argument: what came, and what was expected."""


def number(text: str) -> float:
    """Read 0.03, 8/255 or 1e-2.

    :raises argparse.ArgumentTypeError: if it is no number.
    """
    try:
        above, *below = (float(part) for part in text.split("/", maxsplit=1))
        return above / below[0] if below else above
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number; expected one like 0.03 or 8/255") from None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    outer = argparse.ArgumentParser(prog="python -m art_gair", description="Tools of art_gair.")
    commands = outer.add_subparsers(dest="command", required=True)
    inner = commands.add_parser(
        "evaluate",
        help="attack a model and report what it withstands",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = inner.add_argument_group("the model")
    model.add_argument(
        "--model",
        required=True,
        metavar="MODULE:FUNCTION",
        help="function without arguments that returns the nn.Module",
    )
    model.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="its weights, a state dict saved by torch.save; no code is loaded",
    )
    model.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one"
    )
    data = inner.add_argument_group("the data")
    data.add_argument(
        "--data", required=True, type=Path, metavar="FILE", help="an .npz file with x_test and y_test, or x and y"
    )
    data.add_argument("--n", type=int, metavar="N", help="take the first N samples only")
    data.add_argument("--scale", type=number, metavar="S", help="multiply the data; default: 1/255 for uint8, else 1")
    data.add_argument(
        "--layout",
        choices=["auto", "nchw", "nhwc"],
        default="auto",
        help="order of the images' axes; auto: nhwc where only the last axis can be the channels, 1 or 3",
    )
    data.add_argument(
        "--clip",
        type=number,
        nargs=2,
        default=(0.0, 1.0),
        metavar=("LOW", "HIGH"),
        help="range of valid inputs after scaling; default: 0 1",
    )
    attack = inner.add_argument_group("the attacks")
    attack.add_argument("--eps", required=True, type=number, help="radius of the ball, for instance 8/255")
    attack.add_argument("--norm", choices=["inf", "2", "1"], default="inf", help="default: inf")
    attack.add_argument(
        "--preset",
        choices=list(PRESETS),
        default="quick",
        help="quick: three kinds of PGD; standard: more of it, and Square; full: AutoAttack too; default: quick",
    )
    attack.add_argument("--cascade", action="store_true", help="attack only what is still standing: faster")
    attack.add_argument("--seed", type=int, default=0, help="default: 0")
    attack.add_argument("--batch-size", type=int, default=128, metavar="B", help="default: 128")
    inner.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the report")
    return outer


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0, or 2 after a message about a wrong argument."""
    args = parser().parse_args(argv)
    try:
        plots.require_matplotlib()
        x, y = load_data(args.data, args.n, args.scale, args.layout)
        classifier = load_model(args.model, args.checkpoint, x, y, tuple(args.clip), args.device)
        norm = args.norm if args.norm == "inf" else int(args.norm)
        report = evaluate_robustness(
            classifier,
            x,
            y,
            args.eps,
            norm,
            args.preset,
            args.seed,
            cascade=args.cascade,
            batch_size=args.batch_size,
            resume_from=args.out / "attacks",
        )
    except (CommandError, ImportError, TypeError, ValueError, NotImplementedError) as error:
        sys.stderr.write(f"python -m art_gair evaluate: {error}\n")
        return 2
    report.save(args.out)
    sys.stdout.write(f"{report.table()}\n\nThe report is {args.out / 'report.html'}\n")
    return 0


def load_data(path: Path, n: int | None, scale: float | None, layout: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read samples and labels, as the model takes them; what is done to them is said on stderr.

    :raises CommandError: if the file or one of the choices is unusable.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = next((pair for pair in NAMES if all(name in file for name in pair)), None)
            if found is None:
                raise CommandError(f"--data {path} holds {sorted(file)}; expected x_test and y_test, or x and y.")
            x, y = (file[name] for name in found)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CommandError(f"--data {path} cannot be read: {error}; expected an .npz file of numbers.") from error
    if n is not None:
        if not 1 <= n <= len(x):
            raise CommandError(f"--n is {n}; the file has {len(x)} samples, expected 1 to {len(x)}.")
        x, y = x[:n], y[:n]
    if scale is None:
        scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    if layout == "nhwc" and x.ndim != 4:
        raise CommandError(
            f"--layout nhwc was given for data of shape {x.shape}; expected (n, height, width, channels)."
        )
    swap = layout == "nhwc" or (layout == "auto" and x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3))
    if swap:
        x = np.moveaxis(x, 3, 1)
    sys.stderr.write(f"data: {found[0]}, {found[1]} of {path}, shape {x.shape}, times {scale:.6g}\n")
    return np.ascontiguousarray(x, dtype=np.float32) * np.float32(scale), y


def load_model(
    name: str, checkpoint: Path | None, x: NDArray[Any], y: NDArray[Any], clip: tuple[float, float], device: str
) -> PyTorchClassifier:
    """Build the model, load its weights, and make a classifier of it.

    :raises CommandError: if there is no such function, it returns no module, or the weights do not fit.
    """
    model = _built(name)
    if checkpoint is not None:
        _load(model, checkpoint)
    model.eval()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise CommandError("--device is cuda, but torch finds no GPU here.")
    model.to(device)
    with torch.no_grad():
        try:
            out = model(torch.from_numpy(x[:1]).to(device))
        except Exception as error:
            raise CommandError(f"--model {name} does not take data of shape {x[:1].shape}: {error}") from error
    if not isinstance(out, torch.Tensor) or out.ndim != 2:
        came = f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else f"a {type(out).__name__}"
        raise CommandError(f"--model {name} returned {came}; expected logits, (1, classes).")
    kind = "gpu" if device == "cuda" else "cpu"
    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), x.shape[1:], out.shape[1], clip_values=clip, device_type=kind
    )


def _built(name: str) -> nn.Module:
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise CommandError(f"--model is {name!r}; expected MODULE:FUNCTION, for instance my_models:resnet18.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise CommandError(f"--model {name}: {error}; expected a module in this folder or installed.") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    build = getattr(module, function_name, None)
    if not callable(build):
        raise CommandError(f"--model {name}: {module_name} has no function {function_name!r}.")
    model = build()
    if not isinstance(model, nn.Module):
        raise CommandError(f"--model {name} returned a {type(model).__name__}; expected an nn.Module.")
    return model


def _load(model: nn.Module, path: Path) -> None:
    """Load a state dict, or the one that a checkpoint holds; only tensors and plain values are read from the file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CommandError(f"--checkpoint {path} cannot be read: {error}") from error
    except Exception as error:  # torch's own words advise to load code after all
        raise CommandError(
            f"--checkpoint {path} cannot be loaded as weights alone; expected a state dict, as "
            "torch.save(model.state_dict(), file) writes it. Code is never loaded."
        ) from error
    if not isinstance(content, dict):
        raise CommandError(f"--checkpoint {path} holds a {type(content).__name__}; expected a state dict.")
    state: Any = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    state = {key.removeprefix("module."): value for key, value in state.items()}  # DataParallel's prefix
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        raise CommandError(f"--checkpoint {path} does not fit --model: {error}") from error
