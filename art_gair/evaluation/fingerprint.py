"""Everything that the results of an evaluation depend on, by name: results under another fingerprint are not reused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn

from art_gair.engine.precision import find_inexact
from art_gair.evaluation.contents import Describer, describe_architecture

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


Description = dict[str, str]
"""Hashes and values by name."""

_left: WeakKeyDictionary[nn.Module, tuple[Description, Description, list[ref[Any]]]] = WeakKeyDictionary()
"""How a model's last evaluation began, how it left the model, and its attacks."""


@contextmanager
def described(classifier: Any, attacks: Sequence[Any] = (), *, needed: bool = True) -> Iterator[Description]:
    """Yield what `describe_contents` says before the evaluation that runs inside, and note how that leaves the model.

    Some models change at a forward pass: they count calls, say. So the description is made before the first one, as a
    new process finds the model too. Where the last evaluation in this process has left what is there now, the state
    that it began with counts, so that an evaluation that was interrupted can be resumed with the same objects.

    :param needed: whether anybody asks; else the description is empty.
    """
    if not needed:
        yield {}
        return
    now = describe_contents(classifier, attacks)
    begun, left, earlier = _left.get(classifier.model, (now, now, []))
    same = [attack() for attack in earlier] == list(attacks)
    unchanged = {name for name, value in now.items() if left.get(name) == value and (same or name != "attacks")}
    before = {name: begun[name] if name in unchanged else value for name, value in now.items()}
    try:
        yield before
    finally:
        _left[classifier.model] = before, describe_contents(classifier, attacks), [ref(attack) for attack in attacks]


def describe_contents(classifier: Any, attacks: Sequence[Any] = ()) -> Description:
    """Return hashes of what a classifier computes and of what attacks on it do.

    :param classifier: the user's PyTorchClassifier.
    :param attacks: the user's own, with all that they hold; a transfer attack's other model too.
    """
    module = classifier.model
    describer = Describer([(classifier, "the classifier")])
    contents: dict[str, Any] = {
        "model's values": describer.values(module),
        "model's architecture": describe_architecture(module),
        "model's attributes": describer.attributes(module),
        "model's source": describer.sources(module),
        "model's hooks": describer.hooks(module),
        "preprocessing": describer.describe(classifier.preprocessing_operations),
        "postprocessing": describer.describe(classifier.postprocessing_defences or []),
        "clip_values": describer.describe(classifier.clip_values),
    }
    if attacks:
        contents["attacks"] = [describer.attack(attack) for attack in attacks]
    return {name: hashlib.sha256(repr(value).encode()).hexdigest() for name, value in contents.items()}


def make_fingerprint(
    contents: Description, device: torch.device, x_hash: str, y_hash: str, settings: dict[str, Any]
) -> Description:
    """Return hashes and values by name.

    :param contents: see `describe_contents`.
    :param device: whose type counts, and how it computes float32.
    :param settings: arguments of the evaluation.
    """
    return {
        **{name: repr(value) for name, value in settings.items() if name != "attacks"},
        **contents,
        **{f"version of {name}": number for name, number in find_versions().items()},
        "device": device.type,
        **find_inexact(device),
        "x": x_hash,
        "y": y_hash,
    }
