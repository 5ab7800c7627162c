"""Moves a user's classifier to the GPU of its process."""

from __future__ import annotations

import torch
from art.estimators.classification import PyTorchClassifier


def place(classifier: PyTorchClassifier, device: torch.device) -> None:
    """Move the model, the state of its optimizer and its loss to a device; nothing is done if they are there.

    ART puts a model on the GPU that is current when the classifier is made, which is the first one on each process.
    """
    if classifier.device.type != device.type or classifier.device.index == device.index:
        return
    torch.cuda.set_device(device)
    classifier.model.to(device)
    classifier._device = device
    if isinstance(classifier.loss, torch.nn.Module):
        classifier.loss.to(device)
    for state in classifier.optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.device.type == "cuda":
                state[name] = value.to(device)
