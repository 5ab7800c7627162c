"""States of every kind, how two of them are compared, and files that are well formed around any content."""

from __future__ import annotations

import hashlib
import io
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from art_gair.storage.files import MAGIC

DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float8_e4m3fn, torch.uint16),
]
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda t: t,
    "transposed": lambda t: t.transpose(0, -1) if t.ndim else t,
    "every second": lambda t: t[..., ::2] if t.ndim else t,
    "later rows": lambda t: t[1:] if t.ndim else t,
    "expanded": lambda t: t.expand(3, *t.shape),
    "parameter": lambda t: nn.Parameter(t, requires_grad=t.is_floating_point()),
    "conjugate": lambda t: t.conj(),
}


def seal(content: bytes) -> bytes:
    """Return a file of this content, its checksum right."""
    return content + MAGIC + hashlib.sha256(content).digest()


def saved(value: Any, **settings: Any) -> bytes:
    """Return what torch saves."""
    file = io.BytesIO()
    torch.save(value, file, **settings)
    return file.getvalue()


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal bit for bit, in types and order too; a Parameter equals a tensor."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and bits(a) == bits(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, (np.ndarray, np.generic)):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or a != a != b != b
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def bits(t: Tensor) -> bytes:
    return (
        t.detach()
        .resolve_conj()
        .clone(memory_format=torch.contiguous_format)
        .view(-1)
        .view(torch.uint8)
        .numpy()
        .tobytes()
    )


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Tensors of any type, shape and bits, and views of them."""
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.lists(st.integers(0, 3), max_size=4))
    size = int(np.prod(shape)) * dtype.itemsize
    content = torch.frombuffer(bytearray(draw(st.binary(min_size=size, max_size=size)) + b"\0"), dtype=torch.uint8)
    if dtype is torch.bool:
        content = content % 2
    view: Tensor = VIEWS[draw(st.sampled_from(list(VIEWS)))](content[:size].clone().view(dtype).reshape(shape))
    return view


def arrays() -> st.SearchStrategy[Any]:
    kinds = (hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.unsigned_integer_dtypes(endianness="?"))
    dtypes = st.one_of(*kinds, hnp.floating_dtypes(endianness="?"), hnp.complex_number_dtypes(endianness="?"))
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    whole = hnp.arrays(dtypes, shapes)
    return whole | whole.map(np.transpose) | whole.map(lambda a: a[()] if a.ndim == 0 else a[::2])


def keys() -> st.SearchStrategy[Any]:
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    return plain | st.tuples(plain, plain) | st.frozensets(plain, max_size=2)


def states() -> st.SearchStrategy[Any]:
    """States of every kind that can be saved, nested; integers beyond 64 bits and lone surrogates are among them."""
    numbers = st.integers() | st.integers(2**64, 2**70) | st.floats()
    leaves = keys() | numbers | st.text(st.characters()) | st.sets(keys(), max_size=3) | arrays() | tensors()
    return st.recursive(leaves, containers, max_leaves=12)


def containers(entries: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    dicts = st.dictionaries(keys(), entries, max_size=4)
    lists = st.lists(entries, max_size=4)
    return lists | lists.map(tuple) | dicts | dicts.map(OrderedDict) | dicts.map(Counter)


def example(seed: int) -> dict[str, Any]:
    """Return a state like a small training's."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "model": OrderedDict(
            weight=torch.randn(20, 30, generator=generator), bias=torch.randn(30, generator=generator)
        ),
        "optimizer": {"state": {0: {"step": torch.tensor(7.0), "momentum": None}}, "groups": [{"betas": (0.9, 0.99)}]},
        "rng": generator.get_state(),
        "history": [{"epoch": seed, "loss": float("nan")}],
    }
