"""A report as data: what was recorded, and the figures derived from it. It travels as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_gair.checks import require_int, require_path
from art_gair.report.codec import decode, encode
from art_gair.report.results import NOT_ATTACKED, AttackResult, Clean, Examples, Flag, Measurements, Share
from art_gair.report.sound import require_sound
from art_gair.report.statistics import interval, paired_p
from art_gair.report.text import table

SCHEMA = 2
"""Version of the JSON; a reader refuses others."""


@dataclass(frozen=True)
class RobustnessReport:
    """What attacks found about a classifier; made by `evaluate_robustness`.

    :param settings: the arguments that repeat it: `evaluate_robustness(classifier, x, y, **report.settings)`.
    :param environment: versions, device, model, seconds.
    :param labels: int64 (n,).
    :param nb_classes: number of classes.
    :param clean: the model on the samples themselves.
    :param attacks: what each attack did, in the order they ran in.
    :param measurements: what else was recorded, for the signs.
    :param significance: level of each test behind the flags.
    :param flags: signs of gradient masking; empty if there are none.
    :param warnings: what else should be known, AutoAttack's own checks among it.
    :param examples: images before and after, or None if samples are no images.
    :param notes: significant gaps between attacks that honest models show as well: no flags, but worth knowing.
    :param class_names: one name a class, or None.
    :param data_hash: SHA-256 of x and y, by which reports on other samples are told apart.
    """

    settings: dict[str, Any]
    environment: dict[str, Any]
    labels: NDArray[np.int64]
    nb_classes: int
    clean: Clean
    attacks: list[AttackResult]
    measurements: Measurements
    significance: float
    flags: list[Flag]
    warnings: list[str]
    examples: Examples | None
    notes: list[Flag] = field(default_factory=list)
    class_names: list[str] | None = None
    data_hash: str = ""

    @property
    def curve(self) -> list[tuple[float, int, int]]:
        """(eps, samples right, samples) under PGD-20, on a random subset."""
        return self.measurements.curve

    @property
    def detectable_gap(self) -> int:
        """Samples that one attack must break and another not, at the least, for their paired test to tell."""
        return next(gained for gained in count(1) if paired_p(gained, 0) < self.significance)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def robust(self) -> NDArray[np.bool_]:
        """Which samples are classified right and withstand every attack: bool (n,)."""
        broken: NDArray[np.bool_] = np.any([~self.clean.correct, *(a.broken for a in self.attacks)], axis=0)
        return ~broken

    @property
    def worst_case(self) -> float:
        """Share of the samples that withstand every attack, 0..1: the headline."""
        return float(self.robust.mean())

    @property
    def worst_case_interval(self) -> tuple[float, float]:
        """Its Clopper-Pearson interval, 95 %."""
        return interval(int(self.robust.sum()), self.n)

    @property
    def clean_accuracy(self) -> float:
        """Share of the samples classified right, 0..1."""
        return float(self.clean.correct.mean())

    def attack(self, name: str) -> AttackResult:
        """Return what the attack of this name did.

        :raises TypeError: if name is no str.
        :raises KeyError: with the names there are.
        """
        if not isinstance(name, str):
            raise TypeError(f"name is {name!r}; expected that of an attack, a str.")
        for result in self.attacks:
            if result.name == name:
                return result
        raise KeyError(f"no attack {name!r} in the report; it has {[a.name for a in self.attacks]}.")

    def complete(self, name: str) -> bool:
        """Whether the attack was let loose on every sample classified right, so that its own accuracy is known."""
        return bool(self.attack(name).attacked[self.clean.correct].all())

    def accuracy(self, name: str) -> float | None:
        """Accuracy under one attack alone, 0..1; None where a cascade spared it samples."""
        if not self.complete(name):
            return None
        return float((self.clean.correct & ~self.attack(name).broken).mean())

    def standing_after(self, name: str) -> float:
        """Share that withstands this attack and all before it, 0..1."""
        last, standing = self.attack(name), self.clean.correct.copy()
        for result in self.attacks:
            standing &= ~result.broken
            if result is last:
                break
        return float(standing.mean())

    @property
    def kappa(self) -> NDArray[np.int64] | None:
        """Looks of PGD-20 that still found the class, 0..20, int64 (n,), -1 where misclassified clean."""
        return next((a.kappa for a in self.attacks if a.kappa is not None), None)

    @property
    def adversarial_margins(self) -> NDArray[np.float64]:
        """Least margin over all attacks and the sample itself, float64 (n,), -1..1."""
        margins: NDArray[np.float64] = np.fmin.reduce([self.clean.margins, *(a.margins for a in self.attacks)])
        return margins

    @property
    def adversarial_predictions(self) -> NDArray[np.int64]:
        """Class of the sample where its margin is least over all attacks, int64 (n,)."""
        margins, classes = self.clean.margins.copy(), self.clean.predictions.copy()
        for attack in self.attacks:
            lower = attack.attacked & (attack.margins < margins)
            margins[lower], classes[lower] = attack.margins[lower], attack.predictions[lower]
        return classes

    def by_class(self) -> list[Share]:
        """Clean and robust samples of each class that occurs."""
        return self._shares(self.labels)

    def by_kappa(self) -> list[Share]:
        """Clean and robust samples for each kappa that occurs; misclassified ones are not attacked and have none."""
        return [] if self.kappa is None else [s for s in self._shares(self.kappa) if s.value != NOT_ATTACKED]

    @property
    def worst_class(self) -> Share:
        """The class of least robust accuracy."""
        return min(self.by_class(), key=lambda share: share.robust / share.n)

    def confusion(self) -> NDArray[np.int64]:
        """Samples of each class (rows) by the class that the worst attack makes of them: (nb_classes, nb_classes)."""
        counts = np.zeros((self.nb_classes, self.nb_classes), dtype=np.int64)
        np.add.at(counts, (self.labels, self.adversarial_predictions), 1)
        return counts

    def class_name(self, value: int) -> str:
        """Return the name of a class, or its number where no names were given.

        :raises TypeError, ValueError: if value is no class, 0 to nb_classes - 1.
        """
        value = require_int(value, "value", at_least=0, at_most=self.nb_classes - 1)
        return str(value) if self.class_names is None else self.class_names[value]

    def subset(self, rows: NDArray[np.int64]) -> RobustnessReport:
        """Return the report on some rows, int64 (m,), which may repeat.

        Flags and notes stay those of all rows, `art_gair.evaluation.judge` finds the rows' own. Counts of projected
        examples, times, examples and the curve stay too, since they cannot be taken apart.

        :raises TypeError, ValueError: if rows are no whole numbers, or no rows of the report.
        """
        rows = _require_rows(rows, self.n)
        clean = Clean(self.clean.correct[rows], self.clean.predictions[rows], self.clean.margins[rows])
        measurements = replace(
            self.measurements, useless=self.measurements.useless[rows], differing=self.measurements.differing[rows]
        )
        attacks = [attack.subset(rows) for attack in self.attacks]
        return replace(self, labels=self.labels[rows], clean=clean, measurements=measurements, attacks=attacks)

    def _shares(self, values: NDArray[np.int64]) -> list[Share]:
        of = {int(v): values == v for v in np.unique(values)}
        correct, robust = self.clean.correct, self.robust
        return [Share(v, int(s.sum()), int((s & correct).sum()), int((s & robust).sum())) for v, s in of.items()]

    def table(self) -> str:
        """Return the report for a terminal."""
        return table(self)

    def __str__(self) -> str:
        return self.table()

    def to_json(self, path: str | Path) -> None:
        """Write everything to a file, for `from_json`; accuracies stand in it too, for readers of other programs.

        :raises TypeError, ValueError: if path cannot be that of a file.
        :raises OSError: if it cannot be written.
        """
        path = require_path(path, "path", folder=False)
        content = {
            "schema": SCHEMA,
            "worst_case": self.worst_case,
            "worst_case_interval": self.worst_case_interval,
            "clean_accuracy": self.clean_accuracy,
            **encode(self),
        }
        path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | Path) -> RobustnessReport:
        """Read what `to_json` wrote.

        :raises TypeError, ValueError: if path cannot be that of a file; or the file is torn, of another schema, or no
            report.
        :raises OSError: if it cannot be read.
        """
        path = require_path(path, "path", folder=False)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"path {str(path)!r} is no JSON, or torn: {error}") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            schema = content.get("schema") if isinstance(content, dict) else type(content).__name__
            raise ValueError(f"path {str(path)!r} is of schema {schema!r}; this version of art_gair reads {SCHEMA}.")
        try:
            report = decode(cls, {name: content.get(name) for name in (field.name for field in fields(cls))})
            require_sound(report)
        except (TypeError, ValueError) as error:
            raise ValueError(f"path {str(path)!r} is no report: {error}") from error
        return report

    def save(self, folder: str | Path) -> None:
        """Write report.json, report.md, report.html, which holds its figures, and the figures, *.png.

        Figures need matplotlib. Where it is missing or fails they are left out, with a warning.

        :raises TypeError, ValueError: if folder cannot be that of a folder; nothing is written then.
        :raises OSError: if something cannot be written.
        """
        folder = require_path(folder, "folder", folder=True)
        from art_gair.report.save import save

        save(self, folder)


def require_report(value: Any, name: str = "report") -> RobustnessReport:
    """Return the value if it is a report.

    :raises TypeError: if it is none.
    """
    if not isinstance(value, RobustnessReport):
        raise TypeError(f"{name} is {value!r}; expected a RobustnessReport, as evaluate_robustness returns it.")
    return value


def require_reports(reports: Any, names: Any) -> None:
    """Refuse what is no list of reports, at least one, with a name for each.

    :raises TypeError, ValueError: by the argument's name.
    """
    for values, name in ((reports, "reports"), (names, "names")):
        if not isinstance(values, (list, tuple)):
            raise TypeError(f"{name} is {values!r}; expected a list.")
    if not reports:
        raise ValueError("reports is empty; expected at least one.")
    for report in reports:
        require_report(report, "an entry of reports")
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"names is {names!r}; expected strings.")
    if len(names) != len(reports):
        raise ValueError(f"names has {len(names)} entries for {len(reports)} reports; expected one each.")


def _require_rows(rows: Any, n: int) -> NDArray[np.int64]:
    try:
        array = np.asarray(rows if isinstance(rows, (list, tuple, np.ndarray)) else None)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"rows is {rows!r}; expected whole numbers, an array (m,).")
    if array.size and not (array.min() >= 0 and array.max() < n):
        raise ValueError(f"rows are {array.min()} to {array.max()}; expected rows of the report, 0 to {n - 1}.")
    return array.astype(np.int64)
