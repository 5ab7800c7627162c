"""The door to the robustness report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from art_gair.attacks.norms import find_norm
from art_gair.checks import require_int, require_path
from art_gair.distributed.speaking import speaking
from art_gair.distributed.start import find_group
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.fast import FastClassifier
from art_gair.engine.placing import place
from art_gair.engine.precision import without_autocast
from art_gair.evaluation.attacks import adapt_attacks
from art_gair.evaluation.fingerprint import described
from art_gair.evaluation.radii import evaluate_radii
from art_gair.evaluation.request import (
    Request,
    check_class_names,
    check_data,
    check_flag,
    check_preset,
    check_radii,
    is_list,
)
from art_gair.report.data import RobustnessReport


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
    left as it was; verdicts come from the model itself, never from a faster copy of it, and in float32, inside
    `torch.autocast` too. What is attacked is float32(x), as the model sees it; every example is projected into its ball
    in double precision before it is judged.

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
    with (
        without_autocast(classifier.device),
        speaking(first=group.rank == 0),
        group.together("evaluate_robustness"),
    ):
        if group.size > 1:
            place(classifier, group.device)
        tensor_classifier = FastClassifier(classifier)
        names = check_class_names(class_names, tensor_classifier.nb_classes)
        inputs, labels = check_data(tensor_classifier, x, y, autoattack=request.needs_autoattack)
        given, kept = [attack.attack for attack in request.attacks], request.resume_from is not None
        with described(classifier, given, needed=kept or group.size > 1) as contents:
            reports = evaluate_radii(request, classifier, tensor_classifier, inputs, labels, names, group, contents)
    return reports[radii[0]] if not is_list(eps) else [reports[radius] for radius in radii]
