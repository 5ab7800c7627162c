"""What is attacked, and within which ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from art_gair.attacks.losses import LOSSES
from art_gair.attacks.norms import find_norm
from art_gair.attacks.pgd import PGD
from art_gair.engine.classifier import Model, TensorClassifier
from art_gair.engine.inputs import Box

ROUNDING = 1e-4
"""How far outside the ball, as a share of its radius, arithmetic may leave a point."""


@dataclass(frozen=True)
class Threat:
    """A classifier and the ball around each sample in which it is attacked.

    Gradients may come from a fast view of the model; verdicts never do: `logits` runs the model itself.

    :param norm: np.inf, 2 or 1.
    :param eps: radius, in units of x.
    :param batch_size: samples at once.
    :param moved: is told how many sample-passes have been made.
    """

    classifier: TensorClassifier
    norm: float | str
    eps: float
    batch_size: int
    moved: Callable[[float], None] = lambda passes: None

    @property
    def box(self) -> Box:
        """The classifier's clip_values."""
        assert self.classifier.box is not None
        return self.classifier.box

    def of_radius(self, eps: float) -> Threat:
        """The same threat with another radius."""
        return replace(self, eps=eps)

    def logits(self, x: Tensor) -> Tensor:
        """Logits of the model itself, in eval mode, on the CPU: (n, nb_classes)."""
        with self.classifier.evaluating(), torch.no_grad():
            return torch.cat([self.classifier.logits(batch).cpu() for batch in self.batches(x)])

    def batches(self, x: Tensor) -> list[Tensor]:
        """Return x in batches on the device, float32."""
        return [part.to(self.classifier.device, torch.float32) for part in x.split(self.batch_size)]

    def pgd(
        self, x: Tensor, labels: Tensor, *, loss: str, max_iter: int, step: float, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """PGD from a random start, on logits times `scale`: adversarial examples and kappa, both on the CPU.

        :param step: length of a step as a share of eps.
        """
        pgd = PGD(find_norm(self.norm), loss, max_iter, 1, self.box)
        eps = torch.tensor(self.eps)
        done = []
        for batch, own in zip(self.batches(x), labels.split(self.batch_size), strict=True):
            with self.classifier.attacked(batch) as logits_of:
                x_adv, kappa = pgd(_scaled(logits_of, scale), batch, own.to(batch.device), eps, step * eps)
            done.append((x_adv.cpu(), kappa.cpu()))
            self.moved(max_iter * len(batch))
        return torch.cat([x_adv for x_adv, _ in done]), torch.cat([kappa for _, kappa in done])

    def gradients(self, x: Tensor, labels: Tensor) -> Tensor:
        """Gradients of the cross entropy of the model itself to x, as they are, NaN too: like x, on the CPU."""
        found = []
        for batch, own in zip(self.batches(x), labels.split(self.batch_size), strict=True):
            with self.classifier.evaluating(), torch.enable_grad():
                z = batch.detach().requires_grad_(True)
                loss = LOSSES["ce"](self.classifier.logits(z), own.to(z.device), None).sum()
                grad = torch.autograd.grad(loss, z)[0] if loss.requires_grad else torch.zeros_like(z)
            found.append(grad.cpu())
        return torch.cat(found)

    def random_points(self, x: Tensor) -> Tensor:
        """One random point of each sample's ball, inside clip_values."""
        moved = [
            self.box.clip(z + find_norm(self.norm).sample(z, torch.tensor(self.eps).to(z))) for z in self.batches(x)
        ]
        return torch.cat([z.cpu() for z in moved])

    def inside(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Which points lie in the ball around x and in clip_values, but for rounding: bool (n,)."""
        delta = (x_adv - x.to(x_adv.dtype)).flatten(1)
        distance = torch.linalg.vector_norm(delta, ord=float(self.norm), dim=1)
        slack = ROUNDING * self.eps + 1e-6
        lower, upper = self.box.lower.cpu(), self.box.upper.cpu()
        valid = ((x_adv >= lower - slack) & (x_adv <= upper + slack)).flatten(1).all(dim=1)
        inside: Tensor = valid & (distance <= self.eps + slack)
        return inside


def _scaled(model: Model, scale: float) -> Model:
    return model if scale == 1.0 else lambda z: scale * model(z)
