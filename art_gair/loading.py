"""Models, weights and data from files, for the command line."""

from __future__ import annotations

import importlib
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import Tensor, nn

from art_gair.checks import runs_layer_by_layer

NAMES = (("x_test", "y_test"), ("x", "y"))
"""Arrays of a data file, the first pair that it holds."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before the names of weights."""

State = dict[str, Tensor]


class CommandError(Exception):
    """A wrong argument: what came, and what was expected."""


def load_data(path: Path, n: int | None, scale: float | None, layout: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read samples and labels, as the model takes them; what is done to them is said on stderr.

    :raises CommandError: if the file or one of the choices is unusable.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = next((pair for pair in NAMES if all(name in file for name in pair)), None)
            if names is None:
                raise CommandError(f"--data {path} holds {sorted(file)}; expected x_test and y_test, or x and y.")
            x, y = (file[name] for name in names)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CommandError(f"--data {path} cannot be read: {error}; expected an .npz file of numbers.") from error
    if x.dtype.kind not in "biuf" or x.ndim < 2 or len(x) == 0 or len(x) != len(y):
        raise CommandError(
            f"--data {path} holds {names[0]} of shape {x.shape}, {x.dtype}, and {names[1]} of shape {y.shape}; "
            "expected numbers (n, ...) and one label for each."
        )
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
    sys.stderr.write(f"data: {names[0]}, {names[1]} of {path}, shape {x.shape}, times {scale:.6g}\n")
    return np.ascontiguousarray(x, dtype=np.float32) * np.float32(scale), y


class Whole(nn.Module):
    """Runs a model by its own forward where ART would run its layers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        """Run it."""
        return self.model(x)


def load_model(
    name: str, checkpoint: Path | None, entry: str | None, x: NDArray[Any], clip: tuple[float, float], device: str
) -> PyTorchClassifier:
    """Build the model, load its weights, and make a classifier of it.

    :raises CommandError: if there is no such function, it returns no module, or the weights do not fit.
    """
    model = _built(name)
    if checkpoint is not None:
        load_checkpoint(model, checkpoint, entry)
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
        received = f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else f"a {type(out).__name__}"
        raise CommandError(f"--model {name} returned {received}; expected logits, (1, classes).")
    kind = "gpu" if device == "cuda" else "cpu"
    if runs_layer_by_layer(model):
        model = Whole(model).eval()
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


def load_checkpoint(model: nn.Module, path: Path, entry: str | None = None) -> None:
    """Load the state dict of a file, or the one that a checkpoint holds; what was unwrapped is said on stderr.

    Only tensors and plain values are read from the file, never code.

    :param entry: where the weights stand in a checkpoint that holds several state dicts.
    :raises CommandError: if the file holds no state dict, several of them, or one that does not fit.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CommandError(f"--checkpoint {path} cannot be read: {error}") from error
    except Exception as error:  # torch's own words advise to load code after all
        raise CommandError(
            f"--checkpoint {path} cannot be loaded as weights alone; expected a state dict, as "
            "torch.save(model.state_dict(), file) writes it. Code is never loaded."
        ) from error
    entry, state = _find_state(content, path, entry)
    expected = set(model.state_dict())
    stripped, state = _strip_prefixes(state, expected)
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        raise CommandError(f"--checkpoint {path} does not fit --model: {error}") from error
    if entry:
        sys.stderr.write(f"checkpoint: the weights under {entry!r} of {path}\n")
    if stripped:
        sys.stderr.write(f"checkpoint: without the prefix {stripped!r} of their names\n")


def _find_state(content: Any, path: Path, entry: str | None) -> tuple[str, State]:
    """Return the state dict and the entry it stood under, '' where the content is one itself."""
    if entry is None and _is_state(content):
        return "", content
    if not isinstance(content, dict):
        raise CommandError(f"--checkpoint {path} holds a {type(content).__name__}; expected a state dict.")
    entries = [key for key, value in content.items() if _is_state(value) and entry in (None, key)]
    if len(entries) != 1:
        raise CommandError(
            f"--checkpoint {path} holds the entries {list(content)[:10]}, of which {entries or 'none'} are state dicts "
            "of a model; expected a state dict, name to tensor, or a checkpoint that holds one. Choose by --entry."
        )
    return str(entries[0]), content[entries[0]]


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items())
    )


def _strip_prefixes(state: State, expected: set[str]) -> tuple[str, State]:
    """Take off the prefixes that all names have and the model does not know; return them and the rest."""
    stripped = ""
    while not set(state) <= expected:
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        stripped += prefix
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return stripped, state
