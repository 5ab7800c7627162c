"""The classifier's loss, one value a sample."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD
from art_gair.objectives.per_sample import per_sample, require_untrained
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
    values = per_sample(loss, 4, CPU)(LOGITS, LABELS)
    assert values.shape == (9,)
    torch.testing.assert_close(values.mean(), loss(LOGITS, LABELS))


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
        (OwnMean(), "loss OwnMean has no per-sample form: on 7 samples it is .*, the mean of its values"),
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
    values = per_sample(loss, 4, CPU)(LOGITS, partly)
    assert (values[5:] == 0).all()
    torch.testing.assert_close(values.mean(), loss(LOGITS[:5], LABELS[:5]))
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
        require_untrained(loss, both)
    require_untrained(loss, torch.optim.SGD(model.parameters(), lr=0.1))
    classifier = classifier_of(model, (4,), 3, loss=loss, optimizer=both)
    with pytest.raises(ValueError, match="log_t"):
        AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(classifier))
