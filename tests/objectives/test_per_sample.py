"""The classifier's loss, one value a sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_gair.objectives.per_sample import per_sample

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
        (ReductionIgnored(), r"loss ReductionIgnored has no per-sample form: it gives \(\) values for 7 samples"),
        (OwnMean(), "loss OwnMean has no per-sample form: on 7 samples it is .*, the mean of its values"),
        (nn.CrossEntropyLoss(ignore_index=2), "loss CrossEntropyLoss has no per-sample form: on 7 samples"),
        (nn.BCEWithLogitsLoss(), "loss BCEWithLogitsLoss cannot be taken of logits"),
    ],
)
def test_losses_without_a_per_sample_form_are_refused_by_name(loss: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        per_sample(loss, 4, CPU)
