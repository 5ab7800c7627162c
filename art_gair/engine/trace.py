"""A module as a graph of its operations, to which its parameters, buffers and other tensors are inputs."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from art_gair.engine.attributes import NN_MODULE, Attributes, plain_tensors
from art_gair.generators import states


def trace(shadow: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> fx.GraphModule:
    """Trace a module that nobody else uses.

    What its forward computes from the module's tensors is computed in the graph at each run. What it makes anew each
    time, such as `torch.tensor([0.5, 0.4, 0.3])`, is a constant of the graph.

    :param dtype: of the autocast that the graph will run under; float32 is none.
    What it computes without gradients is detached in the graph.

    :raises ValueError: where the graph would freeze what may change: a random draw, an attribute that the forward
        writes, or a value computed from the module's tensors where the tracer does not see it; or forget that the
        forward switches autocast, which the graph would run under, off or on.
    :raises Exception: of any other kind, where the module cannot be traced.
    """
    if dtype != torch.float32:
        _require_one_autocast(copy.deepcopy(shadow), device, dtype)
    _register_plain_tensors(shadow)
    attributes = Attributes(shadow)
    drawn, read, buffers = states(device), attributes.read(), dict(shadow.named_buffers())
    untouched = _Untouched([*shadow.parameters(), *shadow.buffers(), *plain_tensors(shadow)])
    with torch.enable_grad(), untouched:
        graph = _Tracer(device).trace(shadow, concrete_args=_defaults(shadow))
    if states(device) != drawn:
        raise ValueError("its forward draws random numbers that a trace would freeze")
    constants = {name: value for name, value in vars(shadow).items() if name.startswith("_tensor_constant")}
    for name, constant in constants.items():
        untouched.check(constant)
        delattr(shadow, name)
    now = dict(shadow.named_buffers())
    if attributes.read() != read or now.keys() != buffers.keys() or any(now[n] is not b for n, b in buffers.items()):
        raise ValueError("its forward writes attributes or buffers that a trace would freeze")
    for name, constant in constants.items():
        setattr(shadow, name, constant)
    return fx.GraphModule(shadow, graph)


class _TensorProxy(fx.Proxy):
    """A tensor of the module in the graph. Its shape is known: where it changes, the module is traced anew."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, value: Tensor) -> None:
        super().__init__(node, tracer)
        self.value = value

    @property
    def shape(self) -> torch.Size:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return self.value.ndim

    def size(self, dim: int | None = None) -> Any:
        return self.value.shape if dim is None else self.value.shape[dim]

    def dim(self) -> int:
        return self.value.ndim

    def numel(self) -> int:
        return self.value.numel()

    def __len__(self) -> int:
        return len(self.value)


class _Tracer(fx.Tracer):
    """A tracer to which buffers are inputs of the graph, as parameters are to any tracer.

    :param device: of the module; made in the modes that it will run in.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device_type = device.type
        self.modes = self._read_modes()

    def _read_modes(self) -> tuple[Any, ...]:
        cast = torch.is_autocast_enabled(self.device_type)
        dtype = torch.get_autocast_dtype(self.device_type) if cast else None
        return torch.is_inference_mode_enabled(), dtype

    def create_proxy(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Add an operation to the graph, detached if it runs without gradients.

        :raises ValueError: if it runs in another autocast than the forward, which the graph would not; or changes a
            tensor in place without gradients.
        """
        if self._read_modes() != self.modes:
            raise ValueError("its forward switches autocast off or on, which a trace would forget")
        proxy = super().create_proxy(kind, target, *args, **kwargs)
        if torch.is_grad_enabled() or not kind.startswith("call_"):
            return proxy
        if self._is_in_place(kind, target, proxy.node):
            raise ValueError("its forward changes a tensor in place without gradients, which a trace would forget")
        return super().create_proxy("call_function", _detached, (proxy,), {})

    def _is_in_place(self, kind: str, target: Any, node: fx.Node) -> bool:
        if kind == "call_module":
            return any(getattr(module, "inplace", False) for module in self.root.get_submodule(target).modules())
        name = getattr(target, "__name__", str(target))
        by_place = getattr(target, "__module__", "") == nn.functional.__name__ and any(a is True for a in node.args)
        told = by_place or bool(node.kwargs.get("inplace"))  # relu(h, True) or relu(h, inplace=True)
        return told or (name.endswith("_") and not name.endswith("__"))

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a proxy of a parameter or buffer that the forward asks for."""
        if isinstance(attr_val, Tensor):
            for name, value in (*self.root.named_parameters(), *self.root.named_buffers()):
                if value is attr_val:
                    if name not in parameter_proxy_cache:
                        node = self.create_node("get_attr", name, (), {})
                        parameter_proxy_cache[name] = _TensorProxy(node, self, value)
                    return parameter_proxy_cache[name]
        return attr_val


class _Untouched(TorchDispatchMode):
    """Refuses operations on the module's tensors themselves: what they give would be frozen.

    :param tensors: of the module, also those that lists and dictionaries hold.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors = tensors  # kept alive: a freed storage's place is taken by another
        self.storages = {_storage(t) for t in tensors}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation that does not read them."""
        for value in tree_leaves((args, kwargs)):
            self.check(value)
        return func(*args, **(kwargs or {}))

    def check(self, value: Any) -> None:
        """Raise ValueError if the value shares memory with one of them."""
        if isinstance(value, Tensor) and _storage(value) in self.storages:
            raise ValueError("its forward computes constants from its own tensors, which a trace would freeze")


def _require_one_autocast(shadow: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse a forward that leaves the autocast it runs under; of other failures the trace itself will tell."""
    with torch.enable_grad(), torch.autocast(device.type, dtype):
        try:
            _Tracer(device).trace(shadow, concrete_args=_defaults(shadow))
        except ValueError:
            raise
        except Exception:
            return


def _detached(value: Any) -> Any:
    """Return a value whose tensors have no gradient: what an operation gives without."""
    return tree_map(lambda part: part.detach() if isinstance(part, Tensor) else part, value)


def _storage(t: Tensor) -> int:
    try:
        return int(t.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse and other tensors without a storage
        return id(t)


def _register_plain_tensors(module: nn.Module) -> None:
    """Make buffers of tensors that are plain attributes, so that the tracer sees them read."""
    for submodule in module.modules():
        for name, value in list(vars(submodule).items()):
            if name not in NN_MODULE and type(value) is Tensor and not hasattr(type(submodule), name):
                delattr(submodule, name)
                submodule.register_buffer(name, value, persistent=False)


def _defaults(module: nn.Module) -> dict[str, Any]:
    """Arguments of the forward that it has settled itself: a trace may branch on them."""
    rest = list(inspect.signature(module.forward).parameters.values())[1:]
    return {p.name: p.default for p in rest if p.default is None or isinstance(p.default, (bool, int, float, str))}
