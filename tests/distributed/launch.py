"""Runs a function in several processes of one group, as torchrun does."""

from __future__ import annotations

import os
import socket
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import coverage
import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]
PRELOADED = ["art_gair", "torch._dynamo", "torch.nn.parallel.distributed", "tests.distributed.cases"]


class Failed:
    """What a process ended with."""

    def __init__(self, error: BaseException) -> None:
        self.kind, self.message = type(error).__name__, str(error)
        self.trace = traceback.format_exc()

    def __repr__(self) -> str:
        return f"{self.kind}: {self.message}\n{self.trace}"


def launch(
    size: int,
    function: Callable[..., Any],
    *args: Any,
    seconds: float = 60.0,
    timeout: float | None = None,
    env: Sequence[dict[str, str]] | None = None,
) -> list[Any]:
    """Return what the function returns in each process, by rank; a Failed where it raises.

    :param seconds: after which processes that still run are killed, and the test fails.
    :param timeout: of the group, which is then started here and not by the package.
    :param env: further environment variables of each process.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    measuring = coverage.Coverage.current()
    covered = None if measuring is None else str(measuring.config.data_file)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        processes = []
        for rank in range(size):
            variables = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
            own = {} if env is None else env[rank]
            given = {**{k: str(v) for k, v in variables.items()}, "MASTER_PORT": str(port), **own}
            target = (function, args, {k: v for k, v in given.items() if v}, timeout, f"{folder}/{rank}", covered)
            processes.append(context.Process(target=_run, args=target))
        for process in processes:
            process.start()
        for process in processes:
            process.join(seconds)
        hung = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for process in processes:
            process.kill()
        assert not hung, f"processes {hung} of {size} still ran after {seconds} s"
        return [_read(Path(f"{folder}/{rank}"), process.exitcode) for rank, process in enumerate(processes)]


def each(*functions: Callable[[], Any]) -> list[Any]:
    """Call functions one after the other; return what each returns, or a Failed where it raises."""
    results: list[Any] = []
    for function in functions:
        try:
            results.append(function())
        except BaseException as error:
            results.append(Failed(error))
    return results


def _run(
    function: Callable[..., Any],
    args: Any,
    env: dict[str, str],
    timeout: float | None,
    file: str,
    covered: str | None,
) -> None:
    """Run in a process of its own; its coverage is written beside that of the tests, which take it in at their end."""
    if covered is None:
        _call(function, args, env, timeout, file)
        return
    measuring = coverage.Coverage(covered, data_suffix=True, config_file=str(ROOT / "pyproject.toml"))
    measuring.start()
    try:
        _call(function, args, env, timeout, file)
    finally:
        measuring.stop()
        measuring.save()


def _call(function: Callable[..., Any], args: Any, env: dict[str, str], timeout: float | None, file: str) -> None:
    os.environ.update(env)
    torch.set_num_threads(1)
    result: Any
    try:
        if timeout is not None:
            dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))
        result = function(*args)
    except BaseException as error:
        result = Failed(error)
    torch.save(result, file)
    if dist.is_initialized():
        dist.destroy_process_group()


def _read(file: Path, exitcode: int | None) -> Any:
    if not file.exists():
        return Failed(RuntimeError(f"the process ended with {exitcode}"))
    return torch.load(file, weights_only=False)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port
