"""Whether a report that was read fits together: a file that was changed by hand must not give wrong figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from art_gair.checks import require_int, require_number

if TYPE_CHECKING:
    from art_gair.report.data import RobustnessReport


def require_sound(report: RobustnessReport) -> None:
    """Refuse a report whose parts do not fit together.

    :raises TypeError, ValueError: with what does not fit.
    """
    n, nb_classes = len(report.labels), require_int(report.nb_classes, "nb_classes", at_least=1)
    if n == 0:
        raise ValueError("labels is empty")
    for name, values in _arrays_of_samples(report).items():
        if np.shape(values) != (n,):
            raise ValueError(f"{name} has shape {np.shape(values)} for {n} labels")
    for name, classes in (("labels", report.labels), ("clean.predictions", report.clean.predictions)):
        if classes.min() < 0 or classes.max() >= nb_classes:
            raise ValueError(f"{name} holds classes beyond 0 to {nb_classes - 1}")
    for attack in report.attacks:
        if attack.predictions.min() < -1 or attack.predictions.max() >= nb_classes:
            raise ValueError(f"predictions of {attack.name} hold classes beyond 0 to {nb_classes - 1}")
    if report.class_names is not None and len(report.class_names) != nb_classes:
        raise ValueError(f"class_names has {len(report.class_names)} entries for {nb_classes} classes")
    require_number(report.significance, "significance", above=0.0, below=1.0)
    require_number(report.measurements.chance, "measurements.chance", at_least=0.0, at_most=1.0)
    require_number(report.environment.get("seconds"), "environment's seconds", at_least=0.0)
    require_number(report.settings.get("eps"), "settings' eps", above=0.0)
    missing = [name for name in ("norm", "preset", "seed") if not isinstance(report.settings.get(name), (str, int))]
    if missing:
        raise ValueError(f"settings lack {', '.join(missing)}")


def _arrays_of_samples(report: RobustnessReport) -> dict[str, Any]:
    """Return what has one value a sample, by name."""
    clean, measured = report.clean, report.measurements
    arrays: dict[str, Any] = {f"clean.{name}": getattr(clean, name) for name in ("correct", "predictions", "margins")}
    arrays |= {f"measurements.{name}": getattr(measured, name) for name in ("useless", "differing")}
    for attack in report.attacks:
        names = ("attacked", "broken", "predictions", "margins", *(("kappa",) if attack.kappa is not None else ()))
        arrays |= {f"{name} of {attack.name}": getattr(attack, name) for name in names}
        arrays |= {f"{name} of {attack.name}": broken for name, broken in attack.tries.items()}
    return arrays
