"""A picture of adversarial examples beside what they were made from, as a tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from art_gair.engine.inputs import Box

COLUMNS = 8
"""Samples shown at most."""

SIDE = 64
"""Pixels that an image's shorter side has at least, small ones magnified by a whole number."""

WIDTH = 1024
"""Pixels that the picture is wide at most, where it shows more than one sample."""

MARGIN = 2
"""Pixels of border around each image."""

BORDER = (0.2, 0.4, 0.8)
"""Its colour: images of digits are grey up to their edges."""


def can_be_shown(x: Tensor) -> bool:
    """Whether a batch is one of grey or RGB images, (n, 1 or 3, height, width)."""
    return x.ndim == 4 and x.shape[1] in (1, 3) and x.numel() > 0


def image_grid(x: Tensor, x_adv: Tensor, box: Box | None) -> Tensor:
    """Return a row of clean images, one of their adversarial examples, and one of the differences.

    The largest difference of the picture is black or white, no difference is grey.

    :param x: (n, 1 or 3, height, width); the first ones are shown.
    :param x_adv: the same shape.
    :param box: bounds that are shown black and white; None: the least and the largest value shown.
    :return: float32 (3, height, width) in 0..1, on the host.
    """
    scale = max(1, -(-SIDE // min(x.shape[2:])))
    columns = max(1, min(COLUMNS, WIDTH // (scale * x.shape[3] + 2 * MARGIN)))
    clean, adversarial = _unit_range(torch.stack([x[:columns], x_adv[:columns]]).detach().float(), box).cpu()
    change = adversarial - clean
    difference = 0.5 + 0.5 * change / change.abs().max().clamp(min=torch.finfo(change.dtype).tiny)
    rows = torch.stack([clean, adversarial, difference]).expand(-1, -1, 3, -1, -1)
    return _tiled(rows.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1))


def _unit_range(images: Tensor, box: Box | None) -> Tensor:
    """Move images to 0..1: by the box, or, where there is none or it is not finite, by their own range."""
    images = images.nan_to_num()
    low, high = images.min(), images.max()
    if box is not None and bool(torch.isfinite(box.upper - box.lower).all()):
        low, high = box.lower, box.upper
    span = high - low
    return ((images - low) / torch.where(span > 0, span, 1.0)).clamp(0, 1)


def _tiled(rows: Tensor) -> Tensor:
    """Lay images (rows, columns, 3, height, width) out in one, (3, rows * height, columns * width), with borders."""
    count, columns, _, height, width = rows.shape
    size = (height + 2 * MARGIN, width + 2 * MARGIN)
    cells = torch.tensor(BORDER).view(3, 1, 1).repeat(count, columns, 1, *size)
    cells[..., MARGIN:-MARGIN, MARGIN:-MARGIN] = rows
    return cells.permute(2, 0, 3, 1, 4).reshape(3, count * size[0], columns * size[1])
