"""The scripts that repeat the paper and the search, on few digits."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_gair import AT
from art_gair.storage.lock import FolderLock

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "paper"))
import ablations
import candidates
import capacity
import kappa
import methods
import overfitting
import regimes
import search
import trainings
import write_results


@pytest.fixture(autouse=True)
def two_epochs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    few = [regimes.Part(part.x[:96], part.y[:96]) for part in regimes.digits_split()]
    short = replace(regimes.REGIMES["digits"], passes=28, split=lambda: regimes.Split(*few))
    monkeypatch.setitem(regimes.REGIMES, "digits", short)
    trainings.split_of.cache_clear()
    yield
    trainings.split_of.cache_clear()


def folders(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]


def read(file: Path) -> Any:
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", candidates.CANDIDATES)
def test_every_candidate_is_made_and_costs_what_it_says(name: str) -> None:
    candidate, regime = candidates.CANDIDATES[name], regimes.REGIMES["digits"]
    trainer = candidate.trainer(regime.classifier(0, candidate.smoothing), regime)
    trainer.fit(*regime.split().train, batch_size=96, nb_epochs=1, verbose=False)
    attack = trainer.history[0]["attack_passes"]
    update = (1 if isinstance(candidate.objective, AT) else 2) * (2 if candidate.awp else 1)
    clean = candidates.FORWARD if trainer.attack.loss == "kl" else 0
    if candidate.budget == "bounds" or candidate.taus is not None:
        assert 1 <= attack <= candidates.K
    else:
        assert candidate.cost == pytest.approx(attack + update + clean, abs=0.06)


def test_a_search_is_the_same_again_and_runs_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--regimes", "digits", "--candidates", "at", "budget+ema+idbh"]
    for folder in ("a", "b"):
        search.main([*arguments, *folders(tmp_path / folder)])
    names = [f"search/digits/{name}-0.json" for name in ("at", "budget+ema+idbh")]
    first, second = ([read(tmp_path / f / "results" / name) for name in names] for f in ("a", "b"))
    assert first == second
    assert [one["epochs"] for one in first] == [2, 4]
    assert "| at | 2 | 22.0 | 2 |" in capsys.readouterr().out
    before = (tmp_path / "a" / "results" / "times.tsv").read_text()
    search.main([*arguments, *folders(tmp_path / "a")])
    assert (tmp_path / "a" / "results" / "times.tsv").read_text() == before


def test_shares_are_disjoint_and_make_the_whole() -> None:
    work = list(range(7))
    parts = [trainings.share_of(work, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(n for part in parts for n in part) == work
    with pytest.raises(SystemExit, match="--share is 3/2"):
        trainings.share_of(work, "3/2")


def test_the_test_images_are_reported_on_by_the_model_of_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def report(classifier: Any, part: Any, regime: Any, preset: str) -> Any:
        seen.append(classifier.predict(trainings.split_of("digits").test.x))
        return {"accuracy": {"preset": preset}}

    monkeypatch.setattr(trainings, "report", report)
    job = trainings.Job("digits", "at")
    trainings.run_once(job, tmp_path / "results", tmp_path / "runs")
    monkeypatch.setattr(trainings, "train", None)
    tested = replace(job, test=True)
    assert trainings.run_once(tested, tmp_path / "results", tmp_path / "runs") == {"accuracy": {"preset": "full"}}
    np.testing.assert_array_equal(*seen)
    first, second = (read(one.file(tmp_path / "results")) for one in (job, tested))
    assert {key: first[key] for key in first if key != "validation"} == {k: second[k] for k in second if k != "test"}


def test_a_model_of_other_settings_is_trained_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "report", lambda *_: {"accuracy": {"clean": 0.0}})
    job, runs = trainings.Job("digits", "at", test=True), tmp_path / "runs"
    trainings.run_once(job, tmp_path / "before", runs)
    monkeypatch.setitem(candidates.CANDIDATES, "at", candidates.Candidate(radius=0.5))
    trainings.run_once(job, tmp_path / "after", runs)
    before, after = (read(job.file(tmp_path / folder)) for folder in ("before", "after"))
    assert before["history"] != after["history"]
    assert "radius=0.5" in after["settings"]


def test_results_of_other_settings_end_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--regimes", "digits", "--candidates", "at", *folders(tmp_path)]
    search.main(arguments)
    monkeypatch.setitem(candidates.CANDIDATES, "at", candidates.Candidate(radius=0.5))
    with pytest.raises(SystemExit, match=r"at-0.json is of another training. Its settings: Candidate\(\); now: "):
        search.main(arguments)
    monkeypatch.setitem(candidates.CANDIDATES, "at", candidates.Candidate())
    monkeypatch.setitem(regimes.REGIMES, "digits", replace(regimes.REGIMES["digits"], eps=0.1))
    with pytest.raises(SystemExit, match=r"Its regime_settings: data=.*, eps=0\.2"):
        search.table(tmp_path / "results", "digits")


@pytest.mark.parametrize("name", ["network", "data", "precision"])
def test_a_regime_says_which_network_and_data_it_has(name: str) -> None:
    regime = regimes.REGIMES["digits"]
    other: Any = {"network": lambda: regimes.digits_cnn(8), "data": "others", "precision": "bf16"}
    assert replace(regime, **{name: other[name]}).settings() != regime.settings()


def test_a_regime_says_in_which_precision_its_trainings_are_computed() -> None:
    regime = replace(regimes.REGIMES["digits"], precision="bf16")
    assert candidates.CANDIDATES["at"].trainer(regime.classifier(0), regime).precision == "bf16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cifar10_paper", "cifar10_jpeg"])
def test_a_run_for_a_gpu_looks_for_one_before_it_reads_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regimes, "DATA", Path("nowhere"))
    with pytest.raises(SystemExit, match="needs an NVIDIA GPU"):
        trainings.split_of(name)


def test_a_result_that_does_not_say_what_it_depends_on_is_refused(tmp_path: Path) -> None:
    arguments = ["--regimes", "digits", "--candidates", "at", *folders(tmp_path)]
    search.main(arguments)
    file = trainings.Job("digits", "at").file(tmp_path / "results")
    file.write_text(json.dumps({key: value for key, value in read(file).items() if key != "protocol"}))
    with pytest.raises(SystemExit, match="Its protocol: None; now: 12 validations"):
        search.main(arguments)


def test_a_training_of_another_process_is_left_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--regimes", "digits", "--candidates", "at", "arow", *folders(tmp_path)]
    folder = trainings.checkpoints_of(trainings.Job("digits", "at"), tmp_path / "runs")
    folder.mkdir(parents=True)
    lock = FolderLock(folder)
    lock.acquire()
    search.main(arguments)
    lock.release()
    assert "digits at 0: another process trains it now" in capsys.readouterr().out
    jobs = [trainings.Job("digits", name) for name in ("at", "arow")]
    assert [job.file(tmp_path / "results").exists() for job in jobs] == [False, True]


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_a_training_of_the_capacity_experiment_is_resumed_after_a_stop(
    eps: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    form, folder = replace(capacity.FORMS["digits"], images=96, epochs=2), tmp_path / "stopped"
    expected = capacity.train(form, ("width 2", eps), tmp_path / "expected")
    with monkeypatch.context() as patch:
        patch.setattr(capacity, "measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            capacity.train(form, ("width 2", eps), folder)
    assert capacity.train(form, ("width 2", eps), folder) == expected
    assert "has 2 trained epochs, and no more are to be trained" in caplog.text


def test_a_training_of_the_capacity_experiment_in_another_process_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    form = replace(capacity.FORMS["digits"], images=96, epochs=1)
    monkeypatch.setitem(capacity.FORMS, "digits", form)
    folder = form.file(form.cells()[0], tmp_path / "runs").with_suffix("")
    folder.mkdir(parents=True)
    lock = FolderLock(folder)
    lock.acquire()
    capacity.main(["--form", "digits", *folders(tmp_path)])
    lock.release()
    assert "width 2, eps 0: another process trains it now" in capsys.readouterr().out
    there = [form.file(cell, tmp_path / "results").exists() for cell in form.cells()]
    assert there == [False, *[True] * (len(there) - 1)]


def test_a_result_whose_time_is_missing_is_read(tmp_path: Path) -> None:
    search.main(["--regimes", "digits", "--candidates", "at", *folders(tmp_path)])
    (tmp_path / "results" / "times.tsv").unlink()
    assert "| raw" in search.table(tmp_path / "results", "digits")


def test_digits_are_not_run_beside_others() -> None:
    with pytest.raises(SystemExit, match="has digits, a look at the scripts, beside others"):
        search.main(["--regimes", "digits", "fashion"])


def test_a_result_of_the_capacity_experiment_is_not_taken_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = replace(capacity.FORMS["digits"], images=96, epochs=1)
    monkeypatch.setitem(capacity.FORMS, "digits", form)
    capacity.main(["--form", "digits", *folders(tmp_path)])
    monkeypatch.setitem(capacity.FORMS, "digits", replace(form, epochs=2))
    with pytest.raises(SystemExit, match="Its epochs: 1; now: 2"):
        capacity.main(["--form", "digits", *folders(tmp_path)])


@pytest.mark.parametrize("at", ["report", "rmtree"])
def test_a_training_that_was_stopped_after_its_last_epoch_is_not_lost(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, runs = trainings.Job("digits", "at", last=True), tmp_path / "runs"
    trainings.run_once(job, tmp_path / "expected", tmp_path / "other runs")
    owner: Any = trainings if at == "report" else shutil
    with monkeypatch.context() as patch:
        patch.setattr(owner, at, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trainings.run_once(job, tmp_path / "results", runs)
    if at == "report":
        monkeypatch.setattr(trainings, "train", None)
    else:
        job.model(runs).unlink()  # as if it had been stopped before the model was written
    trainings.run_once(job, tmp_path / "results", runs)
    assert read(job.file(tmp_path / "results")) == read(job.file(tmp_path / "expected"))


@pytest.mark.parametrize(
    ("script", "arguments", "figure", "printed"),
    [
        (capacity, [], "capacity-digits.png", "| width 8 |"),
        (kappa, ["--images", "40"], "kappa-digits.png", "| as trained, K = 10 |"),
        (overfitting, ["--seeds", "0", "1"], "overfitting-digits.png", "| GAIRAT, lam -1 | 2 |"),
        (methods, ["--seeds", "0", "--methods", "at", "gair_fat"], "methods-digits.png", "| gair_fat | 1 |"),
        pytest.param(ablations, [], "ablations-digits.png", "kappa by", marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_experiment_prints_a_table_and_draws_a_figure(
    script: Any, arguments: list[str], figure: str, printed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyautoattack")
    script.main(["--form", "digits", *arguments, *folders(tmp_path)])
    assert printed in capsys.readouterr().out
    assert (tmp_path / "results" / figure).stat().st_size > 10_000
    if script is methods:  # a table holds what other calls have found
        script.main(["--form", "digits", "--seeds", "1", "--methods", "at", *folders(tmp_path)])
        assert "| at | 2 |" in capsys.readouterr().out


def test_the_tables_of_the_results_come_out_of_the_files() -> None:
    folder = Path(__file__).parents[1] / "examples" / "paper"
    text = (folder / "RESULTS.md").read_text()
    assert write_results.filled(text, folder / "results") == text
    assert len(write_results.BLOCK.findall(text)) == text.count("<!-- end -->") > 10
