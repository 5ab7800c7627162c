"""ART's door to the attack: numpy in, adversarial examples and kappa out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import trange

from art_gair.attacks.base import Perturb
from art_gair.attacks.losses import LOSSES
from art_gair.attacks.norms import find_norm
from art_gair.attacks.pgd import PGD
from art_gair.checks import require_fit, require_int
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.fast import FastClassifier
from art_gair.engine.inputs import as_tensor
from art_gair.engine.view import View
from art_gair.schedules import value_at

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger(__name__)


class GeometryAwarePGD(EvasionAttack):
    """PGD that also returns kappa, how many of its looks at the iterate still found the true class.

    Before each of the `max_iter` steps kappa grows by 1 if the iterate is still classified as y (GA-PGD, Alg. 1 of
    Zhang et al., ICLR 2021, arXiv 2010.01736), so kappa runs from 0, fooled from the start, to `max_iter`, never
    fooled at a look; the final iterate is not looked at. Points with a small kappa lie near the decision boundary.

    The model is attacked in eval mode; its parameters, gradients, buffers and train/eval flags are left as they were.
    Random starts come from torch's generator: `torch.manual_seed` makes a call repeatable.

    :param estimator: an ART PyTorchClassifier with PyTorch preprocessing only.
    :param norm: norm of the ball: np.inf, "inf", 2 or 1.
    :param eps: radius of the ball in units of x, a scalar or an array broadcastable against x; for the norms 1 and 2 it
        may differ between samples but not between the features of one. Or, for a training, a schedule: a function of
        the epoch, counted from 0, to a scalar. `at_epoch` settles it, and `generate` asks for that.
    :param eps_step: length of a step in units of x, a scalar or an array broadcastable against x.
    :param max_iter: K, the number of steps, at least 1.
    :param num_random_init: 0 starts at x (loss "kl", which is flat there, at x + 0.001 N(0, 1) of the range, as TRADES
        does); R >= 1 starts R times at a random point of the ball, a sample keeps its first success and least kappa.
    :param batch_size: samples attacked at once.
    :param loss: what is maximised: "ce" the cross entropy, "margin" the best other logit less the true one, "kl" the
        divergence KL(f(x) || f(x_adv)).
    :param verbose: show a progress bar over the batches.
    :raises EstimatorError: if the estimator is no PyTorchClassifier.
    :raises NotImplementedError: if the estimator has numpy preprocessing.
    :raises TypeError, ValueError: if an argument is of the wrong type or out of range, by its name.
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        *("norm", "eps", "eps_step", "max_iter", "num_random_init", "batch_size", "loss", "verbose"),
    ]
    _estimator_requirements = (PyTorchClassifier,)
    schedules: ClassVar[tuple[str, ...]] = ("eps",)
    """Settings that may be functions of the epoch."""

    def __init__(
        self,
        estimator: PyTorchClassifier,
        norm: float | str = np.inf,
        eps: float | NDArray[Any] | Callable[[int], float] = 8 / 255,
        eps_step: float | NDArray[Any] = 2 / 255,
        max_iter: int = 10,
        num_random_init: int = 1,
        batch_size: int = 128,
        loss: str = "ce",
        verbose: bool = False,
    ) -> None:
        super().__init__(estimator=estimator)
        TensorClassifier(estimator)  # refuses what cannot be attacked, before any work
        self.norm = norm
        self.eps = eps
        self.eps_step = eps_step
        self.max_iter = max_iter
        self.num_random_init = num_random_init
        self.batch_size = batch_size
        self.loss = loss
        self.verbose = verbose
        self._view: View | None = None
        self._check_params()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles make a view of their own."""
        return {**self.__dict__, "_view": None}

    def set_params(self, **settings: Any) -> None:
        """Set settings by name: all of them, or, where one is refused, none.

        :raises TypeError, ValueError: if there is no such setting, or its value is unusable, by its name.
        """
        before = dict(self.__dict__)
        try:
            super().set_params(**settings)
        except Exception:
            self.__dict__.update(before)
            raise

    def generate(self, x: Any, y: Any = None, mask: Any = None) -> NDArray[np.float32]:
        """Return adversarial examples, as every ART attack does; arguments as for `generate_with_kappa`.

        :return: float32, the shape of x.
        """
        return self.generate_with_kappa(x, y, mask)[0]

    def generate_with_kappa(
        self, x: Any, y: Any = None, mask: Any = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Attack each sample and count kappa, in float32, inside `torch.autocast` too.

        :param x: samples (n, *input_shape) inside the classifier's clip_values.
        :param y: true classes, indices (n,) or one-hot (n, nb_classes). None takes the model's own predictions, ART's
            rule against label leaking.
        :param mask: bool or non-negative array broadcastable against x; features where it is zero are not perturbed.
            A random start is drawn in the whole ball and then masked.
        :return: adversarial examples, float32, the shape of x, and kappa, int64 (n,), 0..max_iter, both in x's order.
            They lie in the ball around float32(x) but for the rounding of x + delta to float32.
        :raises TypeError, ValueError: if x, y or mask is unusable, by its name, or a setting is a schedule.
        """
        self._check_params()  # attributes may have been set since
        self._require_settled()
        classifier = FastClassifier(self.estimator)
        classifier.take_over(self._view)
        inputs = classifier.inputs(x)
        labels = None if y is None else classifier.labels(y, len(inputs))
        free = None if mask is None else _parse_mask(mask, inputs.shape)
        eps, eps_step = self._radii(inputs.shape)
        pgd, device, n = self._pgd(classifier), classifier.device, len(inputs)
        x_adv = torch.empty(inputs.shape, dtype=torch.float32)
        kappa = torch.empty(n, dtype=torch.int64)
        any_moved, all_finite = False, True
        for start in trange(0, n, self.batch_size, desc=type(self).__name__, leave=False, disable=not self.verbose):
            rows = slice(start, start + self.batch_size)
            batch = classifier.batch(inputs[rows])
            eps_rows, step_rows = (_take_rows(radius, rows, inputs.shape) for radius in (eps, eps_step))
            mask_rows = None if free is None else _take_rows(free, rows, inputs.shape).to(device)
            with classifier.attacked(batch) as model:
                with torch.no_grad():
                    true = model(batch).argmax(dim=1) if labels is None else labels[rows].to(device)
                perturbed, kappa[rows] = pgd(model, batch, true, eps_rows, step_rows, mask_rows)
            any_moved = any_moved or not torch.equal(perturbed, batch)
            all_finite = all_finite and all(bool(torch.isfinite(g).all()) for g in classifier.take_gradient())
            x_adv[rows] = perturbed
        classifier.end_epoch()
        if not all_finite:
            logger.warning(
                "%s: the model's gradient is NaN or infinite at some inputs, and no step was taken along it there: "
                "these samples may be less robust than they look.",
                type(self).__name__,
            )
        if not any_moved:
            logger.warning(
                "%s changed no sample: the gradient is zero everywhere, or eps and eps_step (%s, %s) are lost in the "
                "rounding of x to float32.",
                *(type(self).__name__, self.eps, self.eps_step),
            )
        self._view = classifier.view
        return x_adv.numpy(), kappa.numpy()

    def on_batches(self, classifier: TensorClassifier, epoch: int) -> Perturb:
        """Return the attack on batches of one epoch, see `InnerAttack`: tensors on the device in and out.

        :raises ValueError: if eps or eps_step belongs to the samples of one array, which batches do not keep together.
        """
        settled = self.at_epoch(epoch)
        pgd = settled._pgd(classifier)
        sample = (1, *(s or 1 for s in classifier.input_shape))
        eps, eps_step = (radius.to(classifier.device) for radius in settled._radii(sample))

        def perturb(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
            with classifier.attacked(x) as model:
                return pgd(model, x, labels, eps, eps_step)

        return perturb

    def with_loss(self, loss: str) -> Self:
        """Return the same attack with another loss."""
        other = copy.copy(self)
        other.set_params(loss=loss)
        return other

    def with_all_steps(self) -> GeometryAwarePGD:
        """Return what judges a model that is trained with this attack: the attack itself, unless it spares samples."""
        return self

    def at_epoch(self, epoch: int) -> Self:
        """Return the attack as it stands in an epoch: schedules are settled to numbers.

        :param epoch: counted from 0.
        :raises TypeError, ValueError: if a schedule gives no usable value there, by its name.
        """
        require_int(epoch, "epoch", at_least=0)
        settled = copy.copy(self)
        for name in self.schedules:
            setattr(settled, name, value_at(getattr(self, name), name, epoch))
        try:
            settled._check_params()
        except (TypeError, ValueError) as error:
            raise type(error)(f"in epoch {epoch}: {error}") from error
        return settled

    def _require_settled(self) -> None:
        for name in self.schedules:
            if callable(getattr(self, name)):
                raise ValueError(
                    f"{name} is a schedule, {getattr(self, name)!r}; expected a number here. "
                    "Settle it first: attack.at_epoch(epoch).generate(x)."
                )

    def _pgd(self, classifier: TensorClassifier) -> PGD:
        settings = (find_norm(self.norm), self.loss, self.max_iter, self.num_random_init, classifier.box)
        return PGD(*settings, note_gradient=classifier.note_gradient)

    def _radii(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Eps and eps_step as tensors that broadcast against inputs of this shape."""
        eps = _broadcastable(self.eps, "eps", shape)
        eps_step = _broadcastable(self.eps_step, "eps_step", shape)
        if self.norm in (np.inf, "inf") or eps.ndim == 0:
            return eps, eps_step
        rows = eps.expand(len(eps) if eps.ndim == len(shape) else 1, *shape[1:]).flatten(1)
        if (rows != rows[:, :1]).any():
            raise ValueError(f"eps differs between the features of a sample; expected one value for norm {self.norm}.")
        return rows[:, 0].view(-1, *[1] * (len(shape) - 1)), eps_step

    def _check_params(self) -> None:
        super()._check_params()
        find_norm(self.norm)
        _require_positive(value_at(self.eps, "eps", 0), "eps")
        _require_positive(self.eps_step, "eps_step")
        self.max_iter = require_int(self.max_iter, "max_iter", at_least=1)
        self.num_random_init = require_int(self.num_random_init, "num_random_init", at_least=0)
        self.batch_size = require_int(self.batch_size, "batch_size", at_least=1)
        if not isinstance(self.loss, str) or self.loss not in LOSSES:
            raise ValueError(f"loss is {self.loss!r}; expected one of {', '.join(map(repr, LOSSES))}.")
        if not isinstance(self.verbose, bool):
            raise TypeError(f"verbose is {self.verbose!r}; expected True or False.")


def _require_positive(value: Any, name: str) -> None:
    try:
        radius = as_tensor(value, name, bools=False).to(torch.float32)  # as the attack computes
    except TypeError as error:
        expected = "expected a positive number or an array of them, in units of x"
        raise TypeError(f"{name} is {value!r}; {expected}.") from error
    if radius.numel() == 0 or not (torch.isfinite(radius).all() and (radius > 0).all()):
        raise ValueError(f"{name} is {value!r}; expected positive and finite, in units of x.")


def _broadcastable(value: Any, name: str, shape: Sequence[int]) -> Tensor:
    tensor = as_tensor(value, name).to(torch.float32)
    require_fit(tensor.shape, name, shape)
    return tensor


def _parse_mask(value: Any, shape: Sequence[int]) -> Tensor:
    """Return the mask as ART reads it: zero or False keeps a feature, everything else frees it."""
    mask = as_tensor(value, "mask")
    if not (mask >= 0).all():
        raise ValueError("mask holds negative values or NaN; expected bool or non-negative numbers.")
    require_fit(mask.shape, "mask", shape)
    return mask != 0


def _take_rows(value: Tensor, rows: slice, shape: Sequence[int]) -> Tensor:
    """Take the batch's rows where value has one for each sample."""
    return value[rows] if value.ndim == len(shape) and len(value) == shape[0] else value
