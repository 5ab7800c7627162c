"""What an evaluation found, as data: figures derive from it, and it travels as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_gair.report.statistics import interval

SCHEMA = 1
"""Version of the JSON; a reader refuses others."""

NOT_ATTACKED = -1


@dataclass
class AttackResult:
    """What one attack did to each of n samples.

    :param attacked: bool (n,): which samples it was let loose on.
    :param broken: bool (n,): which of them are misclassified in one of its tries.
    :param tries: the same of each try alone.
    :param predictions: int64 (n,): class of the example of least margin, -1 where not attacked.
    :param margins: float64 (n,): p_y less the largest other probability there, -1..1; NaN where not attacked.
    :param kappa: int64 (n,) of its first try, -1 where not attacked; None if it counts none.
    :param seconds: wall time.
    :param notes: what the attack's own code warned of.
    :param projected: examples that lay outside the ball or clip_values by more than rounding; they were projected back
        before they were judged.
    :param discarded: examples that could not be judged, such as NaN; the sample itself was judged in their place.
    """

    name: str
    title: str
    black_box: bool
    attacked: NDArray[np.bool_]
    broken: NDArray[np.bool_]
    tries: dict[str, NDArray[np.bool_]]
    predictions: NDArray[np.int64]
    margins: NDArray[np.float64]
    kappa: NDArray[np.int64] | None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    projected: int = 0
    discarded: int = 0

    @classmethod
    def empty(cls, attack: Any, n: int) -> AttackResult:
        """Nothing attacked yet."""
        no, unknown = np.zeros(n, dtype=np.bool_), np.full(n, NOT_ATTACKED, dtype=np.int64)
        return cls(
            *(attack.name, attack.title, attack.black_box, no, no.copy(), {}, unknown),
            *(np.full(n, np.nan), None),
        )


@dataclass(frozen=True)
class Flag:
    """A sign of gradient masking: a robust accuracy that its model will not keep."""

    name: str
    evidence: str
    rule: str
    p_value: float | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}"


@dataclass(frozen=True)
class Clean:
    """The model on the samples themselves.

    :param correct: bool (n,).
    :param predictions: int64 (n,).
    :param margins: float64 (n,): p_y less the largest other probability, -1..1.
    """

    correct: NDArray[np.bool_]
    predictions: NDArray[np.int64]
    margins: NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Images before and after PGD-20: those driven deepest into a wrong class, then those that hold out best.

    :param clean: and `adversarial`: uint8 (k, channels, height, width), 0..255 over the range of clip_values.
    :param labels: and `predictions`: int64 (k,).
    :param margins: float64 (k,), of the adversarial image.
    """

    clean: NDArray[np.uint8]
    adversarial: NDArray[np.uint8]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    margins: NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """Samples of a kind, and how many withstand: for each class, for each kappa."""

    value: int
    n: int
    clean: int
    robust: int


@dataclass(frozen=True)
class RobustnessReport:
    """What attacks found about a classifier; made by `evaluate_robustness`.

    :param settings: the arguments that repeat it: `evaluate_robustness(classifier, x, y, **report.settings)`.
    :param environment: versions, device, model, seconds.
    :param labels: int64 (n,).
    :param nb_classes: number of classes.
    :param clean: the model on the samples themselves.
    :param attacks: what each attack did, in the order they ran in.
    :param curve: (eps, samples right, samples) under PGD-20, on a random subset.
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
    curve: list[tuple[float, int, int]]
    flags: list[Flag]
    warnings: list[str]
    examples: Examples | None
    notes: list[Flag] = field(default_factory=list)
    class_names: list[str] | None = None
    data_hash: str = ""

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

        :raises KeyError: with the names there are.
        """
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
        standing = self.clean.correct.copy()
        for result in self.attacks:
            standing &= ~result.broken
            if result.name == name:
                return float(standing.mean())
        raise KeyError(f"no attack {name!r} in the report; it has {[a.name for a in self.attacks]}.")

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
        found = np.zeros((self.nb_classes, self.nb_classes), dtype=np.int64)
        np.add.at(found, (self.labels, self.adversarial_predictions), 1)
        return found

    def _shares(self, values: NDArray[np.int64]) -> list[Share]:
        of = {int(v): values == v for v in np.unique(values)}
        correct, robust = self.clean.correct, self.robust
        return [Share(v, int(s.sum()), int((s & correct).sum()), int((s & robust).sum())) for v, s in of.items()]

    def table(self) -> str:
        """The report for a terminal."""
        from art_gair.report.write import table

        return table(self)

    def __str__(self) -> str:
        return self.table()

    def to_json(self, path: str | Path) -> None:
        """Write everything to a file, for `from_json`; accuracies stand in it too, for readers of other programs."""
        content = {
            "schema": SCHEMA,
            "worst_case": self.worst_case,
            "worst_case_interval": self.worst_case_interval,
            "clean_accuracy": self.clean_accuracy,
            **{name: _plain(getattr(self, name)) for name in self.__dataclass_fields__},
        }
        Path(path).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | Path) -> RobustnessReport:
        """Read what `to_json` wrote.

        :raises ValueError: if the file is of another schema, or no report.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            came = content.get("schema") if isinstance(content, dict) else type(content).__name__
            raise ValueError(f"{path} is of schema {came!r}; this version of art_gair reads {SCHEMA}.")
        clean = content["clean"]
        return cls(
            settings=content["settings"],
            environment=content["environment"],
            labels=_array(content["labels"], np.int64),
            nb_classes=content["nb_classes"],
            clean=Clean(
                *(_array(clean["correct"], np.bool_), _array(clean["predictions"], np.int64)),
                _array(clean["margins"], np.float64),
            ),
            attacks=[_attack(a) for a in content["attacks"]],
            curve=[(eps, right, n) for eps, right, n in content["curve"]],
            flags=[Flag(**flag) for flag in content["flags"]],
            warnings=content["warnings"],
            examples=None if content["examples"] is None else _examples(content["examples"]),
        )

    def save(self, folder: str | Path) -> None:
        """Write report.json, report.md, report.html, which holds its figures, and the figures, *.png.

        :raises ImportError: without matplotlib, with the command that installs it; nothing is written then.
        """
        from art_gair.report.write import save

        save(self, Path(folder))


def compare(reports: Sequence[RobustnessReport], names: Sequence[str] | None = None) -> str:
    """Set methods side by side, a column each: a Markdown table.

    :param reports: of the same samples, eps and norm.
    :param names: of the columns.
    :raises ValueError: if there is none, if names are too many or few, or samples, eps or norm differ.
    """
    from art_gair.report.write import comparison

    if not reports:
        raise ValueError("reports is empty; expected at least one.")
    names = [f"model {i + 1}" for i in range(len(reports))] if names is None else names
    if len(names) != len(reports):
        raise ValueError(f"names has {len(names)} entries for {len(reports)} reports; expected one each.")
    for setting in ("eps", "norm"):
        came = {report.settings[setting] for report in reports}
        if len(came) > 1:
            raise ValueError(f"reports were made with {setting} {sorted(map(str, came))}; expected the same in all.")
    if any(not np.array_equal(report.labels, reports[0].labels) for report in reports):
        raise ValueError("reports are of different samples: their labels differ; expected the same in all.")
    return comparison(reports, names)


def _plain(value: Any) -> Any:
    """Turn dataclasses and arrays into what JSON can hold; NaN becomes null, images base64."""
    if isinstance(value, np.ndarray):
        if value.dtype == np.uint8:
            return {"shape": value.shape, "base64": base64.b64encode(value.tobytes()).decode()}
        if value.dtype == np.float64:
            return [None if np.isnan(v) else v for v in value.tolist()]
        return value.astype(np.int64).tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def _array(value: Any, dtype: Any) -> NDArray[Any]:
    return np.array([np.nan if v is None else v for v in value], dtype=dtype)


def _image(value: dict[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(value["base64"]), dtype=np.uint8).reshape(value["shape"])


def _attack(value: dict[str, Any]) -> AttackResult:
    arrays = {"attacked": np.bool_, "broken": np.bool_, "predictions": np.int64, "margins": np.float64}
    value |= {name: _array(value[name], dtype) for name, dtype in arrays.items()}
    value["tries"] = {name: _array(mask, np.bool_) for name, mask in value["tries"].items()}
    value["kappa"] = None if value["kappa"] is None else _array(value["kappa"], np.int64)
    return AttackResult(**value)


def _examples(value: dict[str, Any]) -> Examples:
    labels, predictions = (_array(value[name], np.int64) for name in ("labels", "predictions"))
    images = (_image(value["clean"]), _image(value["adversarial"]))
    return Examples(*images, labels, predictions, _array(value["margins"], np.float64))
