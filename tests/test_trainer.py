"""The trainer as an ART user meets it."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from art.data_generators import DataGenerator, NumpyDataGenerator, PyTorchDataGenerator
from art.defences.preprocessor.cutout.cutout_pytorch import CutoutPyTorch
from art.defences.preprocessor.mixup.mixup_pytorch import MixupPyTorch
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import SklearnClassifier
from art.exceptions import EstimatorError
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.optim.lr_scheduler import ChainedScheduler, ExponentialLR, MultiStepLR, ReduceLROnPlateau, SequentialLR
from torch.utils.data import DataLoader, TensorDataset

from art_gair import (
    AdversarialTrainerGAIRAT,
    DiscreteWeighting,
    GeometryAwarePGD,
    SigmoidWeighting,
    TanhWeighting,
    UniformWeighting,
)
from art_gair.training import progress
from tests.models import (
    Blur,
    as_it_is,
    assert_same_state,
    classifier_of,
    conv_net,
    digits,
    digits_classifier,
    mlp,
    state_of,
    trainer_of,
)

WEIGHTINGS = [TanhWeighting(-1.0), SigmoidWeighting(0.5), DiscreteWeighting(), UniformWeighting()]


def fitted(seed: int = 0, *, data: Any = None, weighting: Any = None, **kwargs: Any) -> Any:
    """Train the digits model for two epochs from a fixed seed; return the trainer."""
    trainer = trainer_of(digits_classifier(seed), weighting)
    torch.manual_seed(seed + 1)
    x, y = digits(70) if data is None else data
    trainer.fit(x, y, **{"batch_size": 32, "nb_epochs": 2, **kwargs})
    return trainer


def assert_same_model(trainer: Any, other: Any) -> None:
    assert_same_state(trainer.classifier.model, state_of(other.classifier.model))


# Defaults and ART's shape


def test_is_an_art_trainer_with_the_papers_defaults() -> None:
    trainer = AdversarialTrainerGAIRAT(digits_classifier())
    assert isinstance(trainer, AdversarialTrainer)
    attack = trainer.attack
    assert (attack.norm, attack.max_iter, attack.num_random_init, attack.loss) == (np.inf, 10, 1, "ce")
    assert (attack.eps, attack.eps_step) == (8 / 255, 2 / 255)
    assert isinstance(trainer.weighting, TanhWeighting)
    assert trainer.weighting.lam == -1.0
    assert trainer.get_classifier() is trainer.classifier
    assert trainer.predict(digits(3)[0]).shape == (3, 10)


@pytest.mark.parametrize(
    ("clip_values", "eps"),
    [((0, 255), 8.0), ((-1, 1), 16 / 255), ((np.zeros((8, 8)), np.full((8, 8), 2.0)), np.full((8, 8), 16 / 255))],
)
def test_the_default_attack_is_in_units_of_clip_values(clip_values: Any, eps: Any) -> None:
    trainer = AdversarialTrainerGAIRAT(digits_classifier(clip_values=clip_values))
    np.testing.assert_allclose(np.asarray(trainer.attack.eps, dtype=float), eps)
    np.testing.assert_allclose(trainer.attack.eps_step, np.asarray(eps) / 4)


@pytest.mark.parametrize("clip_values", [None, (-np.inf, np.inf)])
def test_without_finite_clip_values_an_attack_is_asked_for(clip_values: Any) -> None:
    classifier = digits_classifier(clip_values=clip_values)
    with pytest.raises(ValueError, match=r"no finite clip_values.*attack=GeometryAwarePGD"):
        AdversarialTrainerGAIRAT(classifier)
    trainer_of(classifier).fit(*digits(20), nb_epochs=1)


@pytest.mark.parametrize(("nb_epochs", "weighted_from"), [(1, 0), (2, 1), (10, 3)])
def test_burn_in_is_30_percent_of_the_epochs(nb_epochs: int, weighted_from: int) -> None:
    trainer = AdversarialTrainerGAIRAT(classifier_of(mlp((1, 8, 8), 10), (1, 8, 8)))
    trainer.fit(*digits(20), nb_epochs=nb_epochs)
    assert [r["epoch"] for r in trainer.history if not r["burn_in"]] == list(range(weighted_from, nb_epochs))
    assert [r["lam"] for r in trainer.history] == [None] * weighted_from + [-1.0] * (nb_epochs - weighted_from)


# What training computes


@pytest.mark.parametrize(("n", "batch_size"), [(100, 32), (129, 41), (122, 61), (128, 128)])
def test_lam_inf_equals_a_plain_at_loop_bit_for_bit(n: int, batch_size: int) -> None:
    x, y = digits(n)
    trainer = trainer_of(as_it_is(digits_classifier()), TanhWeighting(math.inf), num_random_init=1)
    torch.manual_seed(5)
    trainer.fit(x, y, batch_size=batch_size, nb_epochs=3)

    classifier = digits_classifier()
    model, optimizer = classifier.model, classifier.optimizer
    x_all, y_all = torch.from_numpy(x), torch.from_numpy(y)
    torch.manual_seed(5)
    for _ in range(3):
        for rows in torch.randperm(n).split(batch_size):
            x_batch, y_batch = x_all[rows], y_all[rows]
            model.eval()
            lower, upper = (x_batch - 0.2).clamp(0, 1), (x_batch + 0.2).clamp(0, 1)
            x_adv = x_batch + torch.empty_like(x_batch).uniform_(-1, 1) * 0.2
            x_adv = torch.clamp(x_adv, lower, upper)
            for _ in range(3):
                x_adv.requires_grad_(True)
                (grad,) = torch.autograd.grad(nn.functional.cross_entropy(model(x_adv), y_batch), x_adv)
                x_adv = torch.clamp(x_adv.detach() + 0.1 * grad.sign(), lower, upper)
            model.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x_adv), y_batch).backward()
            optimizer.step()
    assert_same_state(trainer.classifier.model, state_of(model))


@pytest.mark.parametrize("weighting", [TanhWeighting(math.inf), SigmoidWeighting(math.inf)])
def test_lam_inf_uniform_weights_and_burn_in_are_the_same(weighting: Any) -> None:
    uniform = fitted(weighting=UniformWeighting())
    assert_same_model(fitted(weighting=weighting), uniform)
    burn_in = trainer_of(digits_classifier(0), TanhWeighting(-1.0), burn_in=2)
    torch.manual_seed(1)
    burn_in.fit(*digits(70), batch_size=32, nb_epochs=2)
    assert_same_model(burn_in, uniform)


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: type(w).__name__)
def test_every_weighting_trains(weighting: Any) -> None:
    trainer = fitted(weighting=weighting)
    assert len(trainer.history) == 2
    assert all(torch.isfinite(p).all() for p in trainer.classifier.model.parameters())


def test_weights_change_what_is_learnt() -> None:
    assert any(
        not torch.equal(a, b)
        for a, b in zip(
            fitted(weighting=TanhWeighting(-1.0)).classifier.model.parameters(),
            fitted(weighting=UniformWeighting()).classifier.model.parameters(),
            strict=True,
        )
    )


def test_one_step_minimises_the_weighted_loss() -> None:
    """A batch by hand: kappa from the attack, weights from Eq. 6, SGD on their weighted mean."""
    x, y = digits(40)
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8))
    trainer = trainer_of(classifier, TanhWeighting(0.0), num_random_init=0, eps_step=0.03, max_iter=6)
    model, lr = classifier.model, 0.05
    y = classifier.predict(x).argmax(axis=1)
    x_adv, kappa = trainer.attack.generate_with_kappa(x, y)
    assert len(set(kappa)) > 2
    raw = (1 + np.tanh(5 * (1 - 2 * kappa / 6))) / 2
    weights = torch.from_numpy(raw / raw.mean())
    losses = nn.functional.cross_entropy(model(torch.from_numpy(x_adv)), torch.from_numpy(y), reduction="none")
    grads = torch.autograd.grad((weights * losses).mean(), list(model.parameters()))
    expected = [p.detach() - lr * g for p, g in zip(model.parameters(), grads, strict=True)]
    trainer.fit(x, y, batch_size=40, nb_epochs=1)
    for p, e in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), e, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.linspace(0.5, 3, 10)),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=torch.linspace(0.5, 3, 10), label_smoothing=0.2),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.MultiMarginLoss(),
    ],
    ids=["class weights", "smoothing", "both", "sum", "multi-margin"],
)
def test_the_classifiers_own_loss_is_minimised(loss: nn.Module) -> None:
    """With weights of 1, one step is SGD on the classifier's loss as it is."""
    x, y = digits(40)
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), loss=loss, lr=0.01)
    trainer = trainer_of(classifier, UniformWeighting(), num_random_init=0)
    model, before, buffers = classifier.model, repr(loss), state_of(loss)
    x_adv = torch.from_numpy(trainer.attack.generate(x, y))
    grads = torch.autograd.grad(loss(model(x_adv), torch.from_numpy(y)), list(model.parameters()))
    expected = [p.detach() - 0.01 * g for p, g in zip(model.parameters(), grads, strict=True)]
    trainer.fit(x, y, batch_size=40, nb_epochs=1)
    for p, e in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), e, rtol=1e-4, atol=1e-6)
    assert classifier.loss is loss
    assert repr(loss) == before
    assert loss.state_dict().keys() == buffers.keys()
    assert all(torch.equal(v, buffers[k]) for k, v in loss.state_dict().items())
    assert loss.reduction in ("mean", "sum")


def test_batchnorm_sees_the_updates_forward_and_nothing_else() -> None:
    seen: list[tuple[bool, bool]] = []
    trainer = trainer_of(digits_classifier())
    batch_norm = trainer.classifier.model[1]
    batch_norm.register_forward_hook(lambda m, i, o: seen.append((m.training, i[0].requires_grad)))
    trainer.fit(*digits(64), batch_size=32, nb_epochs=2, validation_data=digits(20))
    assert batch_norm.num_batches_tracked == 4
    assert sum(training for training, _ in seen) == 4
    assert not any(m.training for m in trainer.classifier.model.modules())


def test_the_raw_model_is_called() -> None:
    """ART's wrapper calls a Sequential's layers one by one and never the model itself."""
    calls = 0
    trainer = trainer_of(digits_classifier())

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    trainer.classifier.model.register_forward_hook(count)
    trainer.fit(*digits(32), batch_size=32, nb_epochs=1)
    assert calls == 4


def test_fit_time_preprocessing_is_applied_in_the_update_only() -> None:
    cutout = CutoutPyTorch(length=4, channels_first=True, device_type="cpu")
    classifier = digits_classifier(preprocessing_defences=[cutout, Blur()], preprocessing=(0.5, 0.25))
    blank = []
    classifier.model.register_forward_pre_hook(lambda m, i: blank.append((m.training, (i[0] == -2).sum().item())))
    trainer_of(classifier).fit(np.full((16, 1, 8, 8), 0.9, np.float32), np.zeros(16), nb_epochs=1)
    assert [b > 0 for training, b in blank if training] == [True]
    assert [b > 0 for training, b in blank if not training] == [False] * 3


# Data


def test_the_same_seed_repeats_a_training() -> None:
    assert_same_model(fitted(), fitted())


def test_one_hot_labels_equal_indices() -> None:
    x, y = digits(70)
    assert_same_model(fitted(data=(x, np.eye(10)[y])), fitted(data=(x, y)))


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_float_types_equal_float32(dtype: Any) -> None:
    x, y = digits(70)
    assert_same_model(fitted(data=(x.astype(dtype), y)), fitted(data=(x, y)))


def test_uint8_images_train_in_their_own_units() -> None:
    x, y = digits(32)
    images = (x * 255).astype(np.uint8)
    models = []
    for data in (images, images.astype(np.float32)):
        torch.manual_seed(0)
        classifier = classifier_of(conv_net(), (1, 8, 8), clip_values=(0, 255), preprocessing=(0.0, 255.0))
        trainer = AdversarialTrainerGAIRAT(classifier, burn_in=0)
        assert trainer.attack.eps == pytest.approx(8)
        trainer.fit(data, y, nb_epochs=1)
        models.append(trainer)
    assert_same_model(*models)


class Loader:
    """Batches in the order `fit` shuffles them to."""

    def __init__(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(self.x)).split(32):
            yield self.x[rows], self.y[rows]


def test_a_generator_equals_arrays_in_the_same_order() -> None:
    x, y = digits(70)
    trainer = trainer_of(digits_classifier())
    torch.manual_seed(1)
    trainer.fit_generator(Loader(x, y), nb_epochs=2)
    assert_same_model(trainer, fitted())


class Endless(DataGenerator):
    """An ART generator with nothing but `get_batch`, as the Keras and TensorFlow ones have."""

    def __init__(self, x: NDArray[Any], y: NDArray[Any], size: int | None) -> None:
        super().__init__(size, 32)
        self.x, self.y, self.at = x, y, 0

    def get_batch(self) -> tuple[NDArray[Any], NDArray[Any]]:
        rows = slice(self.at, self.at + 32)
        self.at = 0 if self.at + 32 >= len(self.x) else self.at + 32
        return self.x[rows], self.y[rows]


def test_arts_generators_and_dataloaders_train_alike() -> None:
    x, y = digits(70)
    dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    loader = DataLoader(dataset, batch_size=32)
    generators = [
        loader,
        PyTorchDataGenerator(loader, size=70, batch_size=32),
        NumpyDataGenerator(x, np.eye(10)[y], batch_size=32, drop_remainder=False),
        Endless(x, y, 70),
    ]
    trainers = []
    for generator in generators:
        trainer = trainer_of(digits_classifier(), num_random_init=0)
        torch.manual_seed(1)
        trainer.classifier.model[-2].p = 0.0
        trainer.fit_generator(generator, nb_epochs=2)
        trainers.append(trainer)
    for other in trainers[1:]:
        assert_same_model(trainers[0], other)


@pytest.mark.parametrize("as_generator", [False, True])
def test_a_last_batch_of_one_sample_is_merged(as_generator: bool) -> None:
    x, y = digits(65)
    trainer = trainer_of(digits_classifier())
    sizes = []
    trainer.classifier.model.register_forward_pre_hook(lambda m, i: sizes.append(len(i[0])) if m.training else None)
    if as_generator:
        trainer.fit_generator(Loader(x, y), nb_epochs=1)
    else:
        trainer.fit(x, y, batch_size=32, nb_epochs=1)
    assert sizes == [32, 33]


def test_a_first_batch_of_one_sample_is_merged_too() -> None:
    x, y = digits(17)
    trainer = trainer_of(digits_classifier())
    sizes = []
    trainer.classifier.model.register_forward_pre_hook(lambda m, i: sizes.append(len(i[0])) if m.training else None)
    trainer.fit_generator([(x[:1], y[:1]), (x[1:], y[1:])], nb_epochs=1)
    assert sizes == [17]


def test_a_batch_size_of_one_stays_one() -> None:
    trainer = trainer_of(classifier_of(mlp((1, 8, 8), 10), (1, 8, 8)))
    trainer.fit(*digits(3), batch_size=1, nb_epochs=1)
    assert trainer.history[0]["effective_sample_size"] == 1


# Record


def test_history_holds_one_record_an_epoch() -> None:
    trainer = fitted(validation_data=digits(50), nb_epochs=3)
    assert [r["epoch"] for r in trainer.history] == [0, 1, 2]
    assert json.loads(json.dumps(trainer.history)) == trainer.history
    record = trainer.history[-1]
    assert sum(record["kappa_histogram"]) == 70
    assert len(record["kappa_histogram"]) == 4
    assert 1 <= record["effective_sample_size"] <= 32
    assert 0 <= record["robust_accuracy"] <= record["clean_accuracy"] <= 1
    assert record["lr"] == 0.05
    assert record["seconds"] > 0
    trainer.fit(*digits(20), nb_epochs=1)
    assert len(trainer.history) == 1
    assert trainer.history[0]["clean_accuracy"] is None


def test_uniform_weights_have_the_whole_batch_as_effective_sample() -> None:
    record = fitted(weighting=UniformWeighting(), batch_size=35).history[0]
    assert record["effective_sample_size"] == pytest.approx(35)
    assert record["loss"] == pytest.approx(record["unweighted_loss"])


def test_the_record_of_an_epoch_by_hand() -> None:
    """Two batches, no movement of the weights between them: losses, histogram and effective sample size."""
    x, y = digits(40)
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), lr=0.0)
    trainer = trainer_of(classifier, TanhWeighting(0.0), num_random_init=0, eps_step=0.03, max_iter=6)
    y = classifier.predict(x).argmax(axis=1)
    trainer.fit_generator([(x[:16], y[:16]), (x[16:], y[16:])], nb_epochs=1)

    weighted, unweighted, correct, sizes, kappas = 0.0, 0.0, 0, [], []
    for rows in (slice(0, 16), slice(16, 40)):
        x_adv, kappa = trainer.attack.generate_with_kappa(x[rows], y[rows])
        logits, labels = classifier.model(torch.from_numpy(x_adv)), torch.from_numpy(y[rows])
        losses = nn.functional.cross_entropy(logits, labels, reduction="none").detach().numpy()
        raw = (1 + np.tanh(5 * (1 - 2 * kappa / 6))) / 2
        w = raw / raw.mean()
        weighted, unweighted = weighted + (w * losses).sum(), unweighted + losses.sum()
        correct += int((logits.argmax(dim=1) == labels).sum())
        sizes.append(w.sum() ** 2 / (w**2).sum())
        kappas += kappa.tolist()
    record = trainer.history[0]
    assert weighted != pytest.approx(unweighted, rel=0.01)
    assert record["loss"] == pytest.approx(weighted / 40, rel=1e-4)
    assert record["unweighted_loss"] == pytest.approx(unweighted / 40, rel=1e-4)
    assert record["train_robust_accuracy"] == correct / 40
    assert record["effective_sample_size"] == pytest.approx(np.mean(sizes), rel=1e-4)
    assert record["kappa_histogram"] == np.bincount(kappas, minlength=7).tolist()


def test_the_weighting_sees_detached_logits_and_its_epoch() -> None:
    seen: list[tuple[bool, int]] = []

    def spy(*, kappa: Tensor, max_iter: int, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        seen.append((logits.requires_grad, epoch))
        return torch.ones(len(labels))

    trainer_of(digits_classifier(), spy).fit(*digits(8), nb_epochs=3)
    assert seen == [(False, 0), (False, 1), (False, 2)]


class Terminal(io.StringIO):
    """Where a user sees it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_over_the_batches_and_a_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    fitted()
    shown = terminal.getvalue()
    assert "epoch 1/2:   0%|" in shown
    assert re.search(r"loss \d\.\d+, robust \d+\.\d%", shown)
    assert len(re.findall(r"^epoch [12]/2: loss ", shown.replace("\r", "\n"), flags=re.MULTILINE)) == 2
    assert "GeometryAwarePGD" not in shown


def test_a_file_gets_a_line_an_epoch_and_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    trainer = fitted(validation_data=digits(20))
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == len(trainer.history)
    record = trainer.history[1]
    assert lines[1] == (
        f"epoch 2/2: loss {record['loss']:.4f}, robust {record['train_robust_accuracy']:.1%} in training, "
        f"clean {record['clean_accuracy']:.1%} and robust {record['robust_accuracy']:.1%} in validation, "
        f"{record['seconds']:.1f} s"
    )
    assert lines[0].endswith(" left")


def test_verbose_false_shows_nothing(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fitted(validation_data=digits(20), verbose=False)
    assert capfd.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fitted(verbose=False)
    assert terminal.getvalue() == ""


def test_a_program_that_shows_the_log_gets_no_second_line(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with caplog.at_level(logging.INFO, logger="art_gair"):
        fitted()
    assert caplog.text.count("acc(tr, adv)") == 2
    assert "robust" not in capfd.readouterr().err


def test_arts_own_attributes_are_set() -> None:
    trainer = trainer_of(digits_classifier())
    assert (trainer.attacks, trainer.ratio) == ([trainer.attack], 1.0)


def test_fit_works_under_no_grad() -> None:
    with torch.no_grad():
        trainer = fitted()
    assert_same_model(trainer, fitted())


def test_validation_accuracies_are_those_of_the_attack() -> None:
    trainer = trainer_of(digits_classifier(), num_random_init=0, batch_size=16)
    x, y = digits(150)
    trainer.fit(x[:100], y[:100], batch_size=32, nb_epochs=3, validation_data=(x[100:], np.eye(10)[y[100:]]))
    for key, z in (("clean_accuracy", x[100:]), ("robust_accuracy", trainer.attack.generate(x[100:], y[100:]))):
        assert trainer.history[-1][key] == pytest.approx((trainer.predict(z).argmax(axis=1) == y[100:]).mean())


def test_validation_does_not_change_the_training() -> None:
    assert_same_model(fitted(validation_data=digits(30)), fitted())


def test_logs_each_epoch(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="art_gair"):
        fitted(validation_data=digits(20))
    assert sum(message.startswith("epoch: ") for message in caplog.messages) == 2
    assert "TanhWeighting(lam=-1.0)" in caplog.text


def test_training_makes_digits_robust() -> None:
    """The whole chain on real input: PGD fools the plain model on more test digits than the trained one."""
    x, y = digits(700)
    plain, robust = digits_classifier(), digits_classifier()
    plain.fit(x[:500], y[:500], batch_size=64, nb_epochs=30)
    trainer_of(robust, burn_in=0.3, eps=0.15).fit(x[:500], y[:500], batch_size=64, nb_epochs=30)
    accuracy = []
    for classifier in (plain, robust):
        x_adv = GeometryAwarePGD(classifier, eps=0.15, eps_step=0.04, loss="margin").generate(x[500:], y[500:])
        accuracy.append((classifier.predict(x_adv).argmax(axis=1) == y[500:]).mean())
    assert accuracy[1] > accuracy[0] + 0.2, accuracy


# Schedulers


def test_a_scheduler_steps_once_an_epoch() -> None:
    trainer = trainer_of(digits_classifier())
    optimizer = trainer.classifier.optimizer
    trainer.fit(*digits(32), nb_epochs=4, scheduler=MultiStepLR(optimizer, [2]))
    assert [r["lr"] for r in trainer.history] == pytest.approx([0.05, 0.05, 0.005, 0.005])


@pytest.mark.parametrize(
    "make",
    [
        lambda o: ChainedScheduler([ExponentialLR(o, 0.5)]),
        lambda o: SequentialLR(o, [ExponentialLR(o, 0.5), ExponentialLR(o, 0.5)], [5]),
        lambda o: ReduceLROnPlateau(o, "min", factor=0.5, patience=0, threshold=1e9, threshold_mode="abs"),
        lambda o: ReduceLROnPlateau(o, "max", factor=0.5, patience=0, threshold=1e9, threshold_mode="abs"),
    ],
    ids=["chained", "sequential", "plateau of the loss", "plateau of robust accuracy"],
)
def test_any_torch_scheduler_works(make: Any) -> None:
    trainer = trainer_of(digits_classifier())
    scheduler = make(trainer.classifier.optimizer)
    trainer.fit(*digits(32), nb_epochs=3, scheduler=scheduler, validation_data=digits(10))
    assert trainer.history[2]["lr"] < trainer.history[0]["lr"]


def test_bad_schedulers_are_refused() -> None:
    trainer, other = trainer_of(digits_classifier()), digits_classifier()
    with pytest.raises(TypeError, match=r"scheduler is a float; expected one of torch.optim.lr_scheduler"):
        trainer.fit(*digits(8), scheduler=0.1)
    with pytest.raises(ValueError, match="scheduler updates another optimizer"):
        trainer.fit(*digits(8), scheduler=ExponentialLR(other.optimizer, 0.5))
    with pytest.raises(ValueError, match='mode "max", which needs validation_data'):
        trainer.fit(*digits(8), scheduler=ReduceLROnPlateau(trainer.classifier.optimizer, "max"))


# Bad input


def test_bad_classifiers_are_refused() -> None:
    with pytest.raises(EstimatorError, match=r"AdversarialTrainerGAIRAT requires an estimator .*PyTorchClassifier"):
        AdversarialTrainerGAIRAT(SklearnClassifier(LogisticRegression()))
    with pytest.raises(ValueError, match="classifier has no optimizer"):
        AdversarialTrainerGAIRAT(digits_classifier(optimizer=None))
    frozen = conv_net()
    for p in frozen.parameters():
        p.requires_grad_(False)
    stranger = torch.optim.SGD(conv_net().parameters(), lr=0.1)
    for bad in (classifier_of(frozen, (1, 8, 8)), digits_classifier(optimizer=stranger)):
        with pytest.raises(ValueError, match="The optimizer updates none of the model's trainable parameters"):
            AdversarialTrainerGAIRAT(bad)
    net = conv_net()
    with pytest.raises(ValueError, match="optimizer is LBFGS, which needs a closure"):
        AdversarialTrainerGAIRAT(classifier_of(net, (1, 8, 8), optimizer=torch.optim.LBFGS(net.parameters())))
    with pytest.raises(ValueError, match="loss BCEWithLogitsLoss has no per-sample form"):
        AdversarialTrainerGAIRAT(digits_classifier(loss=nn.BCEWithLogitsLoss()))


def test_bad_parts_are_refused() -> None:
    classifier = digits_classifier()
    with pytest.raises(TypeError, match="attack is 'pgd'; expected a GeometryAwarePGD, another ART EvasionAttack"):
        AdversarialTrainerGAIRAT(classifier, "pgd")
    with pytest.raises(ValueError, match=r"FastGradientMethod counts no kappa, which TanhWeighting\(lam=-1.0\) needs"):
        AdversarialTrainerGAIRAT(classifier, FastGradientMethod(classifier))
    with pytest.raises(ValueError, match="attack is on another estimator"):
        AdversarialTrainerGAIRAT(classifier, GeometryAwarePGD(digits_classifier()))
    with pytest.raises(ValueError, match=r"eps has shape \(5, 1, 1, 1\), which does not broadcast to \(1, 1, 8, 8\)"):
        trainer_of(classifier, eps=np.full((5, 1, 1, 1), 0.1))
    with pytest.raises(TypeError, match="weighting is 'Tanh'; expected a scheme such as TanhWeighting"):
        AdversarialTrainerGAIRAT(classifier, weighting="Tanh")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="burn_in is -1; expected an int of at least 0"):
        AdversarialTrainerGAIRAT(classifier, burn_in=-1)
    with pytest.raises(TypeError, match="burn_in is None; expected an int of at least 0"):
        AdversarialTrainerGAIRAT(classifier, burn_in=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"nb_epochs": 0}, ValueError, "nb_epochs is 0; expected an int of at least 1"),
        ({"nb_epochs": 2.5}, TypeError, "nb_epochs is 2.5; expected an int"),
        ({"nb_epochs": 3}, ValueError, "burn_in is 4 epochs; expected at most nb_epochs, 3"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; expected an int of at least 1"),
        ({"drop_last": True}, TypeError, r"fit got unknown arguments \['drop_last'\]; it takes x, y, validation_data"),
        ({"validation_data": np.zeros(3)}, ValueError, r"validation_data is a ndarray; expected a pair \(x, y\)"),
        ({"validation_data": digits(3)[:1] * 2}, ValueError, "validation_data's y has shape"),
        ({"x": digits(6)[0] * 2}, ValueError, "x has the value 2.0, outside the classifier's clip_values 0.0 to 1.0"),
        ({"x": np.full((6, 1, 8, 8), np.nan)}, ValueError, "x contains NaN"),
        ({"x": digits(0)[0]}, ValueError, "x is empty"),
        ({"x": digits(6)[0][:, 0]}, ValueError, r"x has shape \(6, 8, 8\); expected \(n, 1, 8, 8\)"),
        ({"y": np.arange(5)}, ValueError, "y has 5 labels for 6 samples"),
        ({"y": np.arange(6) + 5}, ValueError, "y holds labels 5 to 10; expected 0 to 9"),
        ({"y": np.arange(6) - 1}, ValueError, "y holds labels -1 to 4; expected 0 to 9"),
        ({"y": np.zeros((6, 4))}, ValueError, r"y has shape \(6, 4\); expected \(6,\) or one-hot"),
    ],
)
def test_bad_calls_of_fit_are_named_before_any_work(kwargs: Any, error: type[Exception], message: str) -> None:
    trainer = trainer_of(digits_classifier(), burn_in=4)
    before = state_of(trainer.classifier.model)
    x, y = digits(6)
    with pytest.raises(error, match=message):
        trainer.fit(**{"x": x, "y": y, "nb_epochs": 5, **kwargs})
    assert_same_state(trainer.classifier.model, before)


def test_a_bad_value_far_into_the_data_is_found() -> None:
    x = np.full((5000, 1, 8, 8), 0.5, np.float32)
    trainer = trainer_of(digits_classifier())
    for value, message in ((np.nan, "x contains NaN"), (1.5, "x has the value 1.5, outside")):
        x[-1, 0, 7, 7] = value
        with pytest.raises(ValueError, match=message):
            trainer.fit(x, np.zeros(5000), nb_epochs=1)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("burn_in", -3, "burn_in is -3; expected an int of at least 0"),
        ("burn_in", True, "burn_in is True; expected an int"),
        ("burn_in", "x", "burn_in is 'x'; expected an int"),
        ("burn_in", math.nan, "burn_in is nan; expected a finite number"),
        ("objective", None, "objective is None; expected an Objective"),
        ("weighting", 3, "weighting is 3; expected a scheme"),
        ("plugins", None, r"plugins is None; expected a list of Plugin objects such as \[AWP\(\), EMA\(\)\]"),
    ],
)
def test_bad_attributes_set_later_are_named(attribute: str, value: Any, message: str) -> None:
    trainer = trainer_of(digits_classifier())
    setattr(trainer, attribute, value)
    with pytest.raises((TypeError, ValueError), match=message):
        trainer.fit(*digits(8), nb_epochs=1)


def test_a_schedule_that_fails_later_is_refused_at_the_start() -> None:
    trainer = trainer_of(digits_classifier(), TanhWeighting(lambda epoch: -1.0 if epoch < 3 else math.nan))
    with pytest.raises(ValueError, match="lam is NaN in epoch 3"):
        trainer.fit(*digits(8), nb_epochs=4)


@pytest.mark.parametrize(
    ("generator", "error", "message"),
    [
        (iter([]), TypeError, "generator is a list_iterator; expected an ART DataGenerator"),
        (3, TypeError, "generator is a int; expected an ART DataGenerator"),
        ([], ValueError, "generator yielded no batch in epoch 0"),
        ([digits(4)[0]], ValueError, r"generator yielded a ndarray; expected a pair \(x, y\)"),
        ([(*digits(4), 1)], ValueError, "generator yielded a tuple of 3; expected a pair"),
        ([(digits(4)[0] * 2, digits(4)[1])], ValueError, "generator's x has the value 2.0"),
        ([(digits(4)[0], digits(3)[1])], ValueError, "generator's y has 3 labels for 4 samples"),
        (Endless(*digits(64), None), ValueError, "generator has size None"),
    ],
    ids=lambda v: str(v)[:20],
)
def test_bad_generators_are_named(generator: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trainer_of(digits_classifier()).fit_generator(generator, nb_epochs=1)


def test_unknown_arguments_of_fit_generator_are_named() -> None:
    with pytest.raises(TypeError, match=r"fit_generator got unknown arguments \['batch_size'\]; it takes generator"):
        trainer_of(digits_classifier()).fit_generator([digits(4)], batch_size=3)


def test_preprocessing_that_changes_labels_is_refused() -> None:
    classifier = digits_classifier(preprocessing_defences=MixupPyTorch(num_classes=10, device_type="cpu"))
    trainer = trainer_of(classifier)
    with pytest.raises(NotImplementedError, match="fit-time preprocessing changes the labels"):
        trainer.fit(*digits(8), nb_epochs=1)
