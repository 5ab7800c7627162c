"""The door to the robustness report."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_gair import generators
from art_gair.attacks.norms import find_norm
from art_gair.checks import require_int, require_path
from art_gair.distributed.group import Group, require_same
from art_gair.distributed.speaking import speaking
from art_gair.distributed.start import find_group
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.fast import FastClassifier
from art_gair.engine.placing import place
from art_gair.evaluation.attacks import AUTOATTACK_RAND, PGD_20, PRESETS, Attack, adapt_attacks
from art_gair.evaluation.environment import describe_environment
from art_gair.evaluation.examples import find_examples
from art_gair.evaluation.fingerprint import Description, described, make_fingerprint
from art_gair.evaluation.gaps import find_incomplete
from art_gair.evaluation.measure import (
    CURVE_SAMPLES,
    REPEATABLE,
    CleanPasses,
    require_predict,
    run_clean_passes,
    run_measurements,
)
from art_gair.evaluation.progress import Progress, estimate_seconds
from art_gair.evaluation.request import (
    Request,
    check_class_names,
    check_data,
    check_flag,
    check_preset,
    check_radii,
    folder_of,
    is_list,
)
from art_gair.evaluation.runner import Runner
from art_gair.evaluation.signs import judge, significance
from art_gair.evaluation.store import Store
from art_gair.evaluation.threat import Threat
from art_gair.evaluation.warn import warn_of_attack, warn_of_model
from art_gair.hashing import hash_tensor
from art_gair.report.data import RobustnessReport
from art_gair.report.results import NOT_ATTACKED, SMALLER_EPS, AttackResult

logger = logging.getLogger(__name__)


@overload
def evaluate_robustness(
    classifier: Any,
    x: Any,
    y: Any,
    eps: float,
    norm: float | str = ...,
    preset: str = ...,
    seed: int = ...,
    *,
    attacks: Sequence[Any] | None = ...,
    class_names: Sequence[str] | None = ...,
    cascade: bool = ...,
    batch_size: int = ...,
    resume_from: str | Path | None = ...,
    verbose: bool = ...,
    distributed: bool | None = ...,
) -> RobustnessReport: ...


@overload
def evaluate_robustness(
    classifier: Any,
    x: Any,
    y: Any,
    eps: Sequence[float],
    norm: float | str = ...,
    preset: str = ...,
    seed: int = ...,
    *,
    attacks: Sequence[Any] | None = ...,
    class_names: Sequence[str] | None = ...,
    cascade: bool = ...,
    batch_size: int = ...,
    resume_from: str | Path | None = ...,
    verbose: bool = ...,
    distributed: bool | None = ...,
) -> list[RobustnessReport]: ...


def evaluate_robustness(
    classifier: Any,
    x: Any,
    y: Any,
    eps: float | Sequence[float],
    norm: float | str = np.inf,
    preset: str = "quick",
    seed: int = 0,
    *,
    attacks: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    cascade: bool = False,
    batch_size: int = 128,
    resume_from: str | Path | None = None,
    verbose: bool = True,
    distributed: bool | None = None,
) -> RobustnessReport | list[RobustnessReport]:
    """Attack a classifier in many ways and report the worst case, with the signs that even it may be too good.

    No single attack can be believed: each sample counts as robust only if it withstands all of them. The attacks'
    random draws come from `seed` alone; torch's generator is left as it was. The model is evaluated in eval mode and
    left as it was; verdicts come from the model itself, never from a faster copy of it. What is attacked is float32(x),
    as the model sees it; every example is projected into its ball in double precision before it is judged.

    Memory: x is shared, memory maps too, and never copied as a whole. Beside it stand some twenty copies of a chunk
    (4 MiB of float32, `CHUNK` in `art_gair.evaluation.runner`, or one batch if that is more), the model's passes, and
    some 50 bytes a sample and attack.

    :param classifier: any ART PyTorchClassifier with clip_values and PyTorch preprocessing, trained by whatever.
    :param x: samples (n, *input_shape) inside clip_values.
    :param y: true classes, indices (n,) or one-hot (n, nb_classes).
    :param eps: radius of the ball, in units of x. A list of radii gives a list of reports, in its order; a sample that
        fell within a smaller ball counts as fallen within the larger ones.
    :param norm: np.inf, "inf", 2 or 1.
    :param preset: "quick": PGD-20 on the cross entropy, on the margin loss, and on scaled logits; "standard": PGD+ and
        Square as well; "full": AutoAttack too, in its version for randomised models where the model is one. Square and
        AutoAttack are their authors' code: `pip install pyautoattack`.
    :param seed: of all random draws, at least 0.
    :param attacks: further attacks, which count in the worst case: untargeted ART evasion attacks on this classifier
        or, for transfer, on another one, within the report's ball.
    :param class_names: one name a class, for tables and figures.
    :param cascade: attack only samples that survived the earlier attacks: faster, but the accuracy under one attack
        alone is then not known, except where a comparison needs it.
    :param batch_size: samples at once.
    :param resume_from: a folder that keeps each attack's result; a call that was killed goes on there. Results of
        another model, preprocessing, data, version or setting are refused, as the model is at the time of the call.
    :param verbose: show a progress bar, with an estimate of the time, where the output is a terminal.
    :param distributed: as for `fit`: None: on all processes that torchrun has started, each of which must make this
        call; each attacks a part of the samples, with random draws of its own, and all return the same report. False:
        on this process alone.
    :return: the report, a RobustnessReport; a list of them for a list of radii.
    :raises EstimatorError: if the classifier is no PyTorchClassifier.
    :raises ImportError: if the preset needs pyautoattack and it is missing.
    :raises NotImplementedError: if the classifier has numpy preprocessing, or overrides `predict`.
    :raises TypeError, ValueError: if an argument is unusable, by its name, before any attack; or if
        `classifier.predict` is not what the model's logits say, as under a postprocessing defence.
    """
    find_norm(norm)
    radii = check_radii(eps)
    request = Request(
        radii=sorted(radii),
        norm=norm,
        preset=check_preset(preset),
        seed=require_int(seed, "seed", at_least=0, at_most=2**32 - 1),  # as NumPy has it
        attacks=adapt_attacks([] if attacks is None else attacks, min(radii), norm),
        cascade=check_flag(cascade, "cascade"),
        batch_size=require_int(batch_size, "batch_size", at_least=1),
        resume_from=None if resume_from is None else require_path(resume_from, "resume_from", folder=True),
        verbose=check_flag(verbose, "verbose"),
    )
    group = find_group(distributed, TensorClassifier(classifier).device)
    with speaking(first=group.rank == 0), group.together("evaluate_robustness"):
        if group.size > 1:
            place(classifier, group.device)
        tensor_classifier = FastClassifier(classifier)
        names = check_class_names(class_names, tensor_classifier.nb_classes)
        inputs, labels = check_data(tensor_classifier, x, y, autoattack=request.needs_autoattack)
        given, kept = [attack.attack for attack in request.attacks], request.resume_from is not None
        with described(classifier, given, needed=kept or group.size > 1) as contents:
            reports = _evaluate_radii(request, classifier, tensor_classifier, inputs, labels, names, group, contents)
    return reports[radii[0]] if not is_list(eps) else [reports[radius] for radius in radii]


def _evaluate_radii(
    request: Request,
    classifier: Any,
    tensor_classifier: FastClassifier,
    x: Tensor,
    labels: Tensor,
    class_names: list[str] | None,
    group: Group,
    contents: Description,
) -> dict[float, RobustnessReport]:
    """Evaluate from the smallest ball to the largest.

    :param contents: of the classifier and attacks before the first forward pass, see `described`.
    """
    hashes = hash_tensor(x), hash_tensor(labels)
    device = tensor_classifier.device.type
    if group.size > 1:
        settings = {**request.settings(request.radii[0]), "radii": request.radii}
        alike = make_fingerprint(contents, device, *hashes, settings)
        require_same(group, alike, "the evaluation")
    with generators.restored():
        generators.seed(tensor_classifier.device, request.seed)
        plain = Threat(tensor_classifier, request.norm, request.radii[0], request.batch_size)
        passes = group.from_first(run_clean_passes(plain, x, labels))
        require_predict(classifier, plain, passes, x)
        stores = _open_stores(request, contents, device, hashes) if group.rank == 0 else {}
        warnings = warn_of_model(passes.first, passes.correct)
        reports: dict[float, RobustnessReport] = {}
        fallen: NDArray[np.bool_] = np.zeros(len(x), dtype=np.bool_)
        for eps in request.radii:
            began, settings = time.perf_counter(), request.settings(eps)
            generators.seed(tensor_classifier.device, request.seed)
            threat = replace(plain, eps=eps)
            report = _evaluate(request, threat, x, passes, fallen.copy(), settings, stores.get(eps), warnings, group)
            environment = describe_environment(tensor_classifier, time.perf_counter() - began)
            if group.size > 1:
                environment = group.from_first({**environment, "processes": group.size})
            data_hash = hashlib.sha256("".join(hashes).encode()).hexdigest()
            reports[eps] = replace(report, environment=environment, class_names=class_names, data_hash=data_hash)
            fallen = passes.correct & ~reports[eps].robust
    return reports


def _open_stores(request: Request, contents: Description, device: str, hashes: tuple[str, str]) -> dict[float, Store]:
    """Return the store of each radius, empty without `resume_from`; a folder that cannot be used ends it here."""
    stores: dict[float, Store] = {}
    if request.resume_from is not None:
        for eps in request.radii:
            name = folder_of(eps, request.radii) if len(request.radii) > 1 else "."
            stores[eps] = Store(
                request.resume_from / name, make_fingerprint(contents, device, *hashes, request.settings(eps))
            )
    return stores


def _evaluate(
    request: Request,
    threat: Threat,
    x: Tensor,
    passes: CleanPasses,
    fallen: NDArray[np.bool_],
    settings: dict[str, Any],
    store: Store | None,
    warnings: list[str],
    group: Group,
) -> RobustnessReport:
    """Measure first, then judge: attacks, completions that a comparison needs, measurements, signs."""
    correct, labels = passes.correct, passes.labels
    attacks = _choose_attacks(request, passes.noise)
    title = "Robustness" if len(request.radii) == 1 else f"Robustness, eps {threat.eps:.4g}"
    with Progress(
        title, shown=request.verbose and group.rank == 0 and sys.stderr is not None and sys.stderr.isatty()
    ) as progress:
        subset = torch.randperm(len(x))[:CURVE_SAMPLES].sort().values
        seconds = estimate_seconds(threat, x, labels, attacks, int(correct.sum()) / group.size, progress)
        logger.info("The evaluation takes about %s.", seconds)
        runner = Runner(replace(threat, moved=progress.advance), x, labels, request.seed, store, group)
        standing = correct & ~fallen if request.cascade else correct
        for attack in attacks if correct.any() else ():
            progress.name(f"about {seconds}: {attack.title}")
            first = attack.name == PGD_20.name  # the others are compared with it
            result = runner.run(attack, correct if first else standing)
            standing = standing & ~result.broken if request.cascade else standing
        progress.name("signs of masking")
        # What follows does not depend on which attacks came from the store.
        generators.seed(threat.classifier.device, request.seed)
        report = RobustnessReport(
            settings=settings,
            environment={},
            labels=labels.numpy(),
            nb_classes=threat.classifier.nb_classes,
            clean=passes.clean(),
            attacks=_list_results(runner, fallen),
            measurements=run_measurements(threat, x, passes, subset),
            significance=significance(len(request.attacks)),
            flags=[],
            warnings=[],
            examples=find_examples(threat, x, labels, runner.results.get(PGD_20.name)),
        )
        report = group.from_first(report)
        for name in find_incomplete(report):
            runner.complete(name, correct)
    report = replace(report, attacks=_list_results(runner, fallen))
    flags, notes = judge(report)
    texts = [text for result in runner.results.values() for text in warn_of_attack(result)]
    return replace(report, flags=flags, notes=notes, warnings=[*warnings, *texts])


def _choose_attacks(request: Request, noise: float) -> tuple[Attack, ...]:
    """Return the preset's attacks, AutoAttack's for a randomised model where it is one, and the user's."""
    preset = PRESETS[request.preset]
    if noise > REPEATABLE:
        preset = tuple(AUTOATTACK_RAND if a.name == AUTOATTACK_RAND.name else a for a in preset)
    return (*preset, *request.attacks)


def _list_results(runner: Runner, fallen: NDArray[np.bool_]) -> list[AttackResult]:
    """Return what the attacks did, after a row of samples that fell within a smaller ball, if there are any."""
    results = list(runner.results.values())
    if not fallen.any():
        return results
    smaller = AttackResult(
        *(SMALLER_EPS, "attacks within smaller eps", False, fallen, fallen.copy(), {}),
        *(np.full(len(fallen), NOT_ATTACKED, dtype=np.int64), np.full(len(fallen), np.nan), None),
    )
    return [*results, smaller]
