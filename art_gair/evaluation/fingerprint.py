"""Everything that the results of an evaluation depend on, by name: results under another fingerprint are not reused."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from torch import Tensor, nn

from art_gair.engine.classifier import TensorClassifier
from art_gair.hashing import hash_tensor

PACKAGES = ("art_gair", "adversarial-robustness-toolbox", "torch", "numpy", "scipy", "pyautoattack")


def find_versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def make_fingerprint(
    classifier: Any,
    tensor_classifier: TensorClassifier,
    x_hash: str,
    y_hash: str,
    settings: dict[str, Any],
    attacks: Sequence[Any] = (),
) -> dict[str, str]:
    """Return hashes and values by name.

    :param classifier: the user's PyTorchClassifier.
    :param settings: arguments of the evaluation.
    :param attacks: the user's own, with all that they hold; a transfer attack's other model too.
    """
    module = tensor_classifier.module
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    hashed = {
        "model's values": {name: hash_tensor(value) for name, value in state.items()},
        "model's architecture": repr(module),
        "model's attributes": [_attributes(m) for m in module.modules()],
        "model's source": sorted({_source(type(m)) for m in module.modules()}),
        "preprocessing": [_describe(p) for p in classifier.preprocessing_operations],
        "postprocessing": [_describe(p) for p in classifier.postprocessing_defences or []],
        "clip_values": [_value(bound) for bound in classifier.clip_values],
    }
    if attacks:
        hashed["attacks"] = [_describe_attack(attack, classifier) for attack in attacks]
    return {
        **{name: repr(value) for name, value in settings.items() if name != "attacks"},
        **{name: hashlib.sha256(repr(value).encode()).hexdigest() for name, value in hashed.items()},
        **{f"version of {name}": number for name, number in find_versions().items()},
        "device": tensor_classifier.device.type,
        "x": x_hash,
        "y": y_hash,
    }


STANDARD = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


def _attributes(module: nn.Module) -> dict[str, str]:
    return {name: _value(value) for name, value in sorted(vars(module).items()) if name not in STANDARD}


def _describe(operation: Any) -> tuple[str, dict[str, str]]:
    cls = type(operation)
    return f"{cls.__module__}.{cls.__qualname__}", {name: _value(v) for name, v in sorted(vars(operation).items())}


def _describe_attack(attack: Any, classifier: Any) -> tuple[Any, ...]:
    """Describe an attack by its settings and source, and the model of another classifier that it runs on."""
    cls = type(attack)
    settings = {name: _value(getattr(attack, name, None)) for name in attack.attack_params}
    model = getattr(attack.estimator, "model", None)
    if attack.estimator is classifier or not isinstance(model, nn.Module):
        return _source(cls), settings, type(attack.estimator).__qualname__
    state = {name: hash_tensor(value) for name, value in model.state_dict().items()}
    return _source(cls), settings, repr(model), state


def _value(value: Any) -> str:
    """Describe a value by what it holds, where that can be told, else by its type."""
    if isinstance(value, Tensor):
        return hash_tensor(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return repr(value)
    try:
        return hashlib.sha256(pickle.dumps(value)).hexdigest()
    except Exception:
        return f"a {type(value).__qualname__}"


def _source(cls: type) -> str:
    """Return a class's name and source, or the code of its methods where the source is not at hand."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    if cls.__module__.startswith("torch."):
        return name  # torch's version stands in the fingerprint
    try:
        return f"{name} {inspect.getsource(cls)}"
    except (OSError, TypeError):
        methods = {key: f.__code__ for key, f in sorted(vars(cls).items()) if hasattr(f, "__code__")}
        return f"{name} { {key: (code.co_code, str(code.co_consts), code.co_names) for key, code in methods.items()} }"
