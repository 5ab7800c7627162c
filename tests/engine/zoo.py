"""Networks that a user might bring, and what becomes of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

SHAPE = (3, 8, 8)
CLASSES = 5


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, CLASSES)]


class PreActivation(nn.Module):
    """BatchNorm before the convolutions; only the inner one follows a convolution that nothing else reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Sequential(*_head(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        out: Tensor = self.head(x)
        return out


class SharedLayers(nn.Module):
    """One convolution called twice, once with BatchNorm behind it, and one BatchNorm behind two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.bn, self.shared_bn = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.head = nn.Sequential(*_head(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn(self.conv(self.stem(x))))
        x = torch.tanh(self.conv(x))
        x = self.shared_bn(self.a(x)) + self.shared_bn(self.b(x))
        out: Tensor = self.head(x)
        return out


class TiedWeights(nn.Module):
    """Two convolutions that share a weight; one has BatchNorm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4, 4))
        self.b.weight = self.a.weight
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Sequential(*_head(4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.b(torch.tanh(self.bn(self.a(self.stem(x)))))))
        return out


class ReadsItsWeight(nn.Module):
    """The weight of a convolution with BatchNorm behind it is read a second time, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.head = nn.Sequential(*_head(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        out: Tensor = self.head(F.conv2d(x, self.conv.weight, padding=1))
        return out


class ControlFlow(nn.Module):
    """A branch on values, which no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Sequential(*_head(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        if x.mean() > 0:
            x = x.relu()
        out: Tensor = self.head(x)
        return out


class Views(nn.Module):
    """`.view` on a feature map, which channels-last does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(144, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        out: Tensor = self.head(x.view(x.size(0), -1))
        return out


class Recurrent(nn.Module):
    """An LSTM over the rows of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(24, 12, batch_first=True), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 1, 3).flatten(2)
        out: Tensor = self.head(self.lstm(rows)[0][:, -1])
        return out


class LinearOverChannels(nn.Module):
    """BatchNorm1d behind a linear layer, but over the second dimension, which is not the layer's own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.bn, self.head = nn.Linear(64, 3), nn.BatchNorm1d(3), nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.bn(self.linear(x.flatten(2)))).flatten(1))
        return out


class Noise(nn.Module):
    """Noise drawn without looking at the input, which a trace would freeze."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *_head(4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x + 0.3 * torch.randn(SHAPE))
        return out


class Coin(nn.Module):
    """A branch taken by chance, which a trace would freeze: half of the time even a comparison does not show it."""

    def __init__(self, toss: Callable[[], float]) -> None:
        super().__init__()
        self.toss = toss
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *_head(4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.flip(-1) * 0.3 if self.toss() < 0.5 else x)
        return out


class SettledArguments(nn.Module):
    """Arguments beside x that the forward has settled, and branches on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *_head(4))

    def forward(self, x: Tensor, features: bool = False, scale: float | None = None) -> Tensor:
        if features:
            return x
        out: Tensor = self.body(x)
        return out if scale is None else scale * out


class Constants(nn.Module):
    """Normalises by constants that its forward makes anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *_head(4))

    def forward(self, x: Tensor) -> Tensor:
        mean = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
        out: Tensor = self.body((x - mean) / 0.2)
        return out


class PartlyWithoutGradients(nn.Module):
    """Takes a part of the forward without gradients, which the trace detaches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Sequential(*_head(4))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            offset = self.conv(x).relu()
        out: Tensor = self.head(self.conv(x) + 3 * offset)
        return out


class BufferNorm(nn.Module):
    """A norm that reads its running mean in a layout of its own, as EvoNorm does."""

    running_mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Sequential(*_head(4))
        self.register_buffer("running_mean", torch.linspace(-1.0, 1.0, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.running_mean.shape[0] != 4:
            raise ValueError("four channels expected")
        out: Tensor = self.head(x - self.running_mean[None, :, None, None])
        return out


class Prototypes(nn.Module):
    """Cosines to prototypes, which are a buffer or a plain attribute."""

    def __init__(self, registered: bool) -> None:
        super().__init__()
        self.features = nn.Linear(192, 7)
        prototypes = torch.randn(CLASSES, 7)
        if registered:
            self.register_buffer("prototypes", prototypes)
        else:
            self.prototypes = prototypes

    def forward(self, x: Tensor) -> Tensor:
        return 10 * F.normalize(self.features(x.flatten(1)), dim=1) @ F.normalize(self.prototypes, dim=1).t()


class ListedOffsets(nn.Module):
    """Reads a tensor in a list, computing with it or not: no trace sees where it comes from."""

    def __init__(self, computes: bool) -> None:
        super().__init__()
        self.head, self.offsets, self.computes = nn.Linear(192, CLASSES), [torch.rand(CLASSES)], computes

    def forward(self, x: Tensor) -> Tensor:
        offset = 2 * self.offsets[0] if self.computes else self.offsets[0]
        out: Tensor = self.head(x.flatten(1)) + offset
        return out


class LazyCache(nn.Module):
    """Fills a buffer at its first forward, and another at every one, in the shape of the batch."""

    mask: Tensor | None
    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *_head(4))
        self.register_buffer("mask", None)
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = torch.ones(x.shape[2:])
        self.last = x.detach().mean(dim=(1, 2, 3))
        out: Tensor = self.body(x * self.mask)
        return out


def grouped() -> nn.Module:
    """Grouped and depthwise convolutions with Dropout and a BatchNorm without scale."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, groups=3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 8, 3, groups=2, stride=2), nn.BatchNorm2d(8, affine=False), nn.Dropout(0.5), *_head(8)),
    )


def without_batch_norm() -> nn.Module:
    """GroupNorm and a smooth activation."""
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.GELU(), *_head(6))


def batch_statistics() -> nn.Module:
    """A BatchNorm that keeps no running statistics and takes the batch's in eval mode too."""
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False), nn.ReLU(), *_head(6))


def parametrized() -> nn.Module:
    """A convolution whose weight is computed from others."""
    return nn.Sequential(weight_norm(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6), nn.ReLU(), *_head(6))


def with_a_hook() -> nn.Module:
    """A hook that changes what a layer gives."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), *_head(6))
    model[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


ZOO: dict[str, tuple[Callable[[], nn.Module], int | None]] = {
    "pre-activation": (PreActivation, 1),
    "shared layers": (SharedLayers, 0),
    "tied weights": (TiedWeights, 0),
    "reads its weight": (ReadsItsWeight, 0),
    "control flow": (ControlFlow, None),
    "views": (Views, 1),
    "recurrent": (Recurrent, 0),
    "linear over channels": (LinearOverChannels, 0),
    "noise": (Noise, None),
    "coin": (lambda: Coin(lambda: float(torch.rand(()))), None),
    "Python's coin": (lambda: Coin(random.random), None),
    "NumPy's coin": (lambda: Coin(lambda: np.random.rand()), None),
    "settled arguments": (SettledArguments, 1),
    "constants": (Constants, 1),
    "without gradients": (PartlyWithoutGradients, 0),
    "grouped": (grouped, 2),
    "without BatchNorm": (without_batch_norm, 0),
    "batch statistics": (batch_statistics, 0),
    "parametrized": (parametrized, 0),
    "hook": (with_a_hook, None),
    "norm on a buffer": (BufferNorm, 0),
    "prototypes": (lambda: Prototypes(True), 0),
    "plain prototypes": (lambda: Prototypes(False), 0),
    "listed tensor": (lambda: ListedOffsets(False), None),
    "listed constant": (lambda: ListedOffsets(True), None),
    "lazy cache": (LazyCache, None),
}
"""A network, and how many BatchNorms are folded; None where the model is run as it stands."""


def lived_in(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give BatchNorm the statistics and scales of a trained model: as built it is nearly the identity."""
    generator = torch.Generator().manual_seed(seed)

    def values(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator, dtype=like.dtype) * (high - low) + low

    with torch.no_grad():
        for norm in _norms(model):
            if norm.running_mean is not None and norm.running_var is not None:
                norm.running_mean.copy_(values(norm.running_mean, -1, 1))
                norm.running_var.copy_(values(norm.running_var, 0.2, 3))
            if norm.affine:
                norm.weight.copy_(values(norm.weight, -2, 2))
                norm.bias.copy_(values(norm.bias, -1, 1))
    return model


def _norms(model: nn.Module) -> Iterator[nn.BatchNorm1d | nn.BatchNorm2d]:
    return (m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)))
