"""Gradients added up over several batches are those of one large batch, weights and effective sample size included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_gair import (
    AWP,
    MART,
    TRADES,
    AdversarialTrainerGAIRAT,
    GeometryAwarePGD,
    MarginWeighting,
    TanhWeighting,
    UniformWeighting,
)
from art_gair.objectives import CompositeKL, Objective
from art_gair.plugins import ClipGradients, Plugin
from art_gair.weighting import EntropyWeighting, KLDROWeighting, floored
from tests.models import assert_same_state, classifier_of, conv_net, digits, mlp, state_of


class Weights(Plugin):
    """Notes the loss that is minimised and the gradient norm, before clipping or a step."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def start(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
        self.module = classifier.module

    def after_backward(self) -> None:
        self.norms.append(sum(float(p.grad.norm()) for p in self.module.parameters() if p.grad is not None))


def trained(batch_size: int, accumulate: int, loss: Any = None, lr: float = 0.05, **parts: Any) -> Any:
    """Train on 300 digits, so that the last group is smaller; the attack starts at x, so nothing is drawn for it."""
    torch.manual_seed(0)
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), loss=loss, lr=lr)
    objective = parts.pop("objective", None)
    settings = {} if objective is None else {k: v for k, v in objective.attack.items() if k == "loss"}
    if settings.get("loss") == "kl":
        settings["loss"] = "ce"
    attack = GeometryAwarePGD(classifier, eps=0.2, eps_step=0.1, max_iter=3, num_random_init=0, **settings)
    plugins = [Weights(), *parts.pop("plugins", [])]
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0, objective=objective, plugins=plugins, **parts)
    trainer.fit(*digits(300), batch_size=batch_size, accumulate=accumulate, nb_epochs=2, seed=1, verbose=False)
    return trainer


def assert_alike(a: Any, b: Any) -> None:
    for name, value in a.classifier.model.state_dict().items():
        torch.testing.assert_close(value, b.classifier.model.state_dict()[name], rtol=1e-4, atol=1e-6)
    for one, other in zip(a.history, b.history, strict=True):
        assert one["kappa_histogram"] == other["kappa_histogram"]
        assert one["weight_histogram"] == other["weight_histogram"]
        for key in ("loss", "unweighted_loss", "effective_sample_size", "train_robust_accuracy"):
            assert one[key] == pytest.approx(other[key], rel=1e-5), key
    assert a.plugins[0].norms == pytest.approx(b.plugins[0].norms, rel=1e-4)


WEIGHTINGS = [
    UniformWeighting(),
    TanhWeighting(-1.0),
    MarginWeighting(),
    EntropyWeighting(),
    KLDROWeighting(),
    floored(MarginWeighting(), 0.3),
]


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=repr)
def test_four_batches_of_32_are_one_of_128(weighting: Any) -> None:
    assert_alike(trained(32, 4, weighting=weighting), trained(128, 1, weighting=weighting))


@pytest.mark.parametrize("objective", [TRADES(6.0), MART(5.0), CompositeKL()], ids=repr)
def test_so_they_are_for_each_objective(objective: Objective) -> None:
    assert_alike(trained(32, 4, objective=objective), trained(128, 1, objective=objective))


@pytest.mark.parametrize("plugins", [[AWP(0.01)], [ClipGradients(0.05)], [AWP(0.01), ClipGradients(0.05)]], ids=repr)
def test_plugins_see_the_whole_batch(plugins: list[Plugin]) -> None:
    weights = MarginWeighting()
    assert_alike(
        trained(32, 4, weighting=weights, plugins=plugins), trained(128, 1, weighting=weights, plugins=plugins)
    )


LOSSES: dict[str, tuple[Any, float]] = {
    "class weights": (nn.CrossEntropyLoss(weight=torch.linspace(0.2, 3, 10)), 0.05),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), 0.05 / 128),
    "smoothing too": (nn.CrossEntropyLoss(weight=torch.linspace(0.2, 3, 10), label_smoothing=0.1), 0.05),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_classifiers_loss_is_reduced_over_the_whole_batch(name: str) -> None:
    loss, lr = LOSSES[name]
    assert_alike(trained(32, 4, loss, lr), trained(128, 1, loss, lr))


def test_one_batch_a_step_is_the_training_without_accumulation_bit_for_bit() -> None:
    assert_same_state(trained(32, 1).classifier.model, state_of(trained(32, 1).classifier.model))


def test_steps_are_counted_after_accumulation() -> None:
    trainer = trained(32, 4)
    assert len(trainer.plugins[0].norms) == 2 * 3  # 300 samples: 10 batches, groups of 4, 4 and 2


def test_logits_for_the_weights_leave_no_trace_in_buffers_and_generators() -> None:
    """BatchNorm and Dropout: the extra forward for the weights is undone, and draws the masks of the real one."""
    seen: list[Tensor] = []

    def weighting(*, logits: Tensor, labels: Tensor, **batch: Any) -> Tensor:
        seen.append(logits)
        return torch.ones(len(labels))

    class Notes(Plugin):
        def start(self, classifier: Any, optimizer: torch.optim.Optimizer) -> None:
            self.module, self.moved = classifier.module, 0

        def after_step(self) -> None:
            self.moved = int(self.module[1].num_batches_tracked)

    torch.manual_seed(0)
    classifier = classifier_of(conv_net(), (1, 8, 8))
    attack = GeometryAwarePGD(classifier, max_iter=1, num_random_init=0)
    notes = Notes()
    trainer = AdversarialTrainerGAIRAT(classifier, attack, weighting, burn_in=0, plugins=[notes])
    used: list[Tensor] = []
    hook = classifier.model.register_forward_hook(lambda m, i, out: used.append(out.detach()) if m.training else None)
    trainer.fit(*digits(64), batch_size=16, accumulate=4, nb_epochs=1, verbose=False)
    hook.remove()
    assert notes.moved == 4
    assert torch.equal(torch.cat(used[-4:]), seen[-1])


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_useless_number_is_refused(value: Any, error: Any) -> None:
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
    before = state_of(classifier.model)
    with pytest.raises(error, match=f"accumulate is {value}; expected an int of at least 1"):
        AdversarialTrainerGAIRAT(classifier).fit(*digits(16), accumulate=value)
    assert_same_state(classifier.model, before)


def test_generators_accumulate_too() -> None:
    x, y = digits(96)
    batches = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 96, 32)]
    whole = [(x, y)]
    models = []
    for generator, accumulate in ((batches, 3), (whole, 1)):
        torch.manual_seed(0)
        classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
        attack = GeometryAwarePGD(classifier, max_iter=2, num_random_init=0)
        trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0)
        trainer.fit_generator(generator, nb_epochs=2, accumulate=accumulate, verbose=False)
        models.append(np.concatenate([p.detach().numpy().ravel() for p in classifier.model.parameters()]))
    np.testing.assert_allclose(models[0], models[1], rtol=1e-4, atol=1e-6)
