"""Children of the test, forked: they have torch already. Its threads they lack, so they compute nothing large."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def start(work: Callable[[], object]) -> int:
    """Run the work in a child and return its process id; an exception in it is exit code 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of torch's threads, which idle
        pid = os.fork()
    if pid:
        return pid
    signal.alarm(60)  # rather than to hang
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def wait(pid: int) -> int:
    """Return the child's exit code, or its signal, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(work: Callable[[], object]) -> int:
    return wait(start(work))


def answer(work: Callable[[], str]) -> str:
    """Return what the work returns in a child."""
    reading, writing = os.pipe()
    pid = start(lambda: os.write(writing, work().encode()))
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor
        text = pipe.read().decode()
    assert wait(pid) == 0
    return text
