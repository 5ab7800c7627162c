"""All targets."""

from __future__ import annotations

from tests.fuzz import attacks, parts, reports, training

TARGETS = [*attacks.ATTACKS, *training.TRAININGS, *parts.TARGETS, *reports.TARGETS]
