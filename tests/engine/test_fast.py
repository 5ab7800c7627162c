"""The fast view as attacks and trainings meet it: invisible, whatever the model."""

from __future__ import annotations

import copy
import logging
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.nn.modules.module import register_module_forward_hook

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, UniformWeighting, generators
from art_gair.engine import FastClassifier, FoldedModule
from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.form import Form
from art_gair.engine.view import ModelItself
from art_gair.logits import best_other, label_score
from tests.engine.zoo import CLASSES, SHAPE, ZOO, Coin, lived_in
from tests.models import as_it_is, classifier_of, digits, digits_classifier, trainer_of


def classifier(name: str, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return classifier_of(lived_in(ZOO[name][0]()), SHAPE, CLASSES, **kwargs)


def images(n: int = 24) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random((n, *SHAPE), dtype=np.float32), rng.integers(CLASSES, size=n)


def probe() -> Tensor:
    return torch.from_numpy(images()[0])


def attacked(view: TensorClassifier, x: Tensor) -> tuple[Tensor, Tensor]:
    with view.attacked(x) as logits_of:
        generators.seed(x.device, 3)
        z = x.clone().requires_grad_(True)
        logits = logits_of(z)
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), z)
    return logits.detach(), gradient


def chosen(view: FastClassifier) -> tuple[type, torch.memory_format]:
    assert view.view is not None
    return type(view.view.stand_in), view.view.form.memory_format


@pytest.mark.parametrize("name", ZOO)
def test_predictions_and_gradients_are_the_models(name: str) -> None:
    model = classifier(name, preprocessing=(0.5, 0.25))
    for ours, theirs in zip(
        attacked(FastClassifier(model), probe()), attacked(TensorClassifier(model), probe()), strict=True
    ):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


@pytest.mark.parametrize("name", ZOO)
def test_takes_the_fastest_view_that_agrees(name: str) -> None:
    view = FastClassifier(classifier(name))
    attacked(view, probe())
    stand_in = FoldedModule if ZOO[name][1] is not None else ModelItself
    contiguous = name in ("views", "hook")
    assert chosen(view) == (stand_in, torch.contiguous_format if contiguous else torch.channels_last)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ZOO)
def test_every_network_trains(name: str, precision: str) -> None:
    model, (x, y) = classifier(name, lr=1e-3), images(20)
    attack = GeometryAwarePGD(model, max_iter=2)
    before = [p.detach().clone() for p in model.model.parameters()]
    trainer = AdversarialTrainerGAIRAT(model, attack, burn_in=0, precision=precision)
    trainer.fit(x, y, batch_size=8, nb_epochs=2, validation_data=(x, y))
    after = list(model.model.parameters())
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in after)
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in after)
    state = model.optimizer.state.values()
    assert all(v.dtype == torch.float32 for s in state for v in s.values() if isinstance(v, Tensor))


def test_views_of_feature_maps_are_updated_in_the_contiguous_format() -> None:
    view = FastClassifier(classifier("views"))
    view.training_logits(probe(), torch.zeros(24, dtype=torch.int64))
    assert view.update_form == Form()
    view = FastClassifier(classifier("grouped"), precision="bf16")
    assert view.training_logits(probe(), torch.zeros(24, dtype=torch.int64)).dtype == torch.float32
    assert view.update_form == Form(torch.channels_last, torch.bfloat16)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "control flow",
            r"off for ControlFlow: it cannot be traced: .* Your model runs unchanged in float32 and channels_last\.",
        ),
        (
            "views",
            r"off for Views: in float32 and channels_last it fails: Runtime.* Attacks run a folded copy in float32 and "
            r"contiguous_format\.",
        ),
        ("noise", r"path off for Noise: .*draws random numbers that a trace would freeze\. Your model runs unchanged"),
        ("hook", r"it has hooks, which must see each of its runs\. Your model runs unchanged\."),
    ],
)
def test_a_fallback_is_logged_once(name: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    model, (x, y) = classifier(name), images()
    with caplog.at_level(logging.WARNING, "art_gair.engine"):
        for _ in range(3):
            GeometryAwarePGD(model, max_iter=1).generate(x, y)
    assert len(caplog.records) == 1
    assert re.search(reason, caplog.text)


def test_a_network_that_folds_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    trainer_of(digits_classifier()).fit(*digits(20), nb_epochs=1)
    assert not caplog.records


def test_a_wrong_fold_is_refused(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    refresh = FoldedModule.refresh

    def wrong(self: FoldedModule) -> None:
        refresh(self)
        with torch.no_grad():
            next(self.module.parameters()).mul_(1.01)

    monkeypatch.setattr(FoldedModule, "refresh", wrong)
    view = FastClassifier(classifier("grouped"))
    attacked(view, probe())
    assert chosen(view)[0] is ModelItself
    assert "logits differ by" in caplog.text


class Scaled(nn.Module):
    """Logits times an attribute that is no tensor, which a trace freezes."""

    scale = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.body = lived_in(ZOO["grouped"][0]())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) * self.scale
        return out


def test_an_attribute_that_changes_is_seen_in_the_next_epoch() -> None:
    model = Scaled()
    view = FastClassifier(classifier_of(model, SHAPE, CLASSES))
    before, _ = attacked(view, probe())
    model.scale = 3.0
    view.begin_epoch()
    torch.testing.assert_close(attacked(view, probe())[0], 3 * before)
    assert chosen(view)[0] is FoldedModule


@pytest.mark.parametrize("layer", [0, 1])
def test_a_layer_that_is_replaced_by_its_like_is_seen_at_once(layer: int) -> None:
    model: Any = lived_in(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, CLASSES)))
    view = FastClassifier(view_of(model))
    before, _ = attacked(view, probe())
    assert chosen(view)[0] is FoldedModule
    model[layer] = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)][layer]
    after, _ = attacked(view, probe())
    torch.testing.assert_close(after, attacked(TensorClassifier(view_of(model)), probe())[0])
    assert not torch.allclose(after, before, atol=0.01)


HOOKS: dict[str, Callable[[Any], Any]] = {
    "forward": lambda model: model.register_forward_hook(lambda m, x, out: 2 * out + 1),
    "forward pre": lambda model: model[0].register_forward_pre_hook(lambda m, x: (2 * x[0],)),
    "backward": lambda model: model[0].register_full_backward_hook(lambda m, x, out: (2 * x[0],)),
    "backward pre": lambda model: model.register_full_backward_pre_hook(lambda m, out: (2 * out[0],)),
    "global": lambda model: register_module_forward_hook(lambda m, x, out: 2 * out if m is model else None),
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_comes_late_is_heeded(name: str) -> None:
    model = lived_in(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, CLASSES)))
    view = FastClassifier(view_of(model))
    before = attacked(view, probe())
    handle = HOOKS[name](model)
    try:
        after = attacked(view, probe())
        for ours, theirs in zip(after, attacked(TensorClassifier(view_of(model)), probe()), strict=True):
            torch.testing.assert_close(ours, theirs)
    finally:
        handle.remove()
    assert chosen(view)[0] is ModelItself
    assert any(not torch.allclose(a, b) for a, b in zip(after, before, strict=True))


class Counts(nn.Module):
    """A branch on an attribute that its forward writes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.runs = ZOO["grouped"][0](), 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        out: Tensor = self.body(x if self.runs % 100 else -x)
        return out


@pytest.mark.parametrize("model", [Counts(), Coin(np.random.default_rng(0).random), Coin(random.Random(0).random)])
def test_what_a_forward_remembers_is_not_frozen(model: nn.Module) -> None:
    view = FastClassifier(view_of(model))
    attacked(view, probe())
    assert chosen(view)[0] is ModelItself


class OwnBatchSize(nn.Module):
    """A state of one row a sample, as recurrent networks keep it: no other batch size will do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = ZOO["grouped"][0]()
        self.register_buffer("state", torch.rand(24, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.state
        return out


def test_a_model_that_takes_no_other_batch_size_is_run_as_it_stands(caplog: pytest.LogCaptureFixture) -> None:
    model = view_of(OwnBatchSize())
    for view in (FastClassifier(model), FastClassifier(model, precision="bf16")):
        torch.testing.assert_close(attacked(view, probe())[0], attacked(TensorClassifier(model), probe())[0])
        view.begin_epoch()
        attacked(view, probe())
        assert chosen(view)[0] is ModelItself
    assert "it cannot be run on 4 samples alone: RuntimeError" in caplog.text


class Strided(nn.Module):
    """Reads its feature maps by their strides, which runs in any memory format and is right in one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(144, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        out: Tensor = self.head(z.as_strided((len(z), 144), (144, 1)))
        return out


def test_the_update_takes_no_form_that_changes_the_numbers() -> None:
    view = FastClassifier(view_of(Strided()))
    view.training_logits(probe(), torch.zeros(24, dtype=torch.int64))
    assert view.update_form == Form()


class Uncopyable(nn.Linear):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("no copy of me")


def test_an_update_without_the_precision_asked_for_is_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Flatten(), Uncopyable(192, CLASSES))
    view = FastClassifier(view_of(model), precision="bf16")
    attacked(view, probe())
    view.training_logits(probe(), torch.zeros(24, dtype=torch.int64))
    assert view.update_form == Form()
    assert "Updates run in float32 and contiguous_format." in caplog.text


def test_an_attack_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, y) = classifier("grouped"), images()
    traced = []

    class Counting(FoldedModule):
        def __init__(self, *arguments: Any) -> None:
            traced.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr("art_gair.engine.fast.FoldedModule", Counting)
    attack = GeometryAwarePGD(model, max_iter=2, num_random_init=0)
    for seed in range(3):
        lived_in(model.model, seed)
        fresh = GeometryAwarePGD(as_it_is(model), max_iter=2, num_random_init=0).generate(x, y)
        for hook in list(model.model._forward_hooks):
            del model.model._forward_hooks[hook]
        assert (np.abs(attack.generate(x, y) - fresh) > 1e-4).mean() < 0.01
    assert len(traced) == 1
    for other in (copy.deepcopy(attack), copy.copy(attack), attack.with_loss("margin")):
        other.generate(x, y)
    assert len(traced) == 4
    attack._estimator = classifier("pre-activation")
    attack.generate(x, y)
    assert len(traced) == 5


def test_a_model_that_is_rebuilt_is_traced_again() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, CLASSES))
    view = FastClassifier(classifier_of(lived_in(model), SHAPE, CLASSES))
    attacked(view, probe())
    model[0], model[1], model[3] = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Linear(72, CLASSES)
    plain = TensorClassifier(view_of(model))
    torch.testing.assert_close(attacked(view, probe())[0], attacked(plain, probe())[0])


def view_of(model: nn.Module) -> Any:
    return classifier_of(model, SHAPE, CLASSES)


def test_weights_are_followed_batch_by_batch() -> None:
    model = classifier("grouped")
    fast, plain = FastClassifier(model), TensorClassifier(model)
    for seed in range(3):
        lived_in(model.model, seed)
        torch.testing.assert_close(attacked(fast, probe())[0], attacked(plain, probe())[0], rtol=1e-4, atol=1e-5)


class Writes(nn.Module):
    """Writes its buffers in eval mode."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, CLASSES)
        self.register_buffer("mean", torch.zeros(192))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        with torch.no_grad():
            self.mean += 0.1 * (x.mean(dim=0) - self.mean)
        out: Tensor = self.head(x)
        return out


@pytest.mark.parametrize("name", [*ZOO, "writes"])
def test_looking_draws_no_random_number_and_touches_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = view_of(Writes()) if name == "writes" else classifier(name)
    model.model.train()
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)  # torch.manual_seed calls it for every GPU
    state = generators.states(torch.device("cpu"))
    view = FastClassifier(model)
    with view.attacked(probe()):
        pass
    assert generators.states(torch.device("cpu")) == state
    assert not seeded
    assert all(torch.equal(v, before[k]) for k, v in model.model.state_dict().items())
    assert all(m.training for m in model.model.modules())
    assert all(p.grad is None for p in model.model.parameters())


@pytest.mark.parametrize(("norm", "eps"), [(np.inf, 0.2), (2, 0.8), (1, 3.0)])
def test_kappa_through_the_view_is_the_models_but_for_ties(norm: float, eps: float) -> None:
    """On a trained network. A sample may differ only if at some look its logits tie within rounding; few do."""
    x, y = digits(600)
    model = digits_classifier()
    trainer_of(model, UniformWeighting()).fit(x, y, batch_size=64, nb_epochs=4)
    attack = GeometryAwarePGD(model, norm=norm, eps=eps, eps_step=eps / 6, max_iter=10)
    labels = torch.from_numpy(y)
    kappas, ties = [], []
    for view in (TensorClassifier(model), FastClassifier(model)):
        torch.manual_seed(0)
        pgd, margins = attack._pgd(view), []
        with view.attacked(torch.from_numpy(x)) as logits_of:

            def watched(z: Tensor) -> Tensor:
                logits = logits_of(z)
                margins.append((best_other(logits, labels)[0] - label_score(logits, labels)).detach().abs())  # noqa: B023
                return logits

            kappas.append(pgd(watched, torch.from_numpy(x), labels, *attack._radii(x.shape))[1])
        ties.append(torch.stack(margins).amin(dim=0) < 1e-3)
    differs = kappas[0] != kappas[1]
    assert kappas[0].unique().numel() > 5
    assert not (differs & ~ties[0]).any()
    assert int(differs.sum()) <= 3


def test_generate_with_kappa_is_that_of_the_plain_model() -> None:
    x, y = digits(100)
    model = digits_classifier()
    lived_in(model.model)
    results = []
    for hooked in (False, True):
        torch.manual_seed(0)
        results.append(GeometryAwarePGD(as_it_is(model) if hooked else model, eps=0.1, max_iter=5).generate(x, y))
    assert (np.abs(results[0] - results[1]) > 1e-4).mean() < 0.01


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of torch's own parts
def test_a_compiled_view_gives_the_same() -> None:
    model = classifier("grouped")
    fast, plain = FastClassifier(model, compiled=True), TensorClassifier(model)
    for ours, theirs in zip(attacked(fast, probe()), attacked(plain, probe()), strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


@pytest.mark.filterwarnings("ignore")
def test_without_a_compiler_it_goes_on_uncompiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(inductor.cpp, "cxx", (str(tmp_path / "no compiler"),))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    model = classifier("without BatchNorm")
    fast = FastClassifier(model, compiled=True)
    torch.testing.assert_close(attacked(fast, probe())[0], attacked(TensorClassifier(model), probe())[0])
    assert "it cannot be compiled" in caplog.text
    assert chosen(fast)[0] is FoldedModule


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"precision": "fp16"}, ValueError, r"precision is 'fp16'; expected one of 'fp32', 'bf16', 'auto'"),
        ({"precision": None}, ValueError, r"precision is None; expected one of"),
        ({"compile": 1}, TypeError, r"compile is 1; expected True or False"),
    ],
)
def test_a_bad_setting_is_named(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AdversarialTrainerGAIRAT(digits_classifier(), **settings)


class Rounds(torch.autograd.Function):
    """Rounding whose gradient is passed on; a trace takes it for rounding, whose gradient is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x * 8) / 8

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Standardises(nn.Module):
    """A model without a derivative at a constant sample."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.layer = inner, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.inner((x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True).sqrt() + 1e-3)))
        return out


@pytest.mark.parametrize("constant", [0, 1, 3, 4])
@pytest.mark.parametrize(("inner", "followed"), [(torch.relu, True), (Rounds.apply, False)])
def test_samples_without_a_derivative_neither_prove_a_view_nor_refuse_it(
    inner: Any, followed: bool, constant: int
) -> None:
    torch.manual_seed(0)
    fast = FastClassifier(classifier_of(Standardises(inner), (4,), 2))
    x = torch.rand(8, 4)
    x[:constant] = 0.5
    with fast.attacked(x):
        assert (chosen(fast)[0] is ModelItself) == (not followed or constant == 4)
