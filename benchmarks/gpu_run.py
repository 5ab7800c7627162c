"""Cells one after the other within a budget of time; what each gave is on the disk before the next begins."""

from __future__ import annotations

import json
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_table import headline, page
from measure import gpu_environment

Record = dict[str, Any]
"""What became of a cell: part, name, keys, status, seconds, and its result or error."""


@dataclass(frozen=True)
class Cell:
    """One measurement: what it is about, and the call that makes it."""

    part: str
    name: str
    keys: dict[str, Any]
    measure: Callable[[], dict[str, Any]]
    needs: float = 0.0
    """Seconds that must be left for it to begin."""


def run_cell(cell: Cell) -> Record:
    """Run one cell; an exception is its result."""
    record: Record = {"part": cell.part, "name": cell.name, "keys": cell.keys}
    began = time.perf_counter()
    try:
        record |= {"status": "measured", "result": cell.measure()}
    except Exception as error:
        line = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        record |= {"status": "failed", "error": line, "traceback": traceback.format_exc()}
    return record | {"seconds": time.perf_counter() - began}


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, meets the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def run_cells(cells: list[Cell], args: Namespace) -> int:
    """Run the cells that the time allows and write after each; return 1 if one failed, else 0."""
    began = time.perf_counter()
    report: dict[str, Any] = {"environment": gpu_environment(args.device), "command": sys.argv[1:], "cells": []}
    report["settings"] = {name: getattr(args, name) for name in ("device", "minutes", "repeats", "small", "parts")}
    records: list[Record] = report["cells"]
    for cell in cells:
        used = time.perf_counter() - began
        taken = [r["seconds"] for r in records if r["name"] == cell.name]
        if used + max([cell.needs, *taken]) > 60 * args.minutes:
            record = {"part": cell.part, "name": cell.name, "keys": cell.keys, "status": "skipped", "seconds": 0.0}
            record["error"] = f"too little time left of {args.minutes:g} minutes"
        else:
            record = run_cell(cell)
        records.append(record)
        report["seconds"] = time.perf_counter() - began
        write_whole(args.out / "gpu.json", json.dumps(report, indent=1) + "\n")
        write_whole(args.out / "gpu.md", page(report))
        print(f"[{report['seconds']:4.0f} s] {cell.part}, {cell.name}: {headline(record)}", flush=True)
    return int(any(r["status"] == "failed" or r.get("result", {}).get("failed") for r in records))
