"""What is not a whole state is DamagedError: never a value, never another error, and no code of it runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from art_gair.storage.files import MAGIC, TRAILER, DamagedError, read_state, write_state
from tests.storage.states import example, saved, seal

PLACES = 200


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    write_state(tmp_path / "state", example(1))
    return (tmp_path / "state").read_bytes()


def refuse(folder: Path, content: bytes, message: str = "state") -> None:
    (folder / "state").write_bytes(content)
    with pytest.raises(DamagedError, match=message):
        read_state(folder / "state")


def test_a_flipped_bit_is_found(tmp_path: Path, content: bytes) -> None:
    chance = random.Random(0)
    trailer = range(len(content) - TRAILER, len(content))
    for place in [*trailer, *chance.sample(range(len(content)), PLACES)]:
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        refuse(tmp_path, bytes(changed), "state (is damaged|is no state)")


def test_a_truncation_is_found(tmp_path: Path, content: bytes) -> None:
    for size in [0, 1, len(MAGIC), *random.Random(0).sample(range(len(content)), PLACES)]:
        refuse(tmp_path, content[:size], "state (is damaged|is no state)")


def test_bytes_added_swapped_or_blanked_are_found(tmp_path: Path, content: bytes) -> None:
    half = len(content) // 2
    for changed in (content + b"\0", content * 2, content[half:] + content[:half], content[:half] + bytes(half)):
        refuse(tmp_path, changed)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    return file.getvalue()


OTHERS: dict[str, Callable[[], bytes]] = {
    "empty": bytes,
    "text": lambda: b"epoch,loss\n1,0.5\n",
    "a zip": zipped,
    "saved by torch": lambda: saved(example(1)),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_another_file_is_no_state(tmp_path: Path, make: Callable[[], bytes]) -> None:
    refuse(tmp_path, make(), "is no state that art_gair wrote")


def test_a_folder_and_a_pipe_are_no_state(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="is no file"):
        read_state(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DamagedError, match="is no file"):
            read_state(tmp_path / "pipe")


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path, by: Callable[..., Any]) -> None:
        self.call = (by, (f"touch '{path}'",)) if by is os.system else (by, (str(path), "w"))

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("by", [os.system, open], ids=["os.system", "open"])
@pytest.mark.parametrize("wrapped", [bytes, seal], ids=["bare", "with a checksum"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the control's open
def test_a_malicious_pickle_is_not_run(
    tmp_path: Path, by: Callable[..., Any], wrapped: Callable[[bytes], bytes]
) -> None:
    trace = tmp_path / "trace"
    evil = [
        pickle.dumps(Canary(trace, by)),
        saved({"model": Canary(trace, by)}),
        saved({"text": "[]", "blocks": [Canary(trace, by)]}),
        saved(Canary(trace, by), _use_new_zipfile_serialization=False),
    ]
    for content in evil:
        refuse(tmp_path, wrapped(content))
        assert not trace.exists()
    pickle.loads(evil[0])
    assert trace.exists()  # it would have worked


def crafted(text: Any, *blocks: Any) -> bytes:
    return seal(saved({"text": text, "blocks": list(blocks)}))


FLOATS, BYTES = torch.zeros(4), torch.zeros(4, dtype=torch.uint8)

CRAFTED: dict[str, Callable[[], bytes]] = {
    "no zip": lambda: seal(b"state"),
    "nothing": lambda: seal(b""),
    "another zip": lambda: seal(zipped()),
    "another content": lambda: seal(saved([1, 2])),
    "no text": lambda: crafted(3),
    "no JSON": lambda: crafted("state"),
    "no blocks": lambda: seal(saved({"text": '{"bytes": null, "block": 0}'})),
    "another block": lambda: crafted('{"bytes": null, "block": 5}', BYTES),
    "a block that is none": lambda: crafted('{"tensor": [1], "stride": [1], "block": 0}', "abc"),
    "a larger tensor": lambda: crafted('{"tensor": [9999999999], "stride": [1], "block": 0}', FLOATS),
    "a smaller tensor": lambda: crafted('{"tensor": [1], "stride": [1], "block": 0}', FLOATS),
    "a far stride": lambda: crafted('{"tensor": [4], "stride": [10000], "block": 0}', FLOATS),
    "a negative shape": lambda: crafted('{"tensor": [-2, -2], "stride": [1, 1], "block": 0}', FLOATS),
    "strides that cancel": lambda: crafted('{"tensor": [2, 2], "stride": [5, -2], "block": 0}', FLOATS),
    "a matrix": lambda: crafted('{"tensor": [4], "stride": [1], "block": 0}', torch.zeros(2, 2)),
    "an object array": lambda: crafted('{"array": "|O", "shape": [1], "block": 0}', torch.zeros(8, dtype=torch.uint8)),
    "half a number": lambda: crafted('{"array": "<f8", "shape": [1], "block": 0}', BYTES),
    "an object": lambda: crafted('{"scalar": "|O", "hex": "0000000000000000"}'),
    "an unknown container": lambda: crafted('{"module": []}'),
    "a list as a key": lambda: crafted('{"dict": [[[1], 2]]}'),
    "no pairs": lambda: crafted('{"dict": [1]}'),
    "no scalar": lambda: crafted('{"scalar": "<f4", "hex": ""}'),
    "too deep": lambda: crafted("[" * 100_000 + "]" * 100_000),
}


@pytest.mark.parametrize("make", CRAFTED.values(), ids=CRAFTED.keys())
def test_a_crafted_file_is_refused_though_its_checksum_is_right(tmp_path: Path, make: Callable[[], bytes]) -> None:
    refuse(tmp_path, make(), "cannot be read")


TAGS = ["tensor", "array", "bytes", "scalar", "int", "hex", "shape", "stride", "block", "dict", "tuple", "set"]
WORDS = ["<f4", "|O", "0x1", "00000000"]


def texts() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.integers(-3, 3) | st.sampled_from(WORDS) | st.lists(st.integers(-1, 3), max_size=3)
    return st.recursive(
        leaves,
        lambda t: st.lists(t, max_size=3) | st.dictionaries(st.sampled_from(TAGS), t, max_size=4),
        max_leaves=10,
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crafted")


@given(text=texts(), block=st.binary(max_size=12))
def test_any_text_is_a_state_or_damaged(folder: Path, text: Any, block: bytes) -> None:
    tensor = torch.tensor(list(block), dtype=torch.uint8)
    (folder / "state").write_bytes(crafted(json.dumps(text), tensor))
    with suppress(DamagedError):
        read_state(folder / "state")
