"""What tests of Checkpoint share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.plugins.trainings import Setup


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """So small a model gains nothing by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a training of two epochs; tests work on copies."""
    folder = tmp_path_factory.mktemp("trained")
    Setup().train(folder, checkpoint={"keep": 9})
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))
