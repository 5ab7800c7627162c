"""Networks of the adversarial-training literature for 32x32 images, inputs in [0, 1], logits out."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


def _conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)


class SmallCNN(nn.Sequential):
    """Six 3x3 convolutions with BatchNorm in three stages, then two linear layers; 1.6 M parameters."""

    def __init__(self, nb_classes: int = 10) -> None:
        layers: list[nn.Module] = []
        previous = 3
        for width in (64, 128, 196):
            for _ in range(2):
                layers += [_conv(previous, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                previous = width
            layers.append(nn.MaxPool2d(2))
        super().__init__(
            *layers, nn.Flatten(), nn.Linear(previous * 16, 256), nn.ReLU(inplace=True), nn.Linear(256, nb_classes)
        )


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut, ReLU after the sum (He et al., CVPR 2016)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(channels_in, channels_out, stride=stride), nn.BatchNorm2d(channels_out)
        self.conv2, self.bn2 = _conv(channels_out, channels_out), nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(_conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class PreActBlock(nn.Module):
    """BatchNorm and ReLU before each convolution; the shortcut carries the raw sum (He et al., ECCV 2016)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels_in), _conv(channels_in, channels_out, stride=stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(channels_out), _conv(channels_out, channels_out)
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = _conv(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        active = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut
        return out


def _stages(
    block: Callable[[int, int, int], nn.Module], widths: list[int], strides: list[int], depth: int
) -> nn.Sequential:
    """Chain stages of `depth` blocks; widths has one entry more than strides, the width that comes in."""
    blocks = [
        block(channels_in if i == 0 else channels_out, channels_out, stride if i == 0 else 1)
        for channels_in, channels_out, stride in zip(widths, widths[1:], strides, strict=False)
        for i in range(depth)
    ]
    return nn.Sequential(*blocks)


class ResNet18(nn.Module):
    """ResNet-18 for small images: a 3x3 stem without pooling, four stages of two BasicBlocks; 11.2 M parameters."""

    def __init__(self, nb_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 64), nn.BatchNorm2d(64), nn.ReLU())
        self.stages = _stages(BasicBlock, [64, 64, 128, 256, 512], [1, 2, 2, 2], depth=2)
        self.head = nn.Linear(512, nb_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, 32, 32) to logits (n, nb_classes)."""
        out: Tensor = self.head(self.stages(self.stem(x)).mean(dim=(2, 3)))
        return out


class PreActNet(nn.Module):
    """A pre-activation network: stem, stages of PreActBlocks, BatchNorm, ReLU, mean over the image, linear layer."""

    def __init__(self, widths: list[int], strides: list[int], depth: int, nb_classes: int) -> None:
        super().__init__()
        self.stem = _conv(3, widths[0])
        self.stages = _stages(PreActBlock, widths, strides, depth)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], nb_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, 32, 32) to logits (n, nb_classes)."""
        out: Tensor = self.head(F.relu(self.bn(self.stages(self.stem(x)))).mean(dim=(2, 3)))
        return out


def preact_resnet18(nb_classes: int = 10) -> PreActNet:
    """PreActResNet-18 (He et al., ECCV 2016); 11.2 M parameters."""
    return PreActNet([64, 64, 128, 256, 512], [1, 2, 2, 2], depth=2, nb_classes=nb_classes)


def wide_resnet(blocks: int = 5, widen: int = 10, nb_classes: int = 10) -> PreActNet:
    """Wide ResNet without dropout (Zagoruyko & Komodakis, BMVC 2016): three stages of PreActBlocks; 46.2 M parameters.

    With 5 blocks a stage this is the WRN-32-10 of the adversarial-training papers, which count 6 * blocks + 2 layers as
    Madry et al. do; its inventors count 6 * blocks + 4 and call it WRN-34-10.
    """
    return PreActNet([16, 16 * widen, 32 * widen, 64 * widen], [1, 2, 2], blocks, nb_classes)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "small_cnn": SmallCNN,
    "resnet18": ResNet18,
    "preact_resnet18": preact_resnet18,
    "wrn32_10": wide_resnet,
}
