from __future__ import annotations

import ast
import importlib.util
import json
import logging
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import art
import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier

from art_gair import (
    TRADES,
    AdversarialTrainerGAIRAT,
    DiscreteWeighting,
    GeometryAwarePGD,
    SigmoidWeighting,
    TanhWeighting,
    UniformWeighting,
)
from tests.models import as_it_is, classifier_of, conv_net, digits, mlp
from upstream.bed import BedError, make_bed
from upstream.check import write_copy
from upstream.checkout import Checkout
from upstream.edits import EDITS
from upstream.files import RefusedError
from upstream.lift import Core, LiftError
from upstream.moves import ROOM, UnfinishedError
from upstream.note import Note
from upstream.render import fill, render
from upstream.write import main, write

ROOT = Path(__file__).parents[1]
CORE = ROOT / "art_gair"
ISSUES = sorted((ROOT / "examples" / "art_issues").glob("*.py"))

ATTACK = "art/attacks/evasion/geometry_aware_pgd.py"
TRAINER = "art/defences/trainer/adversarial_trainer_gairat_pytorch.py"
ABSTRACT = "art/defences/trainer/adversarial_trainer_gairat.py"
NEW = {
    *(ATTACK, TRAINER, ABSTRACT, "examples/adversarial_training_gairat.py"),
    "tests/attacks/evasion/test_geometry_aware_pgd.py",
    "tests/defences/trainer/test_adversarial_trainer_gairat_pytorch.py",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return the installed ART's files that are edited, laid out as in a checkout of its repository."""
    folder = tmp_path / "ART"
    for name in ("art/__init__.py", "art/attacks/evasion/__init__.py", "art/defences/trainer/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(art.__file__).parent / name.removeprefix("art/"), folder / name)
    for edit in EDITS:
        if edit.path.endswith(".rst"):
            (folder / edit.path).parent.mkdir(parents=True)
            (folder / edit.path).write_text(f"Defences\n========\n\n{edit.after}The rest\n", encoding="utf-8")
    for name in ("tests/attacks/evasion", "tests/defences/trainer", "examples"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "build" / "written.json"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def changed_core(folder: Path) -> Path:
    core = folder / "core"
    shutil.copytree(CORE, core, ignore=shutil.ignore_patterns("__pycache__"))
    (core / "logits.py").write_text((core / "logits.py").read_text().replace("log_p.exp()", "log_q.exp()"))
    return core


def git(folder: Path, *command: str) -> None:
    settings = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *settings, *command], check=True, capture_output=True)


def load(files: dict[str, str], folder: Path) -> dict[str, ModuleType]:
    """Import the written modules under their names in ART."""
    modules = {}
    for path in (ATTACK, ABSTRACT, TRAINER):
        name = path.removesuffix(".py").replace("/", ".")
        (folder / Path(path).name).write_text(files[path], encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, folder / Path(path).name)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = modules[path] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[path])
    return modules


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Return the attack and the trainer as they are written for ART."""
    before = set(sys.modules)
    modules = load(render(Core(CORE)), tmp_path_factory.mktemp("slim"))
    yield modules[ATTACK].GeometryAwarePGDPyTorch, modules[TRAINER].AdversarialTrainerGAIRATPyTorch
    for name in set(sys.modules) - before:
        if "gair" in name or "geometry_aware" in name:
            del sys.modules[name]


def test_the_files_and_the_exports_are_written(checkout: Path, record: Path) -> None:
    before = contents(checkout)

    paths = write(checkout, record=record)

    after = contents(checkout)
    assert set(after) - set(before) == NEW
    assert set(paths) == NEW | {edit.path for edit in EDITS}
    for path in NEW:
        text = after[path].decode()
        ast.parse(text)
        assert "<<" not in text
        assert "art_gair" not in text
        assert max(map(len, text.split("\n"))) <= 120
        assert path.startswith("examples/") or "Copyright (C) The Adversarial Robustness Toolbox (ART) Authors" in text
    for edit in EDITS:
        assert after[edit.path].decode().replace(edit.lines, "") == before[edit.path].decode()


def test_torch_is_imported_inside_functions_only() -> None:
    for path, text in render(Core(CORE)).items():
        top = [n for n in ast.parse(text).body if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert path.startswith("examples/") or not any("torch" in ast.unparse(n).split()[1].split(".") for n in top)


def test_every_argument_of_a_new_function_has_its_line_in_the_docstring() -> None:
    files = render(Core(CORE))
    for path in (ATTACK, ABSTRACT, TRAINER):
        for node in ast.walk(ast.parse(files[path])):
            if isinstance(node, ast.FunctionDef) and node.name not in ("_check_params", "batches"):
                doc = ast.get_docstring(node) or ""
                missing = [a.arg for a in node.args.args if a.arg != "self" and f":param {a.arg}:" not in doc]
                assert not missing, f"{path}: {node.name}"


FORMULAS = [
    ("attacks/pgd.py", "kappa = kappa + (logits.argmax", "kappa = kappa + 2 * (logits.argmax", ATTACK),
    ("attacks/pgd.py", "torch.clamp(moved, samples.lower", "torch.clamp(2 * moved, samples.lower", ATTACK),
    ("attacks/norms.py", "return grad.sign()", "return -grad.sign()", ATTACK),
    ("attacks/norms.py", "eps / _nonzero(norm), max=1.0", "eps / _nonzero(norm), max=0.5", ATTACK),
    ("attacks/norms.py", "(flat - threshold)", "(flat - 2 * threshold)", ATTACK),
    ("attacks/losses.py", "return -margin(logits, labels)", "return margin(logits, labels)", ATTACK),
    ("logits.py", "log_p.exp() * (log_p - log_q)", "log_q.exp() * (log_q - log_p)", ATTACK),
    ("weighting/geometry.py", "5.0 * (1.0 - 2.0 * kappa", "4.0 * (1.0 - 2.0 * kappa", TRAINER),
    ("weighting/geometry.py", "torch.log1p(-kappa / (max_iter + 1))", "torch.log1p(-kappa / (max_iter + 2))", TRAINER),
    ("weighting/geometry.py", "steepness = 2.0", "steepness = 3.0", TRAINER),
    ("weighting/base.py", "(weights / weights.mean())", "(weights / weights.sum())", TRAINER),
    ("objectives/trades.py", "kl_divergence(clean, logits)", "kl_divergence(logits, clean)", TRAINER),
    ("objectives/base.py", "weighted = weights * terms.weighted", "weighted = terms.weighted", TRAINER),
    ("objectives/per_sample.py", "torch.full_like(divisor, n)", "torch.full_like(divisor, 1)", TRAINER),
    ("objectives/at.py", "mean_i w_i * loss(f(x_adv_i), y_i)", "sum_i w_i * loss(f(x_adv_i), y_i)", ABSTRACT),
    ("trainer.py", "burn_in: BurnIn = 0.3", "burn_in: BurnIn = 0.4", ABSTRACT),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "path"), FORMULAS, ids=[f"{f}:{old[:24]}" for f, old, _, _ in FORMULAS])
def test_a_changed_formula_in_the_core_changes_what_is_written(
    tmp_path: Path, file: str, old: str, new: str, path: str
) -> None:
    shutil.copytree(CORE, tmp_path / "core", ignore=shutil.ignore_patterns("__pycache__"))
    source = (tmp_path / "core" / file).read_text(encoding="utf-8")
    assert old in source
    (tmp_path / "core" / file).write_text(source.replace(old, new), encoding="utf-8")

    before, after = render(Core(CORE)), render(Core(tmp_path / "core"))

    assert after[path] != before[path]
    changed = {n for n in before if before[n] != after[n]}
    assert changed <= {ATTACK, ABSTRACT, TRAINER}


def test_a_core_that_is_no_longer_what_a_piece_expects_is_named(tmp_path: Path, checkout: Path, record: Path) -> None:
    core = tmp_path / "core"
    shutil.copytree(CORE, core, ignore=shutil.ignore_patterns("__pycache__"))
    source = (core / "attacks" / "pgd.py").read_text(encoding="utf-8")
    before = contents(checkout)

    for old, new, named in (
        ("self.note_gradient(grad)", "self.note(grad)", "self.note_gradient"),
        ("def select_samples(", "def pick_samples(", "select_samples"),
    ):
        (core / "attacks" / "pgd.py").write_text(source.replace(old, new), encoding="utf-8")
        with pytest.raises(LiftError, match=rf"attacks/pgd\.py.*{named}"):
            write(checkout, core, record)

    assert contents(checkout) == before
    with pytest.raises(LiftError, match="no piece"):
        fill("<<nothing>>\n", Core(CORE))


def test_a_second_run_replaces_what_the_first_wrote(tmp_path: Path, checkout: Path, record: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "ART")
    write(checkout, record=record)
    first = contents(checkout)
    core = changed_core(tmp_path)

    write(checkout, record=record)
    assert contents(checkout) == first
    write(checkout, core, record)

    assert b"log_q.exp()" in contents(checkout)[ATTACK]


def unsupported(folder: Path) -> None:
    init = folder / "art" / "__init__.py"
    init.write_text(init.read_text().replace('__version__ = "1.20', '__version__ = "1.19'))


def dirty(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "ART")
    (folder / "examples" / "mine.py").write_text("x = 1\n")


def edited_elsewhere(folder: Path) -> None:
    path = folder / EDITS[0].path
    path.write_text(path.read_text().replace("import GeoDA", "import Geo"))


def exported_elsewhere(folder: Path) -> None:
    path = folder / EDITS[0].path
    path.write_text(EDITS[0].lines + path.read_text())


REFUSALS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "which is no folder"),
    "not ART": (lambda folder: (folder / "art" / "__init__.py").unlink(), "no checkout of ART"),
    "another version": (unsupported, r"ART of version 1\.19.*expected 1\.20\.x"),
    "no version": (lambda folder: (folder / "art" / "__init__.py").write_text(""), "ART of no version"),
    "no tests": (lambda folder: shutil.rmtree(folder / "tests"), "lacks tests/attacks/evasion"),
    "no documentation": (lambda folder: shutil.rmtree(folder / "docs"), r"lacks docs/modules/attacks/evasion\.rst"),
    "a file of somebody else": (lambda folder: (folder / ATTACK).write_text("mine\n"), "is not noted as written by"),
    "a dirty tree": (dirty, r"uncommitted changes, examples/mine\.py"),
    "an __init__ without the place": (edited_elsewhere, "0 times; expected it once"),
    "an export that stands elsewhere": (exported_elsewhere, "names GeometryAwarePGDPyTorch in other lines"),
    "odd bytes": (lambda folder: (folder / EDITS[0].path).write_bytes(b"caf\xe9"), "is not in UTF-8"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_written_to_is_refused_and_left_alone(
    checkout: Path, name: str, capsys: pytest.CaptureFixture[str], record: Path
) -> None:
    spoil, message = REFUSALS[name]
    spoil(checkout)
    before = contents(checkout)

    with pytest.raises(RefusedError, match=message):
        write(checkout, record=record)
    assert main([str(checkout)]) == 1

    assert capsys.readouterr().err.startswith("Nothing was written: ")
    assert contents(checkout) == before


def test_a_file_that_was_changed_after_it_was_written_is_not_overwritten(
    tmp_path: Path, checkout: Path, record: Path
) -> None:
    write(checkout, record=record)
    with (checkout / ATTACK).open("a") as file:
        file.write("# mine\n")

    with pytest.raises(RefusedError, match="is not noted as written by"):
        write(checkout, record=record)


def test_a_write_that_fails_takes_back_what_it_has_written(checkout: Path, record: Path) -> None:
    before = contents(checkout)
    files = {"examples/new.py": "x = 1\n", EDITS[0].path: "gone\n", "nowhere/at/all.py": "x = 2\n"}

    with pytest.raises(FileNotFoundError):
        Checkout(checkout, record).write(files)

    assert contents(checkout) == before


CHILD = """
import os, signal, sys
from pathlib import Path
from upstream.checkout import Checkout
from upstream.write import write

folder, record, core = map(Path, sys.argv[1:4])

def at_each_change(act):
    def hook(event, args):
        opened = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if opened or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            act(event, str(args[0]))
    sys.addaudithook(hook)
"""
"""What runs of their own process begin with: a hook on every change of a file or folder."""


def command(script: str, checkout: Path, record: Path, core: Path = CORE) -> list[str]:
    return [sys.executable, "-c", CHILD + script, str(checkout), str(record), str(core)]


def run(script: str, checkout: Path, record: Path, core: Path = CORE) -> tuple[int, str, str]:
    """Return the exit status, output and errors."""
    done = subprocess.run(
        command(script, checkout, record, core), cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


KILLED_AFTER_ALL_MOVES = """
def act(event, path):
    if event == "os.rename" and path == str(record) + ".part":
        os.kill(os.getpid(), signal.SIGKILL)
at_each_change(act)
write(folder, core, record)
"""

KILLED_BEFORE_THE_LAST_MOVE = """
from upstream.edits import EDITS
def act(event, path):
    if event == "os.rename" and path.endswith("new/" + EDITS[-1].path):
        os.kill(os.getpid(), signal.SIGKILL)
at_each_change(act)
write(folder, core, record)
"""

KILLED_ANYWHERE = """
from contextlib import contextmanager
from upstream.edits import EDITS
from upstream.lift import Core
from upstream.render import render

scandir = os.scandir
@contextmanager
def plan_last(*args):  # the worst order in which a disk may list a folder that is removed
    with scandir(*args) as entries:
        yield iter(sorted(entries, key=lambda entry: entry.name == "plan.json"))
os.scandir = plan_last
os.fsync = lambda descriptor: None  # slow, and a killed process loses nothing without it
names = ("art/attacks/evasion/geometry_aware_pgd.py", "examples/adversarial_training_gairat.py")
edit = EDITS[0]
files = {name: text for name, text in render(Core(core)).items() if name in names}
files[edit.path] = edit.applied((folder / edit.path).read_text())

def recovered():
    checkout = Checkout(folder, record)
    checkout.recover()
    return checkout

def put(files):
    checkout = recovered()
    checkout.require_free(files)
    checkout.write(files)

def killed(step, function, *args):
    pid = os.fork()
    if pid == 0:
        left = step
        def act(event, path):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        at_each_change(act)
        function(*args)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9

def contents():
    held = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {**held, "note": Checkout(folder, record).note.read()}

changed = {path: text + "# another core\\n" for path, text in files.items()}
for old, new in (({}, files), (files, changed)):
    if old:
        put(old)
    before, steps, states = contents(), 0, []
    start = {path: (folder / path).read_bytes() for path in files if (folder / path).exists()}
    while killed(steps, put, new):
        killed(steps % 9, recovered)  # the taking back is killed as well
        recovered()
        states.append(contents())
        put(new)
        after = contents()
        for path in files:
            (folder / path).write_bytes(start[path]) if path in start else (folder / path).unlink()
        Checkout(folder, record).note.write(before["note"])
        assert contents() == before
        steps += 1
    last = max(i for i, state in enumerate(states) if state == before)
    assert all(state == before for state in states[: last + 1]), "half-way"
    assert all(state == after for state in states[last + 1 :]), "half-way"
    print(steps, last)
    recovered()
"""


def test_a_run_that_is_killed_at_any_step_writes_all_or_nothing(checkout: Path, record: Path) -> None:
    status, out, error = run(KILLED_ANYWHERE, checkout, record)
    assert (status, error) == (0, "")
    for line in out.splitlines():
        steps, last_taken_back = map(int, line.split())
        assert 20 < last_taken_back < steps - 5, "kills both before the end and after it, in the clean-up"
    assert len(out.splitlines()) == 2


def test_what_a_killed_run_left_is_taken_back_by_the_next(checkout: Path, record: Path) -> None:
    before = contents(checkout)
    assert run(KILLED_BEFORE_THE_LAST_MOVE, checkout, record)[0] == -9
    assert set(contents(checkout)) > set(before) | NEW

    Checkout(checkout, record).recover()

    assert contents(checkout) == before
    assert run(KILLED_BEFORE_THE_LAST_MOVE, checkout, record)[0] == -9
    write(checkout, record=record)
    assert set(contents(checkout)) == set(before) | NEW


def test_what_was_committed_after_a_kill_stays(tmp_path: Path, checkout: Path, record: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "ART")
    assert run(KILLED_AFTER_ALL_MOVES, checkout, record)[0] == -9
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "GAIRAT")
    before = contents(checkout)

    write(checkout, record=record)

    after = contents(checkout)
    assert {path: after[path] for path in NEW} == {path: before[path] for path in NEW}
    assert not (checkout / ROOM).exists()
    write(checkout, changed_core(tmp_path), record)
    assert b"log_q.exp()" in contents(checkout)[ATTACK]


def test_what_a_killed_run_left_is_kept_where_somebody_changed_it_since(checkout: Path, record: Path) -> None:
    assert run(KILLED_AFTER_ALL_MOVES, checkout, record)[0] == -9
    (checkout / ATTACK).write_text("mine\n")
    before = contents(checkout)

    with pytest.raises(RefusedError, match=r"geometry_aware_pgd\.py was changed since.*then delete"):
        write(checkout, record=record)

    assert contents(checkout) == before


def test_a_lost_copy_of_an_old_file_is_named(checkout: Path, record: Path) -> None:
    assert run(KILLED_BEFORE_THE_LAST_MOVE, checkout, record)[0] == -9
    (checkout / ROOM / "old" / EDITS[0].path).unlink()
    before = contents(checkout)

    with pytest.raises(RefusedError, match=rf"old/{EDITS[0].path} is lost or changed"):
        write(checkout, record=record)

    assert contents(checkout) == before


@pytest.mark.parametrize("plan", ["", "[]", '{"new": {"../mine": "a"}, "old": {"../mine": null}, "noted": {}}'])
def test_a_plan_that_is_none_is_refused(checkout: Path, record: Path, plan: str) -> None:
    (checkout.parent / "mine").write_text("mine\n")
    (checkout / ROOM).mkdir()
    (checkout / ROOM / "plan.json").write_text(plan)

    with pytest.raises(RefusedError, match=r"plan\.json is damaged"):
        write(checkout, record=record)

    assert (checkout.parent / "mine").exists()


STOPPED = """
def act(event, path):
    if event == "os.rename" and path == str(record) + ".part":
        os.kill(os.getpid(), signal.SIGSTOP)
at_each_change(act)
write(folder, core, record)
"""


def test_a_second_run_at_the_same_time_is_refused(checkout: Path, record: Path) -> None:
    first = subprocess.Popen(command(STOPPED, checkout, record), cwd=ROOT)
    assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])
    before = contents(checkout)
    with pytest.raises(RefusedError, match="Another run is writing into"):
        write(checkout, record=record)
    assert contents(checkout) == before

    first.send_signal(signal.SIGCONT)

    assert first.wait() == 0
    assert set(contents(checkout)) == {path for path in before if not path.startswith(ROOM)}
    assert write(checkout, record=record)


def test_a_folder_of_the_users_own_is_left_alone(checkout: Path, record: Path) -> None:
    for name in (".upstream-patches", ".art_gair-upstream-2"):
        (checkout / name).mkdir()
        (checkout / name / "my_fix.patch").write_text("days of work")

    write(checkout, record=record)

    for name in (".upstream-patches", ".art_gair-upstream-2"):
        assert (checkout / name / "my_fix.patch").read_text() == "days of work"


@pytest.mark.parametrize(
    "make",
    [
        lambda room: room.write_text("mine"),
        lambda room: room.symlink_to(room.parent / "art"),
        lambda room: room.symlink_to(room.parent / "nowhere"),
        lambda room: (room / "mine").mkdir(parents=True),
    ],
    ids=["file", "link", "broken link", "folder"],
)
def test_what_bears_the_name_of_our_folder_is_refused(
    checkout: Path, record: Path, make: Callable[[Path], Any]
) -> None:
    make(checkout / ROOM)
    before = contents(checkout)

    with pytest.raises(RefusedError, match=rf"{ROOM} is there and was not left by"):
        write(checkout, record=record)

    assert contents(checkout) == before
    assert os.path.lexists(checkout / ROOM)


INTERRUPTED_AGAIN_AND_AGAIN = """
moved = False
def act(event, path):
    global moved
    moved = moved or (event == "os.rename" and path == str(record) + ".part")
    if moved:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
at_each_change(act)
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
write(folder, core, record)
"""


def test_interrupts_do_not_stop_the_taking_back(checkout: Path, record: Path) -> None:
    before = contents(checkout)
    status, _, error = run(INTERRUPTED_AGAIN_AND_AGAIN, checkout, record)
    if status != 128 + signal.SIGTERM:  # either may be the one that ends it: both come before the first is handled
        assert status in (1, -signal.SIGINT)
        assert error.splitlines()[-1] == "KeyboardInterrupt"
    assert contents(checkout) == before


def test_what_cannot_be_taken_back_is_kept_for_the_next_run(checkout: Path, record: Path) -> None:
    before = contents(checkout)

    class FullDisk(Note):
        def write(self, written: dict[str, str]) -> None:
            (checkout / ATTACK).write_text("mine\n")
            raise OSError("No space left on device")

    broken = Checkout(checkout, record)
    broken.note = FullDisk(record, checkout)
    with pytest.raises(
        UnfinishedError, match=r"No space left.*was changed since.*next run of `make upstream` takes it"
    ):
        broken.write({ATTACK: "x = 1\n", EDITS[0].path: "gone\n"})
    (checkout / ATTACK).unlink()

    Checkout(checkout, record).recover()

    assert contents(checkout) == before


LITTLE_ROOM = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write(folder, core, record)
"""


def test_a_note_that_cannot_be_written_stays_as_it_was(checkout: Path, record: Path) -> None:
    record.parent.mkdir()
    record.write_text(json.dumps({"/another": {f"{i}.py": "a" * 64 for i in range(2000)}}))
    before, noted = contents(checkout), record.read_text()

    error = run(LITTLE_ROOM, checkout, record)[2]

    assert error.splitlines()[-1] == "OSError: [Errno 27] File too large"
    assert contents(checkout) == before
    assert {path.name: path.read_text() for path in record.parent.iterdir()} == {record.name: noted}


def test_a_copy_may_be_written_where_the_checkout_may(tmp_path: Path, checkout: Path, record: Path) -> None:
    write(checkout, changed_core(tmp_path), record)
    bed = make_bed(tmp_path / "bed", checkout, None)

    assert write_copy(bed, checkout, record)

    assert b"log_q.exp()" in contents(checkout)[ATTACK]
    assert b"log_q.exp()" not in contents(bed)[ATTACK]


def test_a_bed_within_the_checkout_or_around_it_is_refused(checkout: Path) -> None:
    before = contents(checkout)
    for folder in (checkout, checkout / "project" / "build" / "bed", checkout.parent):
        with pytest.raises(BedError, match="expected a checkout elsewhere"):
            make_bed(folder, checkout, None)
    assert contents(checkout) == before


def test_files_that_git_checked_out_with_other_line_ends_are_ours(tmp_path: Path, checkout: Path, record: Path) -> None:
    write(checkout, record=record)
    for path in {*NEW, *(edit.path for edit in EDITS)}:
        (checkout / path).write_bytes((checkout / path).read_bytes().replace(b"\n", b"\r\n"))

    assert write(checkout, record=record)
    assert write(checkout, record=checkout.parent / "no_note.json")
    assert write(checkout, changed_core(tmp_path), record)


def test_a_stray_line_end_does_not_hide_the_place(checkout: Path, record: Path) -> None:
    path = checkout / EDITS[0].path
    path.write_bytes(path.read_bytes() + b"# stray\r\n")
    before = path.read_bytes()

    write(checkout, record=record)

    assert path.read_bytes().replace(EDITS[0].lines.encode(), b"") == before


def test_variables_for_git_do_not_lead_it_elsewhere(
    tmp_path: Path, checkout: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dirty(checkout)
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))

    with pytest.raises(RefusedError, match=r"uncommitted changes, examples/mine\.py first"):
        write(checkout, record=record)


def test_an_untracked_file_of_any_name_is_named(checkout: Path, record: Path) -> None:
    dirty(checkout)
    (checkout / "examples" / "mine.py").rename(checkout / "examples" / os.fsdecode(b"caf\xe9.py"))
    with pytest.raises(RefusedError, match=r"uncommitted changes, examples/caf\udce9\.py first"):
        write(checkout, record=record)


def test_line_ends_and_permissions_stay(checkout: Path, record: Path) -> None:
    path = checkout / EDITS[0].path
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    path.chmod(0o664)
    before = path.read_bytes()

    write(checkout, record=record)
    write(checkout, record=record)

    lines = EDITS[0].lines.replace("\n", "\r\n").encode()
    assert path.read_bytes().count(lines) == 1
    assert path.read_bytes().replace(lines, b"") == before
    assert path.stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("ignored", [True, False], ids=["ignored", "tracked"])
def test_a_checkout_within_another_repository(checkout: Path, record: Path, ignored: bool) -> None:
    outer = checkout.parent
    git(outer, "init", "-q")
    (outer / ".gitignore").write_text("ART\n" if ignored else "build\n")
    git(outer, "add", "-A")
    git(outer, "commit", "-qm", "mine")
    init = checkout / "art" / "__init__.py"
    init.write_text(init.read_text() + "# mine\n")

    if ignored:
        assert write(checkout, record=record)
    else:
        with pytest.raises(RefusedError, match=r"uncommitted changes, art/__init__\.py first"):
            write(checkout, record=record)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'], ids=["torn", "a list", "of another form"])
def test_a_damaged_record_is_refused(
    checkout: Path, record: Path, content: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(checkout)
    record.parent.mkdir()
    record.write_text(content)
    monkeypatch.setattr(write, "__defaults__", (CORE, record))

    assert main([str(checkout)]) == 1

    assert re.search(r"Nothing was written: .*written\.json.*delete it", capsys.readouterr().err)
    assert contents(checkout) == before


WEIGHTINGS = {
    "tanh": TanhWeighting(-1.0),
    "sigmoid": SigmoidWeighting(-1.0),
    "discrete": DiscreteWeighting(),
    "uniform": UniformWeighting(),
}
MODELS = {"mlp": lambda: mlp((1, 8, 8), 10), "conv_net": conv_net}


def twins(model: str, **settings: Any) -> tuple[PyTorchClassifier, PyTorchClassifier]:
    """Return two classifiers of the same weights; ours is attacked as it stands.

    Folding BatchNorm in rounds differently, and the sign of a gradient near zero, as TRADES' first one is, may turn.
    """
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(classifier_of(MODELS[model](), (1, 8, 8), lr=0.01, **settings))
    return as_it_is(made[0]), made[1]


def assert_close(ours: PyTorchClassifier, theirs: PyTorchClassifier) -> None:
    for name, value in ours.model.state_dict().items():
        torch.testing.assert_close(theirs.model.state_dict()[name], value, rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
@pytest.mark.parametrize("loss", ["ce", "margin", "kl"])
def test_the_slim_attack_equals_ours(slim: tuple[Any, Any], norm: float, loss: str) -> None:
    ours, theirs = twins("conv_net", preprocessing=(0.3, 0.5))
    x, y = digits(60)
    settings: dict[str, Any] = {
        "norm": norm,
        "eps": {np.inf: 0.2, 2: 1.0, 1: 4.0}[norm],
        "eps_step": 0.1,
        "max_iter": 4,
    }
    settings |= {"loss": loss, "batch_size": 25, "num_random_init": {"ce": 1, "margin": 2, "kl": 0}[loss]}

    torch.manual_seed(1)
    expected = GeometryAwarePGD(ours, **settings).generate_with_kappa(x, y)
    torch.manual_seed(1)
    x_adv, kappa = slim[0](theirs, **settings, verbose=False).generate_with_kappa(x, y)

    np.testing.assert_array_equal(kappa, expected[1])
    np.testing.assert_allclose(x_adv, expected[0], atol=1e-6)
    assert 0 < kappa.mean() < 4


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("objective", ["at", "trades"])
@pytest.mark.parametrize("model", MODELS)
def test_the_slim_trainer_and_ours_give_the_same_model(
    slim: tuple[Any, Any], model: str, objective: str, weighting: str
) -> None:
    ours, theirs = twins(model)
    x, y = digits(161)  # a single sample is left over
    settings: dict[str, Any] = {"eps": 0.2, "eps_step": 0.1, "max_iter": 4}
    settings |= {"loss": "kl", "num_random_init": 0} if objective == "trades" else {}
    attack = GeometryAwarePGD(ours, **settings)
    slim_attack = slim[0](theirs, **settings, verbose=False)
    chosen = TRADES(3.0) if objective == "trades" else None

    torch.manual_seed(1)
    trainer = AdversarialTrainerGAIRAT(ours, attack, WEIGHTINGS[weighting], objective=chosen, burn_in=0)
    trainer.fit(x, y, batch_size=32, nb_epochs=1, verbose=False)
    torch.manual_seed(1)
    slim[1](theirs, slim_attack, weighting, burn_in=0, objective=objective, beta=3.0).fit(
        x, y, batch_size=32, nb_epochs=1
    )

    assert_close(ours, theirs)
    torch.manual_seed(2)
    expected = attack.generate_with_kappa(x, y)[1]
    torch.manual_seed(2)
    np.testing.assert_array_equal(slim_attack.generate_with_kappa(x, y)[1], expected)


@pytest.mark.parametrize("objective", ["at", "trades"])
def test_they_agree_where_the_loss_is_summed(slim: tuple[Any, Any], objective: str) -> None:
    loss = torch.nn.CrossEntropyLoss(torch.linspace(0.5, 2.0, 10), reduction="sum")
    ours, theirs = twins("mlp", loss=loss)
    x, y = digits(64)
    settings: dict[str, Any] = {"eps": 0.2, "eps_step": 0.1, "max_iter": 3}
    settings |= {"loss": "kl", "num_random_init": 0} if objective == "trades" else {}
    chosen = TRADES(3.0) if objective == "trades" else None
    torch.manual_seed(1)
    trainer = AdversarialTrainerGAIRAT(ours, GeometryAwarePGD(ours, **settings), objective=chosen, burn_in=0)
    trainer.fit(x, y, batch_size=32, nb_epochs=1, verbose=False)
    torch.manual_seed(1)
    slim_attack = slim[0](theirs, **settings, verbose=False)
    slim[1](theirs, slim_attack, burn_in=0, objective=objective, beta=3.0).fit(x, y, batch_size=32, nb_epochs=1)
    assert_close(ours, theirs)


def test_they_agree_over_a_burn_in_a_schedule_of_lam_and_a_scheduler(slim: tuple[Any, Any]) -> None:
    ours, theirs = twins("mlp", loss=torch.nn.CrossEntropyLoss(torch.linspace(0.5, 2.0, 10), reduction="mean"))
    x, y = digits(96)
    settings: dict[str, Any] = {"eps": 0.2, "eps_step": 0.1, "max_iter": 3}

    def lam(epoch: int) -> float:
        return 1.0 - epoch

    def scheduler(classifier: PyTorchClassifier) -> Any:
        return torch.optim.lr_scheduler.StepLR(classifier.optimizer, 2, 0.1)

    torch.manual_seed(1)
    trainer = AdversarialTrainerGAIRAT(ours, GeometryAwarePGD(ours, **settings), TanhWeighting(lam), burn_in=0.4)
    trainer.fit(x, np.eye(10)[y], batch_size=32, nb_epochs=3, scheduler=scheduler(ours), verbose=False)
    torch.manual_seed(1)
    slim_trainer = slim[1](theirs, slim[0](theirs, **settings, verbose=False), lam=lam, burn_in=0.4)
    slim_trainer.fit(x, np.eye(10)[y], batch_size=32, nb_epochs=3, scheduler=scheduler(theirs))

    assert_close(ours, theirs)


@pytest.mark.skipif(art.__version__ != "1.20.1", reason="the bugs are those of ART 1.20.1")
@pytest.mark.parametrize("path", ISSUES, ids=lambda path: path.stem)
def test_a_bug_of_art_still_shows(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("art").level
    status = runpy.run_path(str(path))["main"]()
    logging.getLogger("art").setLevel(level)

    assert (status, capsys.readouterr().out.splitlines()[-1]) == (1, "The bug is there.")


def test_the_figures_of_the_pull_request_are_those_of_the_results() -> None:
    measured = [ROOT / "examples" / "paper" / "RESULTS.md", ROOT / "README.md"]
    lines = {line for path in measured for line in path.read_text(encoding="utf-8").splitlines()}
    text = (ROOT / "upstream" / "PULL_REQUEST.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]

    assert len(rows) == 16
    assert set(rows) <= lines


def test_there_is_a_script_for_each_bug() -> None:
    assert len(ISSUES) == 4


def test_an_interrupt_takes_everything_back(checkout: Path, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(checkout)

    def interrupted(self: Note, written: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Note, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(checkout, record=record)
    assert contents(checkout) == before


def test_a_link_is_refused(checkout: Path, record: Path, tmp_path: Path) -> None:
    (checkout / "art/attacks/evasion/geometry_aware_pgd.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(RefusedError, match="is a link, or lies behind one"):
        write(checkout, record=record)
