"""Two schemes in one, and a floor under any scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from art_gair.checks import require_number
from art_gair.weighting.base import Weighting, sees_parts
from art_gair.weighting.uniform import UniformWeighting


@dataclass
class Mixed:
    """w = (1 - rho) a + rho b, of two schemes a and b; mean 1 because theirs is.

    :param a: a scheme.
    :param b: another.
    :param rho: share of b, 0..1.
    :raises TypeError, ValueError: if a or b is no scheme, or rho outside 0..1.
    """

    a: Weighting
    b: Weighting
    rho: float

    def __post_init__(self) -> None:
        self.rho = require_number(self.rho, "rho", at_least=0.0, at_most=1.0)
        _require_weighting(self.a, "a")
        _require_weighting(self.b, "b")

    @property
    def needs_kappa(self) -> bool:
        """Whether either scheme does."""
        return any(getattr(scheme, "needs_kappa", False) for scheme in (self.a, self.b))

    @property
    def needs_logits(self) -> bool:
        """Whether either scheme does; one that does not say may."""
        return any(getattr(scheme, "needs_logits", True) for scheme in (self.a, self.b))

    @property
    def sees_parts(self) -> bool:
        """Whether both can weigh a part of a batch, see `art_gair.weighting.base.sees_parts`."""
        return all(sees_parts(scheme) for scheme in (self.a, self.b))

    def __call__(self, *, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int = 0) -> Tensor:
        """Weigh a batch: arguments as in `Weighting`, -> (n,), >= 0, mean 1."""
        batch = {"kappa": kappa, "max_iter": max_iter, "logits": logits, "labels": labels, "epoch": epoch}
        a, b = (_weigh(scheme, name, batch) for scheme, name in ((self.a, "a"), (self.b, "b")))
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape):
            shapes = " and ".join(str(getattr(w, "shape", type(w).__name__)) for w in (a, b))
            raise ValueError(f"weightings a and b returned {shapes}; expected two tensors of one shape.")
        return (1.0 - self.rho) * a + self.rho * b

    def state_dict(self) -> dict[str, Any]:
        """Return the state of those of the two that have one."""
        return {name: scheme.state_dict() for name, scheme in self._stateful().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what an earlier `state_dict` returned."""
        for name, scheme in self._stateful().items():
            scheme.load_state_dict(state[name])

    def _stateful(self) -> dict[str, Any]:
        return {name: s for name, s in (("a", self.a), ("b", self.b)) if hasattr(s, "load_state_dict")}

    def lam_at(self, epoch: int) -> float | None:
        """Return lam of the first of the two that has one."""
        lams = [scheme.lam_at(epoch) for scheme in (self.a, self.b) if hasattr(scheme, "lam_at")]
        return next((lam for lam in lams if lam is not None), None)


def floored(weighting: Weighting, share: float) -> Mixed:
    """Mix a scheme with uniform weights, so that no sample's weight goes under `share`, 0..1 (the mean is 1).

    :raises TypeError, ValueError: if weighting is no scheme, or share outside 0..1.

    >>> import torch
    >>> from art_gair.weighting import DiscreteWeighting
    >>> batch = {"kappa": torch.tensor([0, 3]), "max_iter": 3, "logits": None, "labels": None}
    >>> DiscreteWeighting()(**batch), floored(DiscreteWeighting(), 0.5)(**batch)
    (tensor([1.6000, 0.4000]), tensor([1.3000, 0.7000]))
    """
    _require_weighting(weighting, "weighting")
    require_number(share, "share", at_least=0.0, at_most=1.0)
    return Mixed(weighting, UniformWeighting(), share)


def _require_weighting(scheme: Any, name: str) -> None:
    if not callable(scheme) or isinstance(scheme, type):
        raise TypeError(f"{name} is {scheme!r}; expected a weighting such as TanhWeighting(-1.0).")


def _weigh(scheme: Weighting, name: str, batch: dict[str, Any]) -> Any:
    """Weigh a batch by one of the two.

    :raises TypeError: if it cannot be called as a weighting.
    """
    try:
        return scheme(**batch)
    except TypeError as error:
        raise TypeError(f"weighting {name}, {scheme!r}, fails: {error}") from error
