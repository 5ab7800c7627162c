"""What a report derives, writes down and reads back."""

from __future__ import annotations

import json
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from art_gair.evaluation import Flag, RobustnessReport, compare, evaluate_robustness, judge
from art_gair.report.statistics import interval, paired_p
from tests.evaluation import planted
from tests.evaluation.planted import EPS, adversarially_trained, around, held_out, plain


@pytest.fixture(scope="module")
def report() -> RobustnessReport:
    return evaluate_robustness(adversarially_trained(), *held_out(80), eps=EPS, verbose=False)


@pytest.fixture(scope="module")
def flagged() -> RobustnessReport:
    return evaluate_robustness(around(planted.Sharp, plain()), *held_out(80), eps=EPS, verbose=False)


def test_shares_add_up(report: RobustnessReport) -> None:
    for shares, n in ((report.by_class(), report.n), (report.by_kappa(), int(report.clean.correct.sum()))):
        assert sum(s.n for s in shares) == n
        assert sum(s.clean for s in shares) == report.clean.correct.sum()
        assert sum(s.robust for s in shares) == report.robust.sum()
    worst = report.worst_class
    assert worst.robust / worst.n == min(s.robust / s.n for s in report.by_class())


def test_confusion_holds_the_robust_samples_on_its_diagonal(report: RobustnessReport) -> None:
    confusion = report.confusion()
    assert confusion.sum() == report.n
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(report.labels, minlength=10))
    assert np.trace(confusion) == report.robust.sum()


def test_margins_fall_under_attack_and_their_sign_is_the_verdict(report: RobustnessReport) -> None:
    assert (report.adversarial_margins <= report.clean.margins).all()
    assert ((report.adversarial_margins > 0) == report.robust).all()


def test_the_table_says_it_all(report: RobustnessReport, flagged: RobustnessReport) -> None:
    low, high = interval(int(report.robust.sum()), report.n)
    line = next(line for line in report.table().splitlines() if line.startswith("worst case"))
    accuracy = 100 * int(report.robust.sum()) / report.n
    assert re.split(r"\s{2,}", line)[1:3] == [f"{accuracy:.1f}", f"{100 * low:.1f} - {100 * high:.1f}"]
    gap = report.detectable_gap
    limit = f"On 80 samples the tests can detect gaps of at least {gap} samples, {100 * gap / 80:.1f} points."
    assert f"No sign of gradient masking was found. {limit}" in str(report)
    assert "logit scaling" in flagged.table()
    assert f"{len(flagged.flags)} signs" in flagged.table()


def test_the_detectable_gap_is_the_least_that_tells(report: RobustnessReport) -> None:
    gap, level = report.detectable_gap, report.significance
    assert paired_p(gap, 0) < level <= paired_p(gap - 1, 0)


def test_too_few_samples_to_tell_are_said_to_be(report: RobustnessReport) -> None:
    few = report.subset(np.arange(report.detectable_gap - 1))
    assert f"{few.n} samples are too few for the tests of gradient masking" in few.table()
    assert "No sign of gradient masking" not in few.table()


def test_json_comes_back_as_it_was(flagged: RobustnessReport, tmp_path: Path) -> None:
    flagged.to_json(tmp_path / "a.json")
    again = RobustnessReport.from_json(tmp_path / "a.json")
    again.to_json(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert again.flags == flagged.flags
    assert again.table() == flagged.table()
    assert json.loads((tmp_path / "a.json").read_text())["worst_case"] == flagged.worst_case
    np.testing.assert_array_equal(again.adversarial_margins, flagged.adversarial_margins)
    assert again.examples is not None
    assert flagged.examples is not None
    np.testing.assert_array_equal(again.examples.adversarial, flagged.examples.adversarial)


def test_a_saved_report_is_judged_again_as_before(flagged: RobustnessReport, tmp_path: Path) -> None:
    flagged.to_json(tmp_path / "a.json")
    flags, notes = judge(RobustnessReport.from_json(tmp_path / "a.json"))
    assert flags == flagged.flags != []
    assert notes == flagged.notes


def test_some_rows_are_judged_by_themselves(flagged: RobustnessReport) -> None:
    everything = flagged.subset(np.arange(flagged.n))
    assert judge(everything) == (flagged.flags, flagged.notes)
    few = flagged.subset(np.array([0, 0, 3, 7]))
    assert few.n == 4
    assert few.attack("scaled").tries["x 10"].tolist() == flagged.attack("scaled").tries["x 10"][[0, 0, 3, 7]].tolist()
    assert "logit scaling" not in [flag.name for flag in judge(few)[0]]


def test_class_names_stand_in_the_place_of_numbers(report: RobustnessReport, tmp_path: Path) -> None:
    named = replace(report, class_names=[f"digit {i}" for i in range(10)])
    assert f"worst class digit {report.worst_class.value}" in named.table()
    named.save(tmp_path)
    assert "| digit 3 |" in (tmp_path / "report.md").read_text()
    assert "<td>digit 3</td>" in (tmp_path / "report.html").read_text()


def test_notes_are_shown_and_are_no_flags(report: RobustnessReport, tmp_path: Path) -> None:
    noted = replace(report, notes=[Flag("margin loss", "the margin loss is the stronger attack here", "a rule", 0.001)])
    assert "  note: the margin loss is the stronger attack here" in noted.table()
    noted.save(tmp_path)
    for file in ("report.md", "report.html"):
        text = (tmp_path / file).read_text()
        assert "Notes" in text
        assert "stronger attack here" in text
        assert "No sign of gradient masking" in text


@pytest.mark.parametrize("content", ["", '{"schema": 2', '{"schema": 2}', '{"schema": 2, "labels": "x"}'])
def test_what_is_torn_or_no_report_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(content)
    with pytest.raises(ValueError, match=r"odd.json' is no"):
        RobustnessReport.from_json(tmp_path / "odd.json")


@pytest.mark.parametrize("content", ['{"schema": 0}', "[]", "{}"])
def test_another_schema_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(content)
    with pytest.raises(ValueError, match="is of schema"):
        RobustnessReport.from_json(tmp_path / "old.json")


def test_without_matplotlib_it_is_saved_without_figures(
    flagged: RobustnessReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.warns(UserWarning, match="saved without its figures. ImportError: .*pip install matplotlib"):
        flagged.save(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md", "report.html"}
    assert RobustnessReport.from_json(tmp_path / "report.json").worst_case == flagged.worst_case
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert f"{100 * flagged.worst_case:.1f}" in text
        assert ".png" not in text
        assert "<img" not in text


def test_the_warning_comes_after_the_files(
    flagged: RobustnessReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="saved without its figures"):
            flagged.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md", "report.html"}


def test_figures_of_an_earlier_report_do_not_stay(
    report: RobustnessReport, flagged: RobustnessReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    report.save(tmp_path)
    assert len(list(tmp_path.glob("*.png"))) > 1

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.warns(UserWarning, match="saved without its figures"):
        flagged.save(tmp_path)

    assert [path.name for path in tmp_path.glob("*.png")] == ["mine.png"]


def test_it_is_saved_as_a_page_that_needs_nothing_else(flagged: RobustnessReport, tmp_path: Path) -> None:
    flagged.save(tmp_path / "deep" / "report")
    page = (tmp_path / "deep" / "report" / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count("<img") == 7
    assert f"{100 * flagged.worst_case:.1f} %" in page
    for flag in flagged.flags:
        assert flag.name in page
    text = (tmp_path / "deep" / "report" / "report.md").read_text()
    for figure in re.findall(r"\]\((\w+\.png)\)", text):
        assert (tmp_path / "deep" / "report" / figure).exists()
    assert RobustnessReport.from_json(tmp_path / "deep" / "report" / "report.json").n == flagged.n


def test_a_warning_is_escaped_on_the_page(report: RobustnessReport, tmp_path: Path) -> None:
    replace(report, warnings=["<script>alert(1)</script>"]).save(tmp_path)
    assert "<script>" not in (tmp_path / "report.html").read_text()


def test_an_unknown_attack_is_named(report: RobustnessReport) -> None:
    for ask in (report.attack, report.accuracy, report.standing_after):
        with pytest.raises(KeyError, match="no attack 'square'"):
            ask("square")


def test_methods_side_by_side(report: RobustnessReport, flagged: RobustnessReport) -> None:
    lines = compare([report, flagged], ["AT", "sharp"]).splitlines()
    assert lines[0] == "| accuracy, % | AT | sharp |"
    assert f"**{100 * report.worst_case:.1f}**" in lines[-2]
    assert lines[-1].split("|")[2].strip() == "none"
    assert "logit scaling" in lines[-1]


def test_what_cannot_be_compared_is_refused(report: RobustnessReport) -> None:
    other = replace(report, settings={**report.settings, "eps": 0.3})
    with pytest.raises(ValueError, match="eps"):
        compare([report, other])
    with pytest.raises(ValueError, match="different samples"):
        compare([report, replace(report, data_hash="another")])
    with pytest.raises(ValueError, match="reports is empty"):
        compare([])
    with pytest.raises(ValueError, match="names has 1 entries for 2 reports"):
        compare([report, report], ["one"])
