"""What tests of trainings share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from kill import Forks


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So small a model gains nothing by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
