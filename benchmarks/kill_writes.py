"""Kill a writer of checkpoints at every one of its system calls: is a whole checkpoint left each time?

    python benchmarks/kill_writes.py [--tensors 20] [--size 50000]

Needs strace and the right to trace a process. A checkpoint is overwritten by another. One run, only watched, counts
the system calls; then one run for each of them has SIGKILL delivered as the call is entered. After each, the file is
read: it has to hold the one state or the other. What the kernel had not yet sent to the disk is not lost by a kill, so
this says nothing of a power cut: for that `write_state` syncs.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import torch

from art_gair.storage.files import read_state, remove_unfinished, write_state

State = list[torch.Tensor]


def run(path: Path, state: State, *options: str) -> tuple[int, list[str]]:
    """Write the state in a child under strace; return the child's exit code or signal, and its system calls."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(reading, 1)
            write_state(path, state)
            os._exit(0)
        finally:
            os._exit(1)
    trace = path.with_name("trace")
    command = ["strace", "-p", str(child), "-o", str(trace), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        os.write(writing, b".")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(reading)
    os.close(writing)
    if "attached" not in said:
        raise SystemExit(f"strace cannot trace here: {said}")
    names = [match[1] for line in trace.read_text().splitlines() if (match := re.match(r"(\w+)\(", line))]
    return code, [name for name in names if name not in ("read", "exit_group")]  # the wait, and the end


def found(path: Path, old: State, new: State) -> str:
    """Return which state the file holds."""
    try:
        read = read_state(path)
    except (OSError, ValueError):
        return "neither"
    return next((name for name, state in (("old", old), ("new", new)) if all(map(torch.equal, read, state))), "neither")


def kill_at_each_call(path: Path, old: State, new: State) -> dict[str, Counter[str]]:
    """Return for each system call what its kills left: "old", "new", "neither", or "not killed"."""
    write_state(path, old)
    _, names = run(path, new)
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    for name, calls in Counter(names).items():
        for n in range(1, calls + 1):
            write_state(path, old)
            code, _ = run(path, new, f"--inject={name}:signal=SIGKILL:when={n}")
            outcomes[name][found(path, old, new) if code == -signal.SIGKILL else "not killed"] += 1
            remove_unfinished(path.parent)
    return outcomes


def main() -> None:
    """Print the table; the exit code is 1 if a kill left no state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensors", type=int, default=20, help="tensors of a checkpoint")
    parser.add_argument("--size", type=int, default=50_000, help="values of each")
    settings = parser.parse_args()
    old, new = ([torch.randn(settings.size) for _ in range(settings.tensors)] for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        outcomes = kill_at_each_call(Path(folder) / "state", old, new)
    columns = ("old", "new", "neither", "not killed")
    print(f"| system call | kills | {' | '.join(columns)} |\n|---|--:|{'--:|' * len(columns)}")
    for name, left in [*outcomes.items(), ("all", sum(outcomes.values(), Counter()))]:
        print(f"| {name} | {left.total()} | {' | '.join(str(left[c]) for c in columns)} |")
    raise SystemExit(any(left["neither"] for left in outcomes.values()))


if __name__ == "__main__":
    main()
