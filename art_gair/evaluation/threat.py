"""What is attacked, and within which ball."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from art_gair.attacks.losses import LOSSES
from art_gair.attacks.norms import find_norm
from art_gair.attacks.pgd import PGD
from art_gair.engine.classifier import Model, TensorClassifier
from art_gair.engine.inputs import Box

ROUNDING = 1e-4
"""How far outside the ball, as a share of its radius, arithmetic may leave a point without being counted."""

ULPS = 4
"""And how many units in the last place of float32, for each feature: attacks scale inputs and add to them."""


@dataclass(frozen=True)
class Settled:
    """Examples of an attack, all of them in the ball.

    :param x_adv: float32, the sample itself where `discarded`.
    :param projected: bool (n,): which lay outside the ball or clip_values by more than rounding.
    :param discarded: bool (n,): which were not finite.
    """

    x_adv: Tensor
    projected: Tensor
    discarded: Tensor


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
        # Kept in one block: small results between large batches would keep the allocator from using their memory again.
        logits = torch.empty(len(x), self.classifier.nb_classes)
        with self.classifier.evaluating(), torch.no_grad():
            for rows, batch in zip(logits.split(self.batch_size), self.batches(x), strict=True):
                rows.copy_(self.classifier.logits(batch))
        return logits

    def batches(self, x: Tensor) -> Iterator[Tensor]:
        """Yield x in batches on the device, float32, inside clip_values."""
        return (self.classifier.batch(part) for part in x.split(self.batch_size))

    def pgd(
        self, x: Tensor, labels: Tensor, *, loss: str, max_iter: int, step: float, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """PGD from a random start, on logits times `scale`: adversarial examples and kappa, both on the CPU.

        :param step: length of a step as a share of eps.
        """
        pgd = PGD(find_norm(self.norm), loss, max_iter, 1, self.box)
        eps = torch.tensor(self.eps)
        done = []
        for batch, true in zip(self.batches(x), labels.split(self.batch_size), strict=True):
            with self.classifier.attacked(batch) as model:
                x_adv, kappa = pgd(_scaled(model, scale), batch, true.to(batch.device), eps, step * eps)
            done.append((x_adv.cpu(), kappa.cpu()))
            self.moved(max_iter * len(batch))
        return torch.cat([x_adv for x_adv, _ in done]), torch.cat([kappa for _, kappa in done])

    def gradients(self, x: Tensor, labels: Tensor) -> Tensor:
        """Gradients of the cross entropy of the model itself to x, as they are, NaN too: like x, on the CPU."""
        gradients = []
        for batch, true in zip(self.batches(x), labels.split(self.batch_size), strict=True):
            with self.classifier.evaluating(), torch.enable_grad():
                z = batch.detach().requires_grad_(True)
                loss = LOSSES["ce"](self.classifier.logits(z), true.to(z.device), None).sum()
                grad = torch.autograd.grad(loss, z)[0] if loss.requires_grad else torch.zeros_like(z)
            gradients.append(grad.cpu())
        return torch.cat(gradients)

    def random_points(self, x: Tensor) -> Tensor:
        """One random point of each sample's ball, inside clip_values."""
        moved = [
            self.box.clip(z + find_norm(self.norm).sample(z, torch.tensor(self.eps).to(z))) for z in self.batches(x)
        ]
        return torch.cat([z.cpu() for z in moved])

    def settle(self, x: Tensor, x_adv: Tensor) -> Settled:
        """Project examples into the ball and clip_values, in double precision; what was outside is counted.

        Each feature is then rounded to the nearest float32, as x + delta always is: beside features of 50,000 that is
        0.002. An example that is not finite cannot be projected; the sample itself stands in its place.

        :param x: samples as the model takes them, float32 on the CPU, (n, ...).
        :param x_adv: examples, on the CPU, the same shape.
        """
        discarded = ~torch.isfinite(x_adv).flatten(1).all(dim=1)
        centre = x.double()
        kept = torch.where(discarded.view(-1, *[1] * (x.ndim - 1)), centre, x_adv.double())
        lower, upper = self.box.lower.cpu().double(), self.box.upper.cpu().double()
        clipped = torch.clamp(kept, lower, upper)
        radius = torch.tensor(self.eps, dtype=torch.float64)
        projected = torch.clamp(centre + find_norm(self.norm).project(clipped - centre, radius), lower, upper)
        size = torch.maximum(centre.abs(), kept.abs()).float()
        ulp = torch.nextafter(size, torch.full_like(size, torch.inf)).double() - size.double()
        order = float(self.norm)
        moved = torch.linalg.vector_norm((projected - kept).flatten(1), ord=order, dim=1)
        slack = ROUNDING * self.eps + ULPS * torch.linalg.vector_norm(ulp.flatten(1), ord=order, dim=1)
        return Settled(projected.float(), moved > slack, discarded)


def _scaled(model: Model, scale: float) -> Model:
    return model if scale == 1.0 else lambda z: scale * model(z)
