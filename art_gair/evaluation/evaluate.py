"""The door to the robustness report."""

from __future__ import annotations

import hashlib
import logging
import platform
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from art_gair import generators
from art_gair.attacks.norms import find_norm
from art_gair.checks import require_int, require_number
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.fast import FastClassifier
from art_gair.evaluation.attacks import AUTOATTACK_RAND, PRESETS, Attack, AutoAttack
from art_gair.evaluation.autoattack import require_autoattack
from art_gair.evaluation.runner import Runner, Store
from art_gair.evaluation.signs import (
    CURVE_SAMPLES,
    REPEATABLE,
    Evidence,
    find_flags,
    gradients_useless,
    measure_curve,
)
from art_gair.evaluation.threat import Threat
from art_gair.logits import probability_margins
from art_gair.report.data import Clean, Examples, RobustnessReport

logger = logging.getLogger(__name__)

SHOWN = 5
"""Best and worst examples each."""

PACKAGES = ("art_gair", "adversarial-robustness-toolbox", "torch", "numpy", "scipy", "pyautoattack")


def evaluate_robustness(
    classifier: Any,
    x: Any,
    y: Any,
    eps: float,
    norm: float | str = np.inf,
    preset: str = "quick",
    seed: int = 0,
    *,
    cascade: bool = False,
    batch_size: int = 128,
    resume_from: str | Path | None = None,
    verbose: bool = True,
) -> RobustnessReport:
    """Attack a classifier in many ways and report the worst case, with the signs that even it may be too good.

    No single attack can be believed: each sample counts as robust only if it withstands all of them. The attacks'
    random draws come from `seed` alone; torch's generator is left as it was. The model is evaluated in eval mode and
    left as it was; verdicts come from the model itself, never from a faster copy of it.

    :param classifier: any ART PyTorchClassifier with clip_values and PyTorch preprocessing, trained by whatever.
    :param x: samples (n, *input_shape) inside clip_values.
    :param y: true classes, indices (n,) or one-hot (n, nb_classes).
    :param eps: radius of the ball, in units of x.
    :param norm: np.inf, "inf", 2 or 1.
    :param preset: "quick": PGD-20 on the cross entropy, on the margin loss, and on scaled logits; "standard": PGD+ and
        Square as well; "full": AutoAttack too, in its version for randomised models where the model is one. Square and
        AutoAttack are their authors' code: `pip install art_gair[autoattack]`.
    :param seed: of all random draws, at least 0.
    :param cascade: let each attack loose only on what the earlier ones left standing: faster, but the accuracy under
        one attack alone is then not known, except where a comparison needs it.
    :param batch_size: samples at once.
    :param resume_from: a folder that keeps each attack's result; a call that was killed goes on there.
    :param verbose: show a progress bar, with an estimate of the time.
    :return: the report.
    :raises EstimatorError: if the classifier is no PyTorchClassifier.
    :raises ImportError: if the preset needs pyautoattack and it is missing.
    :raises NotImplementedError: if the classifier has numpy preprocessing.
    :raises TypeError, ValueError: if an argument is unusable, by its name, before any attack.
    """
    find_norm(norm)
    eps = require_number(eps, "eps", above=0.0)
    batch_size = require_int(batch_size, "batch_size", at_least=1)
    seed = require_int(seed, "seed", at_least=0)
    for flag, name in ((cascade, "cascade"), (verbose, "verbose")):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} is {flag!r}; expected True or False.")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; expected one of {', '.join(map(repr, PRESETS))}.")
    attacks = PRESETS[preset]
    tensor_classifier = FastClassifier(classifier)
    inputs, labels = _checked(tensor_classifier, x, y, autoattack=any(isinstance(a, AutoAttack) for a in attacks))
    settings = {"eps": eps, "norm": "inf" if norm in (np.inf, "inf") else int(norm), "preset": preset, "seed": seed}
    settings |= {"cascade": cascade, "batch_size": batch_size}
    store = (
        None if resume_from is None else Store(resume_from, _fingerprint(tensor_classifier, inputs, labels, settings))
    )
    began = time.perf_counter()
    with tqdm(total=1.0, desc="Robustness", disable=not verbose, leave=False, bar_format=BAR) as bar:
        threat = Threat(tensor_classifier, norm, eps, batch_size, moved=lambda n: _forward(bar, bar.n + n))
        with generators.restored():
            generators.seed(tensor_classifier.device, seed)
            return _evaluate(threat, inputs, labels, attacks, settings, store, bar, began)


BAR = "{desc}{percentage:3.0f}%|{bar}| {elapsed}"


def _forward(bar: Any, passes: float) -> None:
    """Move the bar to this number of passes, never back nor beyond its end."""
    bar.update(max(0.0, min(passes, bar.total) - bar.n))


def _evaluate(
    threat: Threat,
    x: Tensor,
    labels: Tensor,
    attacks: tuple[Attack, ...],
    settings: dict[str, Any],
    store: Store | None,
    bar: Any,
    began: float,
) -> RobustnessReport:
    first, second = threat.logits(x), threat.logits(x)
    if not torch.isfinite(first).all():
        bad = int((~torch.isfinite(first)).any(dim=1).sum())
        raise ValueError(f"the classifier's model returned NaN or infinite logits for {bad} of {len(x)} samples of x.")
    correct = ((first.argmax(dim=1) == labels) & (second.argmax(dim=1) == labels)).numpy()
    noise = float((first - second).abs().max() / first.abs().max().clamp_min(1e-30))
    warned = _warnings(first, correct)
    if noise > REPEATABLE:
        attacks = tuple(AUTOATTACK_RAND if a.name == AUTOATTACK_RAND.name else a for a in attacks)
    subset = torch.randperm(len(x))[:CURVE_SAMPLES].sort().values
    seconds = _estimate(threat, x, labels, attacks, int(correct.sum()), bar)
    runner = Runner(threat, x, labels, settings["seed"], store)
    standing, passes = correct.copy(), 0.0
    for attack in attacks if correct.any() else ():
        bar.set_description(f"Robustness, about {_span(seconds)}: {attack.title}")
        result = runner.run(attack, standing if settings["cascade"] else correct)
        standing, passes = standing & ~result.broken, passes + attack.passes * int(correct.sum())
        _forward(bar, passes)
    # What follows does not depend on which attacks came from the store.
    generators.seed(threat.classifier.device, settings["seed"])
    bar.set_description("Robustness: signs of masking")
    evidence = Evidence(
        runner,
        correct,
        gradients_useless(threat, x.float(), labels),
        (first.argmax(dim=1) != second.argmax(dim=1)).numpy(),
        noise,
        measure_curve(threat, x[subset], labels[subset], correct[subset.numpy()]),
        max(1.0 / threat.classifier.nb_classes, float(labels.bincount().max()) / len(labels)),
    )
    flags = find_flags(evidence)
    results = list(runner.results.values())
    for result in results:
        warned += [f"{result.title}: {note}" for note in dict.fromkeys(result.notes)]
    return RobustnessReport(
        settings=settings,
        environment=_environment(threat.classifier, time.perf_counter() - began),
        labels=labels.numpy(),
        nb_classes=threat.classifier.nb_classes,
        clean=Clean(correct, first.argmax(dim=1).numpy(), probability_margins(first, labels).numpy()),
        attacks=results,
        curve=evidence.curve,
        flags=flags,
        warnings=warned,
        examples=_examples(threat, x, labels, runner),
    )


def _checked(tensor_classifier: FastClassifier, x: Any, y: Any, *, autoattack: bool) -> tuple[Tensor, Tensor]:
    if tensor_classifier.box is None:
        raise ValueError(
            "the classifier has no clip_values; attacks need the range of valid inputs, for instance (0, 1)."
        )
    span = tensor_classifier.box.upper - tensor_classifier.box.lower
    if not torch.isfinite(span).all():
        raise ValueError("the classifier's clip_values are infinite; attacks need a finite range of valid inputs.")
    if autoattack:
        require_autoattack()
        if (span != span.flatten()[0]).any():
            raise ValueError(
                "the classifier's clip_values span ranges of different lengths; AutoAttack's code needs one for all "
                "features, so that eps is one number. Scale the features, or choose preset='quick'."
            )
    inputs = tensor_classifier.inputs(x).cpu()
    return inputs, tensor_classifier.labels(y, len(inputs)).cpu()


def _warnings(logits: Tensor, correct: NDArray[np.bool_]) -> list[str]:
    """What a user should know at once; each is a UserWarning too."""
    found = []
    sums = logits.double().sum(dim=1)
    if logits.min() >= 0.0 and logits.max() <= 1.0 and ((sums - 1.0).abs() < 1e-4).all():
        found.append(
            "the model seems to return probabilities; expected logits. A softmax before the loss hides gradients from "
            "attacks: let the model return what it has before it."
        )
    if not correct.any():
        found.append(
            "no sample is classified right to begin with, so there is nothing to attack: all accuracies are 0."
        )
    for text in found:
        warnings.warn(text, UserWarning, stacklevel=4)
    return found


def _estimate(threat: Threat, x: Tensor, labels: Tensor, attacks: tuple[Attack, ...], n: int, bar: Any) -> float:
    """Seconds the attacks take, about: the passes they make at most, at the pace of a short PGD on the first batch."""
    passes = sum(attack.passes for attack in attacks) * n
    bar.total = max(passes, 1.0)
    rows, still = slice(0, threat.batch_size), Threat(threat.classifier, threat.norm, threat.eps, threat.batch_size)
    still.pgd(x[rows].float(), labels[rows], loss="ce", max_iter=1, step=0.25)  # sets the view up
    began = time.perf_counter()
    still.pgd(x[rows].float(), labels[rows], loss="ce", max_iter=2, step=0.25)
    seconds = (time.perf_counter() - began) / (2 * len(x[rows])) * passes
    logger.info("The evaluation takes about %s.", _span(seconds))
    return seconds


def _span(seconds: float) -> str:
    """Say a time in a unit that suits it."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(1.0, seconds):.0f} s"


def _examples(threat: Threat, x: Tensor, labels: Tensor, runner: Runner) -> Examples | None:
    """Attack the samples once more that PGD-20 moved deepest into a wrong class, and those it moved least."""
    result = runner.results.get("pgd_20")
    if result is None or len(x.shape) != 4:
        return None
    order = np.argsort(result.margins[result.attacked], kind="stable")
    rows = np.flatnonzero(result.attacked)[order]
    rows = np.concatenate([rows[:SHOWN], rows[SHOWN:][::-1][:SHOWN]])
    clean, true = x[rows].float(), labels[rows]
    x_adv, _ = threat.pgd(clean, true, loss="ce", max_iter=20, step=0.25)
    logits = threat.logits(x_adv)
    lower, span = threat.box.lower.cpu(), (threat.box.upper - threat.box.lower).cpu()
    images = [(255 * (z - lower) / span).round().to(torch.uint8).numpy() for z in (clean, x_adv)]
    margins = probability_margins(logits, true).numpy()
    return Examples(images[0], images[1], true.numpy(), logits.argmax(dim=1).numpy(), margins)


def _fingerprint(
    tensor_classifier: FastClassifier, x: Tensor, labels: Tensor, settings: dict[str, Any]
) -> dict[str, str]:
    model = hashlib.sha256()
    for tensor in tensor_classifier.state():
        model.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    data = [hashlib.sha256(np.ascontiguousarray(t.numpy()).tobytes()).hexdigest() for t in (x, labels)]
    own = {name: repr(value) for name, value in settings.items()} | _versions(("art_gair", "pyautoattack"))
    return {**own, "model": model.hexdigest(), "x": data[0], "y": data[1]}


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Those of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _environment(tensor_classifier: TensorClassifier, seconds: float) -> dict[str, Any]:
    device = (
        torch.cuda.get_device_name(tensor_classifier.device)
        if tensor_classifier.device.type == "cuda"
        else platform.processor() or "CPU"
    )
    parameters = sum(p.numel() for p in tensor_classifier.module.parameters())
    return {
        "packages": _versions(PACKAGES),
        "python": platform.python_version(),
        "device": f"{device}, {torch.get_num_threads()} threads" if tensor_classifier.device.type == "cpu" else device,
        "model": f"{type(tensor_classifier.module).__name__}, {parameters} parameters",
        "seconds": seconds,
    }
