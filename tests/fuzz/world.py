"""What a case is made of: small, new for each call, and watched."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from art_gair import AdversarialTrainerGAIRAT, FriendlyPGD, GeometryAwarePGD, generators
from art_gair.plugins import Plugin
from tests.models import classifier_of

SHAPE, NB_CLASSES, N = (4,), 3, 4

FLAG, GRADIENT = MAY_DIFFER = ("train mode of ", "gradient of ")


class World:
    """A classifier of four features and three classes, four samples, and what is built on them.

    :param list_files: returns what lies in and below the folder that the case may write in.
    """

    def __init__(self, list_files: Callable[[], list[str]]) -> None:
        torch.manual_seed(0)
        self.list_files = list_files
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.1), nn.Linear(5, NB_CLASSES))
        model[1].eval()  # one flag unlike the others; so a batch of one sample can be trained on, too
        self.classifier = classifier_of(model, SHAPE, NB_CLASSES)
        self.x = np.linspace(0, 1, 16, dtype=np.float32).reshape(N, 4)[:, [0, 2, 1, 3]].copy()
        self.y = np.array([0, 1, 2, 0])
        self.plugins: list[Plugin] = []

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.classifier.optimizer  # type: ignore[no-any-return]

    @cached_property
    def attack(self) -> FriendlyPGD:
        return FriendlyPGD(self.classifier, eps=0.2, eps_step=0.1, max_iter=1, batch_size=3)

    @cached_property
    def trainer(self) -> AdversarialTrainerGAIRAT:
        return AdversarialTrainerGAIRAT(self.classifier, self.attack, burn_in=0, plugins=self.plugins)

    def other_classifier(self, **settings: Any) -> Any:
        """Return a classifier on a copy of the model, its optimizer on the copy's parameters."""
        return classifier_of(copy.deepcopy(self.classifier.model), SHAPE, NB_CLASSES, **settings)

    def other_attack(self, **settings: Any) -> GeometryAwarePGD:
        """Return an attack on the classifier."""
        return GeometryAwarePGD(self.classifier, **{"eps": 0.1, "eps_step": 0.1, "max_iter": 1, **settings})


class Snapshot:
    """What a call may not change: all of it if it refuses, the model and what it was given if it only looks."""

    def __init__(self, world: World, given: list[Any]) -> None:
        self.world, self.given = world, given
        self.model, self.rest = self._model(), self._rest()
        self.inputs = [_content(value) for value in given]

    def require_inputs(self) -> None:
        """Fail if an array that the call was given has another content now."""
        assert self.inputs == [_content(value) for value in self.given], "a value that was given has been changed"

    def require_model(self, *, rest: bool = True) -> None:
        """Fail if the model or its optimizer differ, or, with `rest`, gradients and train/eval flags."""
        now = self._model()
        for name, value in self.model.items():
            assert now[name] == value or (name.startswith(MAY_DIFFER) and not rest), f"{name} has been changed"

    def require_all(self) -> None:
        """Fail if anything differs: the model, the random generators, attributes of objects, files."""
        self.require_model()
        now = self._rest()
        for name, value in self.rest.items():
            assert now[name] == value, f"{name} changed: {value} -> {now[name]}"

    def _model(self) -> dict[str, Any]:
        model, optimizer = self.world.classifier.model, self.world.optimizer
        state = {name: _content(t) for name, t in model.state_dict().items()}
        state |= {f"{GRADIENT}{name}": _content(p.grad) for name, p in model.named_parameters()}
        state |= {f"requires_grad of {name}": p.requires_grad for name, p in model.named_parameters()}
        state |= {f"{FLAG}{name!r}": m.training for name, m in model.named_modules()}
        groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        moments = [{k: _content(v) for k, v in entry.items()} for entry in optimizer.state.values()]
        return {**state, "settings of the optimizer": repr(groups), "state of the optimizer": moments}

    def _rest(self) -> dict[str, Any]:
        objects = [self.world, *filter(_is_of_the_package, self.given)]
        objects += [self.world.classifier, self.world.attack, self.world.trainer, *self.world.plugins]
        attributes = {f"attributes of {type(o).__name__} {i}": _attributes(o) for i, o in enumerate(objects)}
        return {
            **attributes,
            "generators": generators.states(torch.device("cpu")),
            "files": self.world.list_files(),
        }


def _content(value: Any) -> Any:
    """Return what an array holds, as bytes; None for anything else."""
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            return None
        flat = value.detach().resolve_conj().contiguous().flatten()
        return (value.shape, value.dtype, flat.view(torch.uint8).numpy().tobytes())
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return (value.shape, value.dtype.str, value.tobytes())
    return None


class _Held:
    """An object that another holds, and its entries if it is a list or dict: equal only to itself with the same ones.

    Holding them here keeps new objects from taking their places in memory.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any) -> None:
        self.value = value
        self.entries = [*value, *value.values()] if isinstance(value, dict) else []
        self.entries += value if isinstance(value, list) else []

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, _Held)
        mine, others = [self.value, *self.entries], [other.value, *other.entries]
        return len(mine) == len(others) and all(a is b for a, b in zip(mine, others, strict=True))

    def __repr__(self) -> str:
        return f"{self.value!r}"


def _attributes(value: Any) -> dict[str, _Held]:
    return {name: _Held(held) for name, held in vars(value).items()}


def _is_of_the_package(value: Any) -> bool:
    return type(value).__module__.split(".")[0] in ("art_gair", "art") and hasattr(value, "__dict__")
