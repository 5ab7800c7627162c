"""One call with one or two of its arguments replaced: it works, or it refuses by the argument's name."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.kinds import Kind
from tests.fuzz.values import Value, values
from tests.fuzz.world import Snapshot, World

SECONDS = 30
"""A call that takes longer hangs."""


@dataclass(frozen=True)
class Target:
    """A public function, and how it is called.

    :param function: what is called; a method as a function of `self`.
    :param arguments: valid arguments, made in the world of a case.
    :param kinds: the arguments that are fuzzed, and what they may be.
    :param share: of the cases, against the other targets.
    :param raises: what the docstring names beside TypeError and ValueError.
    :param related: names that a message may speak of instead, by argument: the two must fit together.
    :param late: arguments that can be judged only while the call works, such as the user's own functions.
    :param changes: whether a call that works may change the model.
    :param use: uses what the call returned; what was taken without a word must work there, or be refused by name.
    :param label: what it is called where the function's own name is that of others too.
    """

    function: Callable[..., Any]
    arguments: Callable[[World], dict[str, Any]]
    kinds: Mapping[str, Kind]
    share: float = 1.0
    raises: tuple[type[Exception], ...] = ()
    related: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    late: frozenset[str] = frozenset()
    changes: bool = False
    label: str = ""
    use: Callable[[World, Any], object] | None = None

    @property
    def name(self) -> str:
        return self.label or f"{self.function.__module__.removeprefix('art_gair.')}.{self.function.__qualname__}"


@st.composite
def mutations(draw: st.DrawFn, target: Target) -> dict[str, Value]:
    """One or two of the arguments, and what they are replaced by."""
    names = draw(st.lists(st.sampled_from(list(target.kinds)), min_size=1, max_size=2, unique=True))
    near = {name: target.kinds[name].near if draw(st.integers(0, 2)) == 0 else () for name in names}
    return {name: draw(st.sampled_from(near[name]) if near[name] else values()) for name in names}


def run(target: Target, replaced: Mapping[str, Value], playground: Playground) -> str:
    """Call, and return "worked", "refused", or "left out" where it would take too long; fail on anything else."""
    with playground.entered():
        world = World(playground.list_files)
        arguments = target.arguments(world)
        given = {name: value.make(world) for name, value in replaced.items()}
        if not all(target.kinds[name].affordable(value) for name, value in given.items()):
            return "left out"
        misfits = [name for name, value in given.items() if not target.kinds[name].fits(value)]
        arguments |= given
        refusals: tuple[type[Exception], ...] = (TypeError, ValueError, *target.raises)
        in_use = False
        before = Snapshot(world, list(arguments.values()))
        try:
            with _quiet(), _time_limit():
                result = target.function(**arguments)
                if target.use is not None:
                    in_use = True
                    before.require_model()
                    target.use(world, result)
        except refusals as error:
            _require_name(target, list(given), error)
            before.require_inputs()
            if in_use or target.late & given.keys() or not isinstance(error, (TypeError, ValueError)):
                before.require_model(rest=False)
            else:
                before.require_all()
            return "refused"
        assert not misfits, f"{misfits} taken without a word"
        before.require_inputs()
        if not target.changes and not in_use:
            before.require_model()
        return "worked"


def _require_name(target: Target, replaced: list[str], error: Exception) -> None:
    """Fail unless the message names an argument that was replaced, or one that must fit to it."""
    if not isinstance(error, (TypeError, ValueError)):
        return
    names = [*replaced, *(name for other in replaced for name in target.related.get(other, ()))]
    text = str(error)
    assert any(re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", text) for name in names), (
        f"names none of {names}: {type(error).__name__}: {text}"
    )


class Playground:
    """A folder that is the present working directory during a case, and is as new for the next one."""

    def __init__(self, root: Path) -> None:
        self.root, self.here = root.resolve(), root.resolve() / "here"
        self._make()
        self.files = self.list_files()

    def _make(self) -> None:
        (self.here / "folder").mkdir(parents=True)
        (self.here / "file").write_text("abc")

    def list_files(self) -> list[str]:
        """Return the paths of all files and folders."""
        return sorted(str(path) for path in self.root.rglob("*"))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be there; what was written is removed on leaving."""
        before = Path.cwd()
        os.chdir(self.here)
        try:
            yield
        finally:
            os.chdir(before)
            if self.list_files() != self.files:
                for path in self.root.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                self._make()


@contextmanager
def _quiet() -> Iterator[None]:
    """Print nothing, and pass over what the package warns its users of."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@contextmanager
def _time_limit() -> Iterator[None]:
    """Fail a call that takes more than SECONDS; where there are no such timers it may hang."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def fail(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still at work after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
