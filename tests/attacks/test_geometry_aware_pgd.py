"""The attack as an ART user meets it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.defences.preprocessor import FeatureSqueezing
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import SklearnClassifier
from art.exceptions import EstimatorError
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from art_gair import GeometryAwarePGD
from tests.models import Blur, assert_same_state, classifier_of, conv_net, digits, digits_classifier, mlp, state_of


def attack_of(classifier: Any, **kwargs: Any) -> GeometryAwarePGD:
    return GeometryAwarePGD(classifier, **{"eps": 0.2, "eps_step": 0.05, "max_iter": 5, **kwargs})


def test_is_an_art_attack_and_returns_arrays() -> None:
    x, y = digits(30)
    attack = attack_of(digits_classifier())
    x_adv, kappa = attack.generate_with_kappa(x, y)
    assert isinstance(attack, EvasionAttack)
    assert x_adv.shape == x.shape
    assert kappa.shape == (30,)
    assert [str(a.dtype) for a in (x_adv, kappa)] == ["float32", "int64"]
    assert isinstance(attack.generate(x, y), np.ndarray)
    assert "max_iter=5" in repr(attack)
    attack.set_params(max_iter=3)
    assert attack.generate_with_kappa(x, y)[1].max() <= 3


@pytest.mark.parametrize("shape", [(5,), (1, 12), (3, 4, 4)], ids=["tabular", "signal", "image"])
@pytest.mark.parametrize("n", [1, 7, 8])
@pytest.mark.parametrize("nb_classes", [2, 6])
def test_any_shape_batch_and_number_of_classes(shape: tuple[int, ...], n: int, nb_classes: int) -> None:
    """Batches of 4: a last partial one, a whole one, a single sample; the split changes nothing."""
    classifier = classifier_of(mlp(shape, nb_classes), shape, nb_classes)
    x, y = np.random.rand(n, *shape).astype(np.float32), np.random.randint(nb_classes, size=n)
    x_adv, kappa = attack_of(classifier, batch_size=4, num_random_init=0).generate_with_kappa(x, y)
    whole_x_adv, whole_kappa = attack_of(classifier, batch_size=99, num_random_init=0).generate_with_kappa(x, y)
    assert (kappa == whole_kappa).all()
    np.testing.assert_allclose(x_adv, whole_x_adv, atol=1e-6)


@pytest.mark.parametrize("norm", [np.inf, 2])
@pytest.mark.parametrize("loss_kwargs", [{}, {"weight": torch.linspace(1, 2, 10)}], ids=["plain", "class weights"])
def test_equals_arts_pgd_from_the_same_start(norm: float, loss_kwargs: dict[str, Any]) -> None:
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), loss=nn.CrossEntropyLoss(**loss_kwargs))
    x, _ = digits(40)
    y = classifier.predict(x).argmax(axis=1)
    eps = 0.15 if norm == np.inf else 1.0
    settings: dict[str, Any] = {"norm": norm, "eps": eps, "eps_step": eps / 4, "max_iter": 7, "num_random_init": 0}
    theirs = ProjectedGradientDescentPyTorch(classifier, verbose=False, **settings).generate(x, np.eye(10)[y])
    ours, kappa = GeometryAwarePGD(classifier, **settings).generate_with_kappa(x, y)
    assert len(set(kappa)) > 2
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("norm", ["inf", np.inf, 2, 1])
def test_inside_arts_own_adversarial_trainer(norm: Any) -> None:
    classifier = digits_classifier()
    x, y = digits(64)
    before = state_of(classifier.model)
    trainer = AdversarialTrainer(classifier, attack_of(classifier, norm=norm, max_iter=2), ratio=0.5)
    trainer.fit(x, np.eye(10)[y], batch_size=32, nb_epochs=1)
    assert any(not torch.equal(before[k], v) for k, v in classifier.model.state_dict().items())


@pytest.mark.parametrize("loss", ["ce", "margin", "kl"])
@pytest.mark.parametrize("num_random_init", [0, 1, 3])
def test_leaves_the_model_as_it_was(loss: str, num_random_init: int) -> None:
    classifier = digits_classifier()
    model = classifier.model
    x, y = digits(20)
    model.train()
    model[1].eval()
    next(model.parameters()).requires_grad_(False)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    before, grads = state_of(model), [p.grad.clone() for p in model.parameters()]
    flags = [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()]

    x_before = x.copy()
    attack_of(classifier, loss=loss, num_random_init=num_random_init).generate(x, y)

    assert_same_state(model, before)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    assert [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()] == flags
    assert (x == x_before).all()


def test_flags_come_back_after_an_error() -> None:
    classifier = digits_classifier()
    classifier.model.train()
    classifier.model[-1] = nn.Linear(32, 9)
    with pytest.raises(ValueError, match=r"model returned shape \(8, 9\); expected one logit a class, \(8, 10\)"):
        attack_of(classifier).generate(*digits(8))
    assert all(m.training for m in classifier.model.modules())


def test_the_same_seed_gives_the_same_result() -> None:
    attack, (x, y) = attack_of(digits_classifier()), digits(20)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(attack.generate(x, y))
    assert (results[0] == results[1]).all()
    assert (results[0] != results[2]).any()


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_the_same_seed_gives_the_same_whatever_the_layout_of_x(norm: float) -> None:
    classifier = digits_classifier()
    x, y = digits(10)
    results = []
    for values in (x, np.asfortranarray(x), np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
        torch.manual_seed(0)
        results.append(GeometryAwarePGD(classifier, norm=norm, eps=0.2, eps_step=0.05, max_iter=3).generate(values, y))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_restarts_keep_the_first_success_and_the_least_kappa() -> None:
    classifier = classifier_of(mlp((6,), 3), (6,), 3)
    x = np.random.rand(200, 6).astype(np.float32)
    y = classifier.predict(x).argmax(axis=1)
    runs = []
    torch.manual_seed(3)
    for _ in range(3):
        runs.append(attack_of(classifier, eps=0.12, eps_step=0.03, batch_size=200).generate_with_kappa(x, y))
    torch.manual_seed(3)
    attack = attack_of(classifier, eps=0.12, eps_step=0.03, batch_size=200, num_random_init=3)
    x_adv, kappa = attack.generate_with_kappa(x, y)

    assert (kappa == np.min([k for _, k in runs], axis=0)).all()
    fooled = np.array([classifier.predict(a).argmax(axis=1) != y for a, _ in runs])
    first = np.where(fooled.any(axis=0), fooled.argmax(axis=0), 2)
    assert {0, 1, 2} <= set(first)
    assert (x_adv == np.array([a for a, _ in runs])[first, np.arange(200)]).all()


def test_labels_default_to_the_models_predictions() -> None:
    classifier = digits_classifier()
    x, _ = digits(40)
    attack = attack_of(classifier, num_random_init=0)
    x_adv, kappa = attack.generate_with_kappa(x)
    expected, kappa_expected = attack.generate_with_kappa(x, classifier.predict(x).argmax(axis=1))
    assert (x_adv == expected).all()
    assert (kappa == kappa_expected).all()
    assert kappa.min() >= 1


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y,
        lambda y: y.astype(np.uint8),
        lambda y: y.astype(np.uint16),
        lambda y: y.astype(np.float32),
        lambda y: y[:, None],
        lambda y: np.eye(10)[y],
        lambda y: np.eye(10, dtype=bool)[y],
        lambda y: torch.from_numpy(y),
        lambda y: y.tolist(),
    ],
    ids=["int64", "uint8", "uint16", "float", "column", "one-hot", "bool one-hot", "tensor", "list"],
)
def test_labels_in_every_form_are_the_same(form: Any) -> None:
    x, y = digits(12)
    attack = attack_of(digits_classifier(), num_random_init=0)
    assert (attack.generate(x, form(y)) == attack.generate(x, y)).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ">f4", np.longdouble])
def test_inputs_of_other_types_are_taken_as_float32(dtype: Any) -> None:
    x, y = digits(12)
    attack = attack_of(digits_classifier(), num_random_init=0)
    assert (attack.generate(x.astype(dtype), y) == attack.generate(x, y)).all()


def test_integer_inputs_keep_their_units() -> None:
    """uint8 images in 0..255 are attacked in 0..255, as ART does; a strided, read-only view is taken as it is."""
    images = (digits(12)[0] * 255).astype(np.uint8)
    images.setflags(write=False)
    classifier = classifier_of(conv_net(), (1, 8, 8), clip_values=(0, 255), preprocessing=(0.0, 255.0))
    x_adv = attack_of(classifier, eps=8.0, eps_step=2.0).generate(images[::2], digits(12)[1][::2])
    assert np.abs(x_adv - images[::2]).max() == pytest.approx(8, abs=1e-4)
    assert x_adv.max() <= 255


@pytest.mark.parametrize("preprocessing", [(0.5, 0.25), (np.array([0.4, 0.6]), np.array([0.2, 0.3]))])
def test_preprocessing_is_inside_the_attack(preprocessing: Any) -> None:
    """Gradients through mean and std, eps in units of x: the same as a model that standardises itself."""

    class Standardised(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            mean, std = (torch.as_tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in preprocessing)
            out: Tensor = self.inner((x - mean) / std)
            return out

    model = mlp((2, 4, 4), 5)
    x, y = np.random.rand(20, 2, 4, 4).astype(np.float32), np.arange(20) % 5
    outside = classifier_of(model, (2, 4, 4), 5, preprocessing=preprocessing)
    inside = classifier_of(Standardised(model), (2, 4, 4), 5)
    x_adv, kappa = attack_of(outside, num_random_init=0).generate_with_kappa(x, y)
    expected, kappa_expected = attack_of(inside, num_random_init=0).generate_with_kappa(x, y)
    np.testing.assert_allclose(x_adv, expected, atol=1e-6)
    assert (kappa == kappa_expected).all()
    assert np.abs(x_adv - x).max() == pytest.approx(0.2, abs=1e-5)


def test_gradients_pass_through_a_framework_defence() -> None:
    x, _ = digits(40)
    model = mlp((1, 8, 8), 10)
    classifier = classifier_of(model, (1, 8, 8), preprocessing_defences=Blur(), preprocessing=(0.5, 0.25))
    y = classifier.predict(x).argmax(axis=1)
    settings: dict[str, Any] = {"eps": 0.2, "eps_step": 0.05, "max_iter": 5, "num_random_init": 0}
    theirs = ProjectedGradientDescentPyTorch(classifier, verbose=False, **settings).generate(x, np.eye(10)[y])
    ours, kappa = GeometryAwarePGD(classifier, **settings).generate_with_kappa(x, y)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert len(set(kappa)) > 1


def test_a_mask_keeps_features() -> None:
    x, y = digits(10)
    attack = attack_of(digits_classifier(), num_random_init=1)
    left = np.zeros((8, 8), dtype=bool)
    left[:, :4] = True
    x_adv = attack.generate(x, y, mask=left)
    assert (x_adv[..., 4:] == x[..., 4:]).all()
    assert (x_adv[..., :4] != x[..., :4]).any()
    for_each = np.zeros((10, 1, 8, 8), dtype=np.float32)
    for_each[3] = 1
    x_adv = attack.generate(x, y, mask=for_each)
    assert [i for i in range(10) if (x_adv[i] != x[i]).any()] == [3]
    attack.set_params(batch_size=4)
    assert [i for i in range(10) if (attack.generate(x, y, mask=for_each)[i] != x[i]).any()] == [3]


@pytest.mark.parametrize("norm", [2, 1])
def test_a_mask_leaves_the_whole_step_to_the_free_features(norm: float) -> None:
    x, _ = digits(20)
    classifier = classifier_of(mlp((1, 8, 8), 10), (1, 8, 8), clip_values=None)
    y = classifier.predict(x).argmax(axis=1)
    corner = np.zeros((8, 8), dtype=bool)
    corner[0, 0] = True
    attack = attack_of(classifier, norm=norm, eps=10.0, eps_step=0.05, num_random_init=0)
    delta = np.abs(attack.generate(x, y, mask=corner) - x)
    np.testing.assert_allclose(delta[:, 0, 0, 0], 5 * 0.05, rtol=1e-4)
    assert delta.sum() == pytest.approx(delta[:, 0, 0, 0].sum())


class StartsInPlace(nn.Module):
    """Writes on its input before anything else."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        out: Tensor = self.inner(x)
        return out


@pytest.mark.parametrize("loss", ["ce", "margin", "kl"])
def test_a_model_that_writes_on_its_input_reaches_neither_x_nor_the_result(loss: str) -> None:
    x, _ = digits(20)
    inner = mlp((1, 8, 8), 10)
    in_place = classifier_of(StartsInPlace(inner), (1, 8, 8))
    honest = classifier_of(inner, (1, 8, 8), preprocessing=(0.5, 1.0))
    before = x.copy()
    results = []
    for classifier in (in_place, honest):
        torch.manual_seed(0)
        results.append(attack_of(classifier, loss=loss).generate(x))
    assert (x == before).all()
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_eps_may_differ_between_samples(norm: float) -> None:
    x, y = digits(10)
    eps = np.linspace(0.05, 0.5, 10).reshape(-1, 1, 1, 1)
    x_adv = attack_of(digits_classifier(), norm=norm, eps=eps, eps_step=eps, batch_size=4).generate(x, y)
    lengths = np.linalg.norm((x_adv - x).reshape(10, -1), ord=norm, axis=1)
    assert (lengths <= eps.ravel() * (1 + 1e-5)).all()
    assert lengths[9] > eps[0].item()
    same_throughout = np.broadcast_to(eps, x.shape)
    again = attack_of(digits_classifier(), norm=norm, eps=same_throughout, eps_step=0.1)
    assert np.isfinite(again.generate(x, y)).all()


def test_eps_may_differ_between_features_in_the_maximum_norm() -> None:
    x, y = digits(10)
    eps = np.full((8, 8), 0.01)
    eps[0] = 0.3
    x_adv = attack_of(digits_classifier(), eps=eps, eps_step=eps / 2).generate(x, y)
    assert np.abs(x_adv - x)[:, 0, 1:].max() <= 0.01 + 1e-6
    assert np.abs(x_adv - x)[:, 0, 0].max() > 0.02
    for shape in ((8, 8), (10, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"eps differs between the features of a sample; .* norm 2"):
            attack_of(digits_classifier(), norm=2, eps=np.broadcast_to(eps, shape)).generate(x, y)


@pytest.mark.parametrize("clip_values", [None, (np.zeros((1, 8, 8)), np.full((1, 8, 8), 1.0))], ids=["none", "array"])
def test_clip_values_none_or_for_each_feature(clip_values: Any) -> None:
    x, y = digits(10)
    x_adv = attack_of(digits_classifier(clip_values=clip_values)).generate(x, y)
    assert (x_adv.min() < 0) == (clip_values is None)


def test_an_input_shape_may_leave_a_size_open() -> None:
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    classifier = classifier_of(model, (1, None), 2)  # type: ignore[arg-type]
    for length in (7, 12):
        assert attack_of(classifier).generate(np.full((3, 1, length), 0.5, np.float32)).shape == (3, 1, length)


def test_shows_a_progress_bar_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    attack_of(digits_classifier(), verbose=True).generate(*digits(4))
    assert "GeometryAwarePGD" in capsys.readouterr().err


# Bad input


def test_a_wrong_estimator_is_refused() -> None:
    with pytest.raises(
        EstimatorError, match=r"GeometryAwarePGD requires an estimator derived from .*PyTorchClassifier"
    ):
        GeometryAwarePGD(SklearnClassifier(LogisticRegression()))


def test_a_numpy_defence_is_refused() -> None:
    classifier = digits_classifier(preprocessing_defences=FeatureSqueezing(clip_values=(0, 1)))
    with pytest.raises(NotImplementedError, match=r"\['FeatureSqueezing', .* not all is PyTorch"):
        GeometryAwarePGD(classifier)


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("eps", 0, ValueError, "eps is 0; expected positive and finite"),
        ("eps", -0.1, ValueError, "eps is -0.1; expected positive"),
        ("eps", np.inf, ValueError, "eps is inf; expected positive and finite"),
        ("eps", np.array([0.1, 0.0]), ValueError, "eps is array.* expected positive"),
        ("eps", "8/255", TypeError, "eps is '8/255'; expected a positive number"),
        ("eps_step", 0.0, ValueError, "eps_step is 0.0; expected positive"),
        ("eps_step", np.nan, ValueError, "eps_step is nan; expected positive"),
        ("eps_step", True, TypeError, "eps_step is True; expected a positive number"),
        ("max_iter", 0, ValueError, "max_iter is 0; expected an int of at least 1"),
        ("max_iter", 2.0, TypeError, "max_iter is 2.0; expected an int"),
        ("max_iter", True, TypeError, "max_iter is True; expected an int"),
        ("num_random_init", -1, ValueError, "num_random_init is -1; expected an int of at least 0"),
        ("batch_size", 0, ValueError, "batch_size is 0; expected an int of at least 1"),
        ("norm", 3, ValueError, "norm is 3; expected"),
        ("eps", 1e-60, ValueError, "eps is 1e-60; expected positive"),
        ("loss", ["ce"], ValueError, r"loss is \['ce'\]; expected one of 'ce'"),
        ("loss", "cw", ValueError, "loss is 'cw'; expected one of 'ce', 'margin', 'kl'"),
        ("verbose", 1, TypeError, "verbose is 1; expected True or False"),
    ],
)
def test_bad_arguments_are_named(argument: str, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        attack_of(digits_classifier(), **{argument: value})


@pytest.mark.parametrize(
    ("argument", "value"), [("batch_size", -5), ("eps", -1.0), ("max_iter", -3), ("loss", "foo"), ("norm", 7)]
)
@pytest.mark.parametrize("through", ["set_params", "attribute"])
def test_bad_arguments_that_came_later_are_named_too(argument: str, value: Any, through: str) -> None:
    attack = attack_of(digits_classifier())
    if through == "set_params":
        with pytest.raises(ValueError, match=f"{argument} is "):
            attack.set_params(**{argument: value})
    setattr(attack, argument, value)
    with pytest.raises(ValueError, match=f"{argument} is "):
        attack.generate(*digits(4))


def test_a_model_that_returns_no_tensor_is_named() -> None:
    class Pair(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return x, x

    classifier = classifier_of(Pair(1, 1), (1, 8, 8))
    with pytest.raises(ValueError, match="model returned a tuple; expected one logit a class"):
        attack_of(classifier).generate(*digits(4))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x[:0], y[:0]), ValueError, "x is empty"),
        (lambda x, y: (x, y[:3]), ValueError, "y has 3 labels for 6 samples"),
        (lambda x, y: (x[:, :, :7], y), ValueError, r"x has shape \(6, 1, 7, 8\); expected \(n, 1, 8, 8\)"),
        (lambda x, y: (x[0], y), ValueError, r"x has shape \(1, 8, 8\); expected \(n, 1, 8, 8\)"),
        (lambda x, y: (np.where(x > 0.9, np.nan, x), y), ValueError, "x contains NaN or infinite"),
        (lambda x, y: (np.where(x > 0.9, np.inf, x), y), ValueError, "x contains NaN or infinite"),
        (
            lambda x, y: (x * 255, y),
            ValueError,
            "x has the value 255.0, outside the classifier's clip_values 0.0 to 1.0",
        ),
        (lambda x, y: (x - 0.1, y), ValueError, "x has the value -0.1.*, outside"),
        (lambda x, y: (x.astype(complex), y), TypeError, "x has dtype complex128; expected an array of real numbers"),
        (lambda x, y: (torch.from_numpy(x).to(torch.complex64), y), TypeError, "x has dtype torch.complex64"),
        (lambda x, y: (x, y + 5), ValueError, "y holds labels 5 to 10; expected 0 to 9"),
        (lambda x, y: (x, y - 1), ValueError, "y holds labels -1 to 4; expected 0 to 9"),
        (lambda x, y: (x, y + 0.5), ValueError, "y holds values that are no class index"),
        (lambda x, y: (x, np.eye(9)[y]), ValueError, r"y has shape \(6, 9\); expected \(6,\) or one-hot \(6, 10\)"),
        (lambda x, y: (x, np.full((6, 10), 0.1)), ValueError, "y of shape .* is not one-hot"),
        (lambda x, y: (x, np.zeros((6, 10))), ValueError, "y of shape .* is not one-hot"),
        (lambda x, y: (x, np.array(list("abcdef"))), TypeError, "y has dtype <U1; expected an array of real numbers"),
    ],
)
def test_bad_data_is_named(change: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        attack_of(digits_classifier()).generate(*change(*digits(6)))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((3, 3)), r"mask has shape \(3, 3\), which does not broadcast to \(6, 1, 8, 8\)"),
        (np.ones((1, 6, 1, 8, 8)), r"mask has shape .* does not broadcast"),
        (-np.ones((8, 8)), "mask holds negative values"),
        (np.array(["a"] * 8), "mask has dtype <U1; expected an array of real numbers"),
    ],
)
def test_bad_masks_are_named(mask: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        attack_of(digits_classifier()).generate(*digits(6), mask=mask)


def test_an_eps_that_does_not_fit_x_is_named() -> None:
    with pytest.raises(ValueError, match=r"eps has shape \(7, 1, 1, 1\), which does not broadcast to \(6, 1, 8, 8\)"):
        attack_of(digits_classifier(), eps=np.full((7, 1, 1, 1), 0.1)).generate(*digits(6))


def test_clip_values_that_do_not_fit_the_input_are_named() -> None:
    classifier = digits_classifier(clip_values=(np.zeros(64), np.ones(64)))
    with pytest.raises(ValueError, match=r"clip_values has shape \(64,\), which does not broadcast to \(1, 8, 8\)"):
        attack_of(classifier)


def test_apex_is_refused() -> None:
    classifier = digits_classifier()
    classifier._use_amp = True
    with pytest.raises(NotImplementedError, match="use_amp=True"):
        attack_of(classifier)
