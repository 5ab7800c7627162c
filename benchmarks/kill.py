"""Kills trainings at random moments until they come through, and holds what they leave against one in a single go.

    python benchmarks/kill.py [--runs 50] [--cases GAIRAT bf16] [--seed 0] [--jobs 2] [--minutes 60] [--out FOLDER]

Each process is a new Python with one thread. It trains digits, saving after every third step, and gets SIGKILL a random
time after it has begun. The next one goes on, until one comes through. Then weights, buffers, the optimizer's and the
scheduler's state, the history with its kappa histograms, EMA's average, the best epoch, and where torch's, NumPy's and
Python's generators stand must be those of a training without a kill and without a Checkpoint, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import torch

SCRIPT = Path(__file__).with_name("kill_case.py")

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

LOST = "of another training", "yields other batches", "no longer bit for bit", "could not be saved"
"""What no process may have written to stderr."""


class Process(Protocol):
    """A training in a process of its own."""

    pid: int

    def read_beginning(self) -> list[str]:
        """Wait until it trains; return the epoch, the step in it and whether it was resumed."""
        ...

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends by itself in this time."""
        ...

    def wait(self) -> int:
        """Return its exit code, or its signal below 0."""
        ...


Launch = Callable[[Sequence[str], Path], Process]
"""Starts a process with arguments of kill_case.py, its stderr going to a log."""


class FreshProcess:
    """A new Python."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        command = [sys.executable, str(SCRIPT), *arguments]
        with log.open("ab") as stderr:
            self.popen = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, env=ENVIRONMENT, start_new_session=True
            )
        self.pid = self.popen.pid

    def read_beginning(self) -> list[str]:
        """See `Process`."""
        assert self.popen.stdout is not None
        return parse(self.popen.stdout.readline())

    def ends_within(self, seconds: float) -> bool:
        """See `Process`."""
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait(self) -> int:
        """See `Process`."""
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        return self.popen.wait()


class Forks:
    """Forks processes from one that has imported torch, one at a time: quicker than a new Python for each."""

    def __init__(self) -> None:
        command = [sys.executable, str(SCRIPT), "--serve"]
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, bufsize=0
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.communicate()

    def start(self, arguments: Sequence[str], log: Path) -> Process:
        """See `Launch`."""
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps([list(arguments), str(log)]).encode() + b"\n")
        return ForkedProcess(self.server)


class ForkedProcess:
    """A process of which its server tells."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        assert server.stdout is not None
        self.pipe: Any = server.stdout
        self.pid = int(self.pipe.readline().split()[1])

    def read_beginning(self) -> list[str]:
        """See `Process`."""
        return parse(self.pipe.readline())

    def ends_within(self, seconds: float) -> bool:
        """See `Process`."""
        return bool(select.select([self.pipe], [], [], seconds)[0])

    def wait(self) -> int:
        """See `Process`."""
        for line in iter(self.pipe.readline, b""):
            if line.startswith(b"ended "):
                return int(line.split()[1])
        raise RuntimeError("the server of forks has ended.")


def parse(line: bytes) -> list[str]:
    """Return what a process has said when it began."""
    words = line.decode().split()
    if words[:1] != ["training"]:
        raise RuntimeError(f"a training ended before it began, with {words}; its log says why.")
    return words[1:]


@dataclass
class Outcome:
    """What became of the trainings of one case.

    :param within_save: kills after which an unfinished file lay in the folder.
    :param restarts: kills before the first save, so that the training began again.
    :param differing: places at which a training differs from the one in a single go.
    """

    case: str
    trainings: int = 0
    kills: int = 0
    within_save: int = 0
    restarts: int = 0
    differing: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """What the table says."""
        return "bit for bit" if not self.differing else f"differs: {', '.join(self.differing[:5])}"


@dataclass
class Killer:
    """Trains a case, killing its processes.

    :param folder: for saves, results and logs; empty.
    :param chance: of when to kill.
    """

    launch: Launch
    case: str
    folder: Path
    chance: random.Random
    epochs: int

    def __post_init__(self) -> None:
        self.outcome = Outcome(self.case)
        self.log = self.folder / "log.txt"

    def train_in_one_go(self) -> None:
        """Make the result that the others are held against, and take the time that a training takes."""
        process = self.launch(self.arguments("expected.json"), self.log)
        process.read_beginning()
        began = time.perf_counter()
        self.was_killed(process)
        self.seconds = time.perf_counter() - began

    def train_with_kills(self, most: int, share: float = 0.5, die: str | None = None) -> None:
        """Train until a process comes through, and compare.

        :param most: kills; then a process is left alone.
        :param share: of the time a training takes, within which a process is killed.
        :param die: call at which the first process kills itself, see kill_case.py.
        """
        saves = self.folder / f"saves-{self.outcome.trainings}"
        self.outcome.trainings += 1
        reached = 0, 0
        for kills in count():
            dying = ["--die", die] if die is not None and kills == 0 else []
            arguments = [*self.arguments("result.json"), "--folder", str(saves), *dying]
            saved = bool(list(saves.glob("*.checkpoint")))
            process = self.launch(arguments, self.log)
            reached = self.check_beginning(process.read_beginning(), reached, saved)
            if kills < most and not dying and not process.ends_within(self.chance.uniform(0, share * self.seconds)):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            if not self.was_killed(process):
                break
            self.outcome.kills += 1
            self.outcome.within_save += bool(list(saves.glob(".*.part")))
            self.outcome.restarts += not list(saves.glob("*.checkpoint"))
        self.compare()
        shutil.rmtree(saves)

    def check_beginning(self, said: list[str], reached: tuple[int, int], saved: bool) -> tuple[int, int]:
        """Return where a process goes on; that must not be before where the last one did."""
        epoch, step, resumed = int(said[0]), int(said[1]), said[2] == "True"
        if (epoch, step) < reached or resumed != saved:
            self.outcome.differing.append(f"went on at epoch {epoch}, step {step} after {reached}")
        return epoch, step

    def was_killed(self, process: Process) -> bool:
        """Wait for the end of a process; False if it came through."""
        code = process.wait()
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{self.case}: a process ended with {code}: {self.log.read_text()[-2000:]}")
        return code != 0

    def compare(self) -> None:
        """Note what differs from the training in one go."""
        expected, result = (json.loads((self.folder / name).read_text()) for name in ("expected.json", "result.json"))
        self.outcome.differing += [k for k in sorted({*expected, *result}) if expected.get(k) != result.get(k)]
        written = self.log.read_text()
        self.outcome.differing += [f"{words!r} in the log" for words in LOST if words in written]
        (self.folder / "result.json").unlink()

    def arguments(self, result: str) -> list[str]:
        """Return arguments of kill_case.py."""
        return [self.case, str(self.folder / result), "--epochs", str(self.epochs)]


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a line a case, in Markdown."""
    lines = [
        "| case | trainings | killed processes | within a save | before the first save | against one in a single go |"
    ]
    lines.append("|---|--:|--:|--:|--:|---|")
    for o in outcomes:
        lines.append(f"| {o.case} | {o.trainings} | {o.kills} | {o.within_save} | {o.restarts} | {o.verdict} |")
    sums = [sum(getattr(o, name) for o in outcomes) for name in ("trainings", "kills", "within_save", "restarts")]
    wrong = sum(bool(o.differing) for o in outcomes)
    lines.append(f"| all | {' | '.join(map(str, sums))} | {'bit for bit' if not wrong else f'{wrong} cases differ'} |")
    return "\n".join(lines)


def kill_all(killers: Sequence[Killer], runs: int, jobs: int, until: float) -> None:
    """Train the cases in turn, until enough processes of each have been killed or the time is up."""

    def train(killer: Killer) -> None:
        killer.train_with_kills(most=runs)
        print(f"{killer.case}: {killer.outcome.kills} kills, {killer.outcome.verdict}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(Killer.train_in_one_go, killers))
        while time.monotonic() < until:
            left = [k for k in killers if k.outcome.kills < runs and not k.outcome.differing]
            if not left:
                break
            list(pool.map(train, left))


def main(argv: Sequence[str] | None = None) -> int:
    """Kill all cases; return 1 if one differs."""
    from kill_case import CASES, EPOCHS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="processes of each case to kill, at least")
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=CASES,
        default=list(CASES),
        metavar="CASE",
        help="; ".join(f'"{case}"' for case in CASES),
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--minutes", type=float, default=120.0, help="after which no other round of trainings is begun")
    parser.add_argument("--out", type=Path, help="folder to write kill.md to")
    args = parser.parse_args(argv)
    until = time.monotonic() + 60.0 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        killers = []
        for i, case in enumerate(args.cases):
            (place := Path(folder, str(i))).mkdir()
            killers.append(Killer(FreshProcess, case, place, random.Random(f"{args.seed} {case}"), args.epochs))
        kill_all(killers, args.runs, args.jobs, until)
    outcomes = [killer.outcome for killer in killers]
    text = table(outcomes)
    print(text)
    if args.out is not None:
        made = f"python benchmarks/kill.py --runs {args.runs} --seed {args.seed} --minutes {args.minutes:g}"
        made += f" --epochs {args.epochs}; torch {torch.__version__}, Python {platform.python_version()}"
        (args.out / "kill.md").write_text(f"{made}\n\n{text}\n")
    return int(any(outcome.differing for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
