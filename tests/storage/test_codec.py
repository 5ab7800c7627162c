"""What is written comes back bit for bit; what cannot come back is refused by name."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from art_gair.storage.codec import MAX_DEPTH, pack, unpack
from art_gair.storage.files import read_state, write_state
from tests.storage.states import DTYPES, VIEWS, example, same, states, tensors


class Colour(str, enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    a: int
    b: int


class Level(enum.IntEnum):
    HIGH = 3


def round_trip(state: Any, folder: Path) -> Any:
    write_state(folder / "state", state)
    return read_state(folder / "state")


def nested(depth: int) -> Any:
    state: Any = 1
    for i in range(depth):
        state = [state] if i % 2 else {"a": state}
    return state


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states")


@given(state=states() | tensors())
def test_a_state_comes_back_bit_for_bit(folder: Path, state: Any) -> None:
    assert same(round_trip(state, folder), state)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_a_tensor_of_any_type_and_view_comes_back_bit_for_bit(tmp_path: Path, view: Callable[[Tensor], Tensor]) -> None:
    numbers = torch.randn(3, 5, 4) * 10
    state = [view(numbers.abs().to(dtype)) for dtype in DTYPES] + [view(torch.randn(3, 4, dtype=torch.complex64))]
    assert same(round_trip(state, tmp_path), state)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_tensor_keeps_its_order_in_memory(tmp_path: Path, layout: torch.memory_format) -> None:
    weight = torch.randn(4, 3, 2, 2).to(memory_format=layout)
    turned = weight.transpose(0, 3)
    read = round_trip([weight, turned], tmp_path)
    assert [t.stride() for t in read] == [weight.stride(), turned.stride()]


def test_a_slice_is_written_without_the_rest_of_its_tensor(tmp_path: Path) -> None:
    round_trip(torch.zeros(10**6)[5:7], tmp_path)
    assert (tmp_path / "state").stat().st_size < 3000  # torch's archive takes half of it


def test_what_comes_back_is_plain_and_owns_writable_memory(tmp_path: Path) -> None:
    shared = torch.ones(4)
    a, b, array, parameter = round_trip([shared, shared, np.ones(2), nn.Parameter(shared)], tmp_path)
    a += 1
    array += 1
    assert b.tolist() == [2, 2, 2, 2]  # they shared it before too
    assert array.tolist() == [2, 2]
    assert type(parameter) is torch.Tensor
    assert not parameter.requires_grad
    assert not a._is_view()
    shared.untyped_storage().resize_(0)  # writing does not forbid it, as Tensor.numpy would


def test_numbers_and_names_of_a_subclass_come_back_plain(tmp_path: Path) -> None:
    read = round_trip([Level.HIGH, Colour.RED, np.str_("x"), torch.Size([2, 3]), np.float64(0.5), True], tmp_path)
    assert same(read, [3, "red", "x", (2, 3), np.float64(0.5), True])


def test_a_read_only_array_and_a_memory_map_can_be_written(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.arange(5))
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    assert same(round_trip(mapped, tmp_path), np.arange(5))


def test_the_longest_integers_come_back(tmp_path: Path) -> None:
    assert round_trip([10**5000, -(2**64), 2**64], tmp_path) == [10**5000, -(2**64), 2**64]


def test_an_optimizer_and_generators_come_back(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = [optimizer.state_dict(), np.random.get_state(), np.random.default_rng(0).bit_generator.state]
    assert same(round_trip(state, tmp_path), state)


@pytest.mark.parametrize("depth", [0, MAX_DEPTH])
def test_deep_states_come_back(tmp_path: Path, depth: int) -> None:
    assert round_trip(nested(depth), tmp_path) == nested(depth)


def circle() -> list[Any]:
    state: list[Any] = []
    state.append(state)
    return state


REFUSED = {
    "a lambda": (lambda x: x, r"state\['a'\]\[1\] is a function"),
    "a module": (nn.ReLU(), "is a ReLU"),
    "an object": (SimpleNamespace(), "is a SimpleNamespace"),
    "a class": (dict, "is a type"),
    "an object array": (np.array([None]), "is a ndarray of object"),
    "an array of text": (np.array(["x"]), "is a ndarray of <U1"),
    "a masked array": (np.ma.masked_equal([1], 1), "is a MaskedArray"),  # type: ignore[no-untyped-call]
    "a record": (np.zeros(1, [("x", "f4")])[0], "is a void"),
    "a date": (np.datetime64("2020-01-01"), "is a datetime64"),
    "a complex number": (1j, "is a complex"),
    "a path": (Path("x"), "is a .*Path"),
    "a type": (torch.float32, "is a dtype"),
    "a sparse tensor": (torch.eye(2).to_sparse(), "is a Tensor"),
    "a tensor without data": (torch.empty(2, device="meta"), "is a Tensor"),
    "a lazy parameter": (nn.LazyLinear(2).weight, "is a UninitializedParameter"),
    "a tensor as a key": ({torch.ones(1): 1}, r"state\['a'\]\[1\] has a tensor in a key"),
    "a tensor in a key": ({(1, torch.ones(1)): 1}, r"state\['a'\]\[1\] has a tensor in a key"),
    "a tensor in a set": ({torch.ones(1)}, r"state\['a'\]\[1\] has a tensor in a key or member"),
    "a named tuple": (Pair(1, 2), "is a Pair"),
    "a dict with defaults": (defaultdict(list), "is a defaultdict"),
    "a bytearray": (bytearray(2), "is a bytearray"),
    "too deep a list": (nested(MAX_DEPTH), "is nested more than 100 deep"),
    "a list in itself": (circle(), "contains itself"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_saved_is_refused_by_its_place(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        write_state(tmp_path / "state", {"a": [0, value]})
    assert "state['a'][1]" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_blocks_share_the_memory_of_the_state() -> None:
    state = example(0)
    (_, blocks) = pack(state)
    assert blocks[0].data_ptr() == state["model"]["weight"].data_ptr()


def test_a_file_can_be_opened_by_torch_alone(tmp_path: Path) -> None:
    write_state(tmp_path / "state", example(3))
    kept = torch.load(tmp_path / "state", weights_only=True)
    assert same(unpack(kept["text"], kept["blocks"]), example(3))
