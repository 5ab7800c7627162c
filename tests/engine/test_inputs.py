"""What is taken from x and from the user's classifier: memory is shared, rounding forgiven, another predict refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.defences.postprocessor import Rounded
from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD
from art_gair.engine.classifier import TensorClassifier
from tests.models import classifier_of, digits, digits_classifier, mlp, trainer_of


def tensors(**settings: Any) -> TensorClassifier:
    return TensorClassifier(classifier_of(mlp((4,), 3), (4,), 3, **settings))


@pytest.mark.parametrize(
    ("clip", "value"), [((0.0, 1.0), 1.0000002), ((0.0, 255.0), 255.00003), ((-1.0, 1.0), -1.0000002)]
)
def test_a_rounding_error_past_clip_values_is_moved_to_the_bound(clip: tuple[float, float], value: float) -> None:
    classifier = tensors(clip_values=clip)
    x = np.full((2, 4), 0.5, dtype=np.float32)
    x[1, 2] = value
    assert not clip[0] <= x[1, 2] <= clip[1]
    batch = classifier.batch(classifier.inputs(x))
    assert batch[1, 2] == np.clip(value, *clip)
    assert x[1, 2] == np.float32(value)


@pytest.mark.parametrize("value", [1.00001, -1e-3, 2.0])
def test_more_than_a_rounding_error_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"x has the value .*, outside the classifier's clip_values 0.0 to 1.0"):
        tensors().inputs(np.full((1, 4), value, dtype=np.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("at", ["rounded", "computed"])
def test_images_normalised_to_the_edge_in_a_short_type_are_taken(dtype: torch.dtype, at: str) -> None:
    """The edges of MNIST's usual normalisation are no numbers of a short type."""
    mean, std = 0.1307, 0.3081
    clip = ((0 - mean) / std, (1 - mean) / std)
    image = torch.tensor([[0.0, 0.25, 0.75, 1.0]])
    x = ((image - mean) / std).to(dtype) if at == "rounded" else (image.to(dtype) - mean) / std
    classifier = tensors(clip_values=clip)
    batch = classifier.batch(classifier.inputs(x))
    assert (batch >= np.float32(clip[0])).all()
    assert (batch <= np.float32(clip[1])).all()
    torch.testing.assert_close(batch, (image - mean) / std, atol=0, rtol=torch.finfo(dtype).eps * 4)


@pytest.mark.parametrize(("dtype", "value"), [(torch.float16, 1.004), (torch.bfloat16, 1.03)])
def test_more_than_a_rounding_error_of_a_short_type_is_refused(dtype: torch.dtype, value: float) -> None:
    with pytest.raises(ValueError, match=r"x has the value .*, outside the classifier's clip_values 0.0 to 1.0"):
        tensors().inputs(torch.full((1, 4), value, dtype=dtype))


def test_a_training_goes_through_a_rounding_error() -> None:
    x, y = digits(40)
    x[17, 0, 3, 3] = np.nextafter(np.float32(1.0), np.float32(2.0))
    trainer_of(digits_classifier()).fit(x, y, batch_size=20, nb_epochs=1)


@pytest.mark.parametrize("layout", ["as it is", "transposed"])
def test_a_read_only_memory_map_is_shared(tmp_path: Path, layout: str) -> None:
    stored = np.memmap(tmp_path / "x.dat", np.float32, "w+", shape=(6, 8, 8, 3))
    stored[:] = 0.25
    stored.flush()
    x = np.memmap(tmp_path / "x.dat", np.float32, "r", shape=(6, 8, 8, 3))
    shape: tuple[int, ...] = (8, 8, 3)
    view: Any = x
    if layout == "transposed":
        view, shape = x.transpose(0, 3, 1, 2), (3, 8, 8)
    classifier = TensorClassifier(classifier_of(mlp(shape, 3), shape, 3))
    inputs = classifier.inputs(view)
    assert inputs.data_ptr() == x.ctypes.data
    batch = classifier.batch(inputs[:2])
    batch.zero_()  # a batch may be written to, the map may not
    assert (x == 0.25).all()


class Doubled(PyTorchClassifier):
    """Predicts otherwise than its model."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        return 2 * super().predict(*args, **kwargs)


class Named(PyTorchClassifier):
    """Adds nothing to how it predicts."""

    def describe(self) -> str:
        return "a classifier"


def build(kind: Any, **settings: Any) -> Any:
    model = mlp((1, 8, 8), 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return kind(
        model, nn.CrossEntropyLoss(), (1, 8, 8), 10, optimizer, clip_values=(0.0, 1.0), device_type="cpu", **settings
    )


@pytest.mark.parametrize("kind", [Doubled, PyTorchRandomizedSmoothing])
def test_a_classifier_that_predicts_otherwise_is_refused(kind: Any) -> None:
    classifier = build(kind)
    for use in (GeometryAwarePGD, AdversarialTrainerGAIRAT, TensorClassifier):
        with pytest.raises(NotImplementedError, match=f"classifier is a {kind.__name__}, which overrides predict"):
            use(classifier)


def test_a_predict_put_on_the_object_is_refused() -> None:
    classifier = build(PyTorchClassifier)
    classifier.predict = lambda x: x
    with pytest.raises(NotImplementedError, match="overrides predict"):
        GeometryAwarePGD(classifier)


def test_a_subclass_that_predicts_alike_works() -> None:
    GeometryAwarePGD(build(Named), max_iter=1).generate(digits(2)[0])


def test_postprocessing_is_named() -> None:
    assert TensorClassifier(build(PyTorchClassifier, postprocessing_defences=Rounded())).postprocessing == ["Rounded"]
    assert TensorClassifier(build(PyTorchClassifier)).postprocessing == []


class Shifted(nn.Sequential):
    """Does more than its layers."""

    def forward(self, x: torch.Tensor) -> Any:
        return self[0](x.flatten(1) - 0.5)


def test_a_sequential_with_a_forward_of_its_own_is_refused_as_art_would_skip_it() -> None:
    classifier = classifier_of(Shifted(nn.Linear(4, 3)), (4,), 3)
    with pytest.raises(NotImplementedError, match="model is a Shifted, an nn"):
        GeometryAwarePGD(classifier).generate(np.zeros((2, 4), dtype=np.float32))
    inside = classifier_of(nn.Sequential(Shifted(nn.Linear(4, 3))), (4,), 3)
    assert GeometryAwarePGD(inside).generate(np.zeros((2, 4), dtype=np.float32)).shape == (2, 4)


class Chained(nn.Sequential):
    """Does what its layers do."""

    def forward(self, x: torch.Tensor) -> Any:
        for layer in self:
            x = layer(x)
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forward_that_runs_the_layers_and_models_that_torch_has_made_are_taken() -> None:
    inner = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, y = np.full((2, 4), 0.5, dtype=np.float32), np.array([0, 1])
    expected = GeometryAwarePGD(classifier_of(inner, (4,), 3), num_random_init=0).generate(x, y)
    for model in (Chained(*inner), torch.jit.trace(inner, torch.zeros(2, 4)), torch.jit.script(inner)):
        attack = GeometryAwarePGD(classifier_of(model, (4,), 3, optimizer=None), num_random_init=0)
        np.testing.assert_array_equal(attack.generate(x, y), expected)


class Noisy(Chained):
    """Draws in eval mode as well, and takes images of 16 features or more."""

    def forward(self, x: torch.Tensor) -> Any:
        assert x.shape[1] >= 16
        return super().forward(x + 0 * torch.rand_like(x))


def test_holding_a_sequential_against_its_layers_draws_nothing_and_needs_no_size() -> None:
    noisy = classifier_of(Noisy(nn.Linear(16, 3)), (16,), 3)
    before = torch.get_rng_state()
    TensorClassifier(noisy)
    assert torch.equal(torch.get_rng_state(), before)
    free = PyTorchClassifier(Noisy(nn.Linear(16, 3)), nn.CrossEntropyLoss(), (None,), 3, clip_values=(0.0, 1.0))
    assert TensorClassifier(free).input_shape == (None,)
