"""BatchNorm folded into the layer before it: in eval mode both are affine, and one of them can do the work of two."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from art_gair.engine.form import Form
from art_gair.engine.trace import trace

LAYERS: dict[type[nn.Module], int] = {nn.Conv1d: 3, nn.Conv2d: 4, nn.Conv3d: 5, nn.Linear: 2}
"""Layers that BatchNorm folds into, with the number of dimensions of an output whose channels are its second one."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Fold:
    """A layer and the BatchNorm behind it, by their names, and the layer of the copy that does what both do."""

    layer: str
    norm: str
    folded: Any

    def refresh(self, source: nn.Module) -> None:
        """Fold again: weight * s and (bias - mean) * s + shift, where s = scale / sqrt(var + eps), a channel each."""
        layer: Any = source.get_submodule(self.layer)
        norm: Any = source.get_submodule(self.norm)
        weight = layer.weight
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        mean = norm.running_mean if layer.bias is None else norm.running_mean - layer.bias
        shift = -mean * scale if norm.bias is None else torch.addcmul(norm.bias, mean, scale, value=-1.0)
        torch.mul(weight, scale.view(-1, *[1] * (weight.ndim - 1)), out=self.folded.weight)
        self.folded.bias.copy_(shift)


class FoldedModule:
    """A traced copy of a module in eval mode that gives the same outputs with fewer passes over memory.

    The copy holds values of its own, without gradients. `refresh` takes over what the module's parameters and buffers
    have become since, in place: nothing is traced or allocated again.

    :param source: the module, in eval mode; it is left as it is.
    :param x: a batch as the module takes it.
    :param dtype: that it will run in; other than float32, under autocast.
    :raises Exception: of any kind, where the module cannot be copied, traced or run on x.
    """

    def __init__(self, source: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.source = source
        shadow = copy.deepcopy(source).requires_grad_(False)
        self.module = trace(shadow, x.device, dtype)
        _require_no_writes(self.module, x)
        self.folds = [_fold(self.module, *pair) for pair in _pairs(self.module)]
        self.module.delete_all_unused_submodules()
        self.module.recompile()
        folded = {id(p) for fold in self.folds for p in fold.folded.parameters()}
        targets = {name: t for name, t in _targets(self.module).items() if id(t) not in folded}
        # What is not the source's are constants of its forward, which tracing has kept.
        self.names = [name for name in targets if _tensor(source, name) is not None]
        self.sizes = [storage.nbytes() for storage in self._storages()]
        self.refresh()

    def release(self) -> None:
        """Give the memory of the weights back until the next refresh: the update has need of it."""
        for storage in self._storages():
            storage.resize_(0)

    def _storages(self) -> list[torch.UntypedStorage]:
        weights = [t for name in self.names if isinstance(t := _tensor(self.module, name), nn.Parameter)]
        weights += [p for fold in self.folds for p in fold.folded.parameters()]
        return [weight.untyped_storage() for weight in weights]

    def run_as(self, form: Form) -> None:
        """Keep the weights of convolutions and linear layers as this form runs them, so that no run converts them."""
        self.refresh()
        self.module.to(memory_format=form.memory_format)  # type: ignore[call-overload]
        for layer in self.module.modules():
            if type(layer) in LAYERS:
                layer.to(form.dtype)
        self.sizes = [storage.nbytes() for storage in self._storages()]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the module's values as they are now.

        :raises ValueError, AttributeError, RuntimeError: if the module has been rebuilt with other tensors.
        """
        for storage, size in zip(self._storages(), self.sizes, strict=True):
            if storage.nbytes() != size:
                storage.resize_(size)
        for name in self.names:
            value, target = _tensor(self.source, name), _tensor(self.module, name)
            if value is None or target is None or value.shape != target.shape:
                raise ValueError(f"the model's {name} is no longer what it was when the model was traced")
            target.copy_(value)
        for fold in self.folds:
            fold.refresh(self.source)


def _require_no_writes(graph_module: fx.GraphModule, x: Tensor) -> None:
    """Run the graph once, which also tells the shapes in it."""
    tensors = list(_targets(graph_module).values())
    versions = [t._version for t in tensors]
    ShapeProp(graph_module).propagate(x.clone())
    if [t._version for t in tensors] != versions:
        raise ValueError("its forward writes tensors of the module, which only a run of the model itself does")


def _tensor(module: nn.Module, name: str) -> Tensor | None:
    """Return the module's parameter, buffer or plain attribute of this name, None if there is no such tensor."""
    try:
        value = getattr(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], None)
    except AttributeError:
        return None
    return value if isinstance(value, Tensor) else None


def _targets(graph_module: fx.GraphModule) -> dict[str, Tensor]:
    """Return the tensors of a graph by all their names."""
    named = (graph_module.named_parameters, graph_module.named_buffers)
    return {name: value for tensors in named for name, value in tensors(remove_duplicate=False)}


def _pairs(graph_module: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Calls of a layer and of the BatchNorm behind it that nothing else sees or shares."""
    graph, modules = graph_module.graph, dict(graph_module.named_modules(remove_duplicate=False))
    calls = {node: modules[str(node.target)] for node in graph.nodes if node.op == "call_module"}
    times = Counter(id(module) for module in calls.values())
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}

    weights = Counter(id(p) for module in set(modules.values()) for p in module._parameters.values())

    def once(node: fx.Node) -> bool:
        parameters = [id(p) for p in calls[node]._parameters.values() if p is not None]
        return times[id(calls[node])] == 1 and str(node.target) not in read and all(weights[p] == 1 for p in parameters)

    def foldable(layer: Any, norm: fx.Node) -> bool:
        return (
            layer in calls
            and type(calls[layer]) in LAYERS
            and len(layer.meta["tensor_meta"].shape) == LAYERS[type(calls[layer])]
            and len(layer.users) == 1
            and once(layer)
            and once(norm)
            and calls[norm].running_mean is not None
            and calls[norm].running_var is not None
        )

    norms = [node for node, module in calls.items() if type(module) in NORMS]
    return [(node.args[0], node) for node in norms if len(node.args) == 1 and foldable(node.args[0], node)]


def _fold(graph_module: fx.GraphModule, layer: fx.Node, norm: fx.Node) -> Fold:
    """Let the layer's call do the work of both."""
    folded: Any = graph_module.get_submodule(str(layer.target))
    if folded.bias is None:
        folded.bias = nn.Parameter(folded.weight.new_empty(len(folded.weight)), requires_grad=False)
    norm.replace_all_uses_with(layer)
    graph_module.graph.erase_node(norm)
    return Fold(str(layer.target), str(norm.target), folded)
