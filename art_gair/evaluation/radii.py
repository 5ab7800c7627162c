"""The evaluation itself: from the smallest ball to the largest, in each measuring first and judging then."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_gair import generators
from art_gair.distributed.group import Group, require_same
from art_gair.engine.fast import FastClassifier
from art_gair.evaluation.attacks import AUTOATTACK_RAND, PGD_20, PRESETS, Attack
from art_gair.evaluation.environment import describe_environment
from art_gair.evaluation.examples import find_examples
from art_gair.evaluation.fingerprint import Description, make_fingerprint
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
from art_gair.evaluation.request import Request, folder_of
from art_gair.evaluation.runner import Runner
from art_gair.evaluation.signs import judge, significance
from art_gair.evaluation.store import Store
from art_gair.evaluation.threat import Threat
from art_gair.evaluation.warn import warn_of_attack, warn_of_model, warn_of_radius
from art_gair.hashing import hash_tensor
from art_gair.report.data import RobustnessReport
from art_gair.report.results import NOT_ATTACKED, SMALLER_EPS, AttackResult

logger = logging.getLogger(__name__)


def evaluate_radii(
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
    device = tensor_classifier.device
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
            said = [*warnings, *warn_of_radius(x, labels, request.norm, eps)]
            report = _evaluate(request, threat, x, passes, fallen.copy(), settings, stores.get(eps), said, group)
            environment = describe_environment(tensor_classifier, time.perf_counter() - began)
            if group.size > 1:
                environment = group.from_first({**environment, "processes": group.size})
            data_hash = hashlib.sha256("".join(hashes).encode()).hexdigest()
            reports[eps] = replace(report, environment=environment, class_names=class_names, data_hash=data_hash)
            fallen = passes.correct & ~reports[eps].robust
    return reports


def _open_stores(
    request: Request, contents: Description, device: torch.device, hashes: tuple[str, str]
) -> dict[float, Store]:
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
