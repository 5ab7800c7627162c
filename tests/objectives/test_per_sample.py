"""The classifier's loss, one value a sample."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_gair import AdversarialTrainerGAIRAT, Checkpoint, GeometryAwarePGD, UniformWeighting
from art_gair.objectives.per_sample import per_sample, require_untrained
from art_gair.plugins import Plugin
from tests.models import classifier_of

CPU = torch.device("cpu")
LOGITS, LABELS = torch.randn(9, 4), torch.tensor([0, 1, 2, 3, 3, 3, 0, 1, 2])


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 4.0])),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 4.0]), label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 4.0]), reduction="sum"),
        nn.NLLLoss(weight=torch.tensor([1.0, 2.0, 0.5, 4.0])),
        nn.MultiMarginLoss(weight=torch.tensor([1.0, 2.0, 0.5, 4.0])),
    ],
    ids=repr,
)
def test_the_mean_is_the_loss_itself(loss: Any) -> None:
    losses = per_sample(loss, 4, CPU)
    values = losses(LOGITS, LABELS)
    assert values.shape == (9,)
    torch.testing.assert_close(values.mean() * losses.factor(9), loss(LOGITS, LABELS))


@pytest.mark.parametrize("n", [1, 2, 3, 20, 41, 47, 49, 55, 61, 82, 83, 94, 100, 109, 128, 129])
def test_the_values_are_torchs_own_bit_for_bit(n: int) -> None:
    logits, labels = torch.randn(n, 4), torch.randint(4, (n,))
    for make in (nn.CrossEntropyLoss, nn.NLLLoss, partial(nn.CrossEntropyLoss, label_smoothing=0.1)):
        unreduced = make(reduction="none")
        assert torch.equal(per_sample(make(), 4, CPU)(logits, labels), unreduced(logits, labels))


def test_a_loss_without_reduction_is_taken_as_it_is() -> None:
    loss = nn.CrossEntropyLoss(reduction="none")
    assert torch.equal(per_sample(loss, 4, CPU)(LOGITS, LABELS), loss(LOGITS, LABELS))


class NoReduction(nn.Module):
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels)


class ReductionIgnored(NoReduction):
    reduction = "mean"


class OwnMean(nn.CrossEntropyLoss):
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        values = nn.functional.cross_entropy(logits, labels, reduction="none")
        return values if self.reduction == "none" else values.median()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.functional.cross_entropy, "loss cross_entropy has no per-sample form: it is no torch module"),
        (NoReduction(), "loss NoReduction has no per-sample form: it is no torch module with a `reduction`"),
        (ReductionIgnored(), r"loss ReductionIgnored has no per-sample form .*: it gives \(\) values for 7 samples"),
        (OwnMean(), "loss OwnMean has no per-sample form: on 7 samples it is .*, the mean of its values .* Expected"),
        (nn.CrossEntropyLoss(ignore_index=2), "loss CrossEntropyLoss has no per-sample form: on 7 samples"),
        (nn.BCEWithLogitsLoss(), r"loss BCEWithLogitsLoss has no per-sample form on logits \(n, 4\): "),
    ],
)
def test_losses_without_a_per_sample_form_are_refused_by_name(loss: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        per_sample(loss, 4, CPU)


@pytest.mark.parametrize("weight", [None, torch.tensor([10.0, 1.0, 1.0, 1.0])], ids=["plain", "class weights"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_samples_without_a_label_have_no_part_in_the_loss(weight: Any, reduction: str) -> None:
    loss = nn.CrossEntropyLoss(weight=weight, reduction=reduction)
    partly = torch.where(torch.arange(9) < 5, LABELS, -1)
    losses = per_sample(loss, 4, CPU)
    values = losses(LOGITS, partly)
    assert (values[5:] == 0).all()
    torch.testing.assert_close(values.mean() * losses.factor(9), loss(LOGITS[:5], LABELS[:5]))
    assert (per_sample(loss, 4, CPU)(LOGITS, torch.full((9,), -1)) == 0).all()


class Tempered(nn.CrossEntropyLoss):
    def __init__(self) -> None:
        super().__init__()
        self.log_t = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().forward(logits / self.log_t.exp(), labels)


def test_a_loss_that_the_optimizer_trains_is_refused() -> None:
    loss, model = Tempered(), nn.Linear(4, 3)
    both = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=0.1)
    with pytest.raises(ValueError, match="Tempered has parameters that the optimizer trains, log_t"):
        require_untrained(loss, both, model)
    require_untrained(loss, torch.optim.SGD(model.parameters(), lr=0.1), model)
    classifier = classifier_of(model, (4,), 3, loss=loss, optimizer=both)
    with pytest.raises(ValueError, match="log_t"):
        AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier))


class Penalised(nn.Module):
    """Cross entropy and a penalty on parameters that the loss refers to."""

    def __init__(self, model: nn.Module, strength: float, *, registered: bool) -> None:
        super().__init__()
        self.reduction, self.strength = "mean", strength
        if registered:
            self.model = model
        self.held = list(model.parameters())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        values = nn.functional.cross_entropy(logits, labels, reduction=self.reduction)
        return values + self.strength * sum(p.abs().sum() for p in self.held)


@pytest.mark.parametrize("registered", [False, True])
def test_what_a_loss_refers_to_has_its_effect(registered: bool) -> None:
    def weights(strength: float) -> float:
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        classifier = classifier_of(model, (4,), 3, loss=Penalised(model, strength, registered=registered))
        attack = GeometryAwarePGD(classifier, eps=0.01, eps_step=0.01, max_iter=1)
        trainer = AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting(), burn_in=0)
        trainer.fit(LOGITS.sigmoid(), LABELS % 3, nb_epochs=30, verbose=False)
        return float(model.weight.detach().abs().sum())

    assert weights(0.5) < 0.5 * weights(0.0)


class Remembers(nn.CrossEntropyLoss):
    """Losses relative to a running mean, a count of the calls beside it."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.calls = 0

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        values = nn.functional.cross_entropy(logits, labels, reduction="none")
        self.calls += 1
        self.mean = (0.8 * self.mean + 0.2 * values.detach().mean()).detach()
        values = values * torch.exp(self.mean - values.detach()) / (1 + 0.01 * self.calls)
        return values if self.reduction == "none" else values.mean()


class Otherwise(nn.CrossEntropyLoss):
    """Remembers the mean of its losses outside of buffers."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.means, self.tensor, self.hidden = kind, [1.0], torch.ones(()), 1.0
        if kind == "uncopied":
            self.lock = threading.Lock()

    def get_extra_state(self) -> Any:
        return {"hidden": self.hidden}

    def set_extra_state(self, state: Any) -> None:
        self.hidden = state["hidden"]

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        values = nn.functional.cross_entropy(logits, labels, reduction="none")
        before = {"list": self.means[-1], "extra": self.hidden}.get(self.kind, float(self.tensor))
        now = 0.8 * before + 0.2 * float(values.detach().mean())
        if self.kind == "list":
            self.means.append(now)
        elif self.kind == "extra":
            self.hidden = now
        else:
            self.tensor = torch.tensor(now)
        values = values * before
        return values if self.reduction == "none" else values.mean()


class Reweighs(Plugin):
    """Gives the loss class weights in the second epoch."""

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    def begin_epoch(self, epoch: int) -> None:
        if epoch == 1:
            self.classifier.loss.weight = torch.tensor([8.0, 1.0, 1.0])


@pytest.mark.parametrize("same", [False, True], ids=["new process", "same objects"])
@pytest.mark.parametrize("kind", ["buffer", "attribute", "list", "extra", "uncopied", "reweighed"])
def test_a_loss_that_changes_is_resumed_bit_for_bit(kind: str, same: bool, tmp_path: Path) -> None:
    def make(*folder: Path) -> Any:
        torch.manual_seed(0)
        losses = {"reweighed": nn.CrossEntropyLoss, "buffer": Remembers}
        loss = losses[kind]() if kind in losses else Otherwise(kind)
        classifier = classifier_of(nn.Linear(4, 3), (4,), 3, loss=loss)
        attack = GeometryAwarePGD(classifier, eps=0.01, eps_step=0.01, max_iter=1)
        plugins = [*map(Checkpoint, folder), *([Reweighs(classifier)] if kind == "reweighed" else [])]
        return AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting(), burn_in=0, plugins=plugins)

    def fit(trainer: Any, nb_epochs: int, **settings: Any) -> list[float]:
        trainer.fit(LOGITS.sigmoid(), LABELS % 3, batch_size=4, nb_epochs=nb_epochs, seed=0, verbose=False, **settings)
        return [record["loss"] for record in trainer.history]

    whole = make()
    expected = fit(whole, 4)
    first = make(tmp_path)
    fit(first, 2)
    second = first if same else make(tmp_path)
    assert fit(second, 4, resume=True) == expected
    assert second.classifier.loss.reduction == "mean"
    if kind == "buffer":
        assert second.classifier.loss.calls == whole.classifier.loss.calls == 8


class Focal(nn.Module):
    """A focal loss with class weights of mean 1, divided by the sum of those at hand."""

    reduction = "mean"

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        weight = torch.tensor([1.9, 1.0, 0.1])[labels]
        values = weight * nn.functional.cross_entropy(logits, labels, reduction="none")
        return values if self.reduction == "none" else values.sum() / weight.sum()


class Hard(nn.Module):
    """The mean over samples that are not right by far."""

    reduction = "mean"

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        values = nn.functional.cross_entropy(logits, labels, reduction="none")
        hard = values > 0.001
        return values * hard if self.reduction == "none" else values[hard].mean()


@pytest.mark.parametrize("loss", [Focal(), Hard()], ids=["weights", "hard samples"])
def test_losses_that_are_a_mean_by_chance_are_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"has no per-sample form: on .* samples it is"):
        per_sample(loss, 3, CPU)


class Squeezes(nn.Module):
    """A focal loss that drops the batch of a lone sample."""

    reduction = "mean"

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = logits.log_softmax(dim=1).gather(1, labels[:, None]).squeeze()
        values = -((1 - log_p.exp()) ** 2) * log_p
        return values if self.reduction == "none" else values.mean()


class Normalises(nn.Module):
    """A loss of normalised logits."""

    def __init__(self) -> None:
        super().__init__()
        self.reduction, self.norm = "mean", nn.BatchNorm1d(3, affine=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.norm(logits), labels, reduction=self.reduction)


@pytest.mark.parametrize("loss", [Squeezes(), Normalises()], ids=["squeezes", "normalises"])
def test_losses_that_want_more_than_one_sample_are_taken(loss: Any) -> None:
    losses = per_sample(loss, 3, CPU)
    assert losses(LOGITS[:, :3], LABELS % 3).shape == (9,)
    assert "reduction" not in vars(loss) or loss.reduction == "mean"


def test_parameters_of_the_model_that_a_loss_holds_are_no_setting_of_it(tmp_path: Path) -> None:
    """A training with a penalty on them is resumed from another initialisation."""

    def fit(seed: int, nb_epochs: int) -> list[float]:
        torch.manual_seed(seed)
        model = nn.Linear(4, 3)
        classifier = classifier_of(model, (4,), 3, loss=Penalised(model, 0.1, registered=False))
        attack = GeometryAwarePGD(classifier, eps=0.01, eps_step=0.01, max_iter=1)
        trainer = AdversarialTrainerGAIRAT(
            classifier, attack, UniformWeighting(), burn_in=0, plugins=[Checkpoint(tmp_path)]
        )
        resume = bool(list(tmp_path.iterdir()))
        trainer.fit(LOGITS.sigmoid(), LABELS % 3, nb_epochs=nb_epochs, seed=0, verbose=False, resume=resume)
        return [record["loss"] for record in trainer.history]

    first = fit(0, 2)
    assert fit(1, 3)[:2] == first


def test_a_class_of_weight_0_is_taken() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.0, 0.0, 1.0, 2.0]))
    torch.testing.assert_close(per_sample(loss, 4, CPU)(LOGITS, LABELS).mean(), loss(LOGITS, LABELS))


def test_trying_a_loss_out_leaves_it_as_it_is() -> None:
    loss = Remembers()
    per_sample(loss, 3, CPU)
    assert (loss.calls, float(loss.mean)) == (0, 0.0)
