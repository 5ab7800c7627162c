"""Where a report was made."""

from __future__ import annotations

import platform
from typing import Any

import torch

from art_gair.engine.classifier import TensorClassifier
from art_gair.engine.precision import find_inexact
from art_gair.evaluation.fingerprint import find_versions


def describe_environment(tensor_classifier: TensorClassifier, seconds: float) -> dict[str, Any]:
    """Return packages, device, model and seconds, for the report."""
    on_gpu = tensor_classifier.device.type == "cuda"
    device = torch.cuda.get_device_name(tensor_classifier.device) if on_gpu else platform.processor() or "CPU"
    parameters = sum(p.numel() for p in tensor_classifier.module.parameters())
    return {
        "packages": find_versions(),
        "python": platform.python_version(),
        "device": device if on_gpu else f"{device}, {torch.get_num_threads()} threads",
        "arithmetic": ", ".join(f"{name}: {value}" for name, value in find_inexact(tensor_classifier.device).items()),
        "model": f"{type(tensor_classifier.module).__name__}, {parameters} parameters",
        "seconds": seconds,
    }
