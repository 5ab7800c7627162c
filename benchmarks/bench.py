"""Side by side: ART's trainers and ours, on the same model, data, K and batch, in one process.

    python benchmarks/bench.py [--models mlp small_cnn] [--batches 32 128] [--precisions fp32 bf16] [--repeats 5]
                               [--steps 4] [--device auto] [--out benchmarks/results]

Every round calls each contender once, each second round in the opposite order; a cell is the median over the rounds
after one round to warm up. A call is one whole `fit` of a few batches, its own start included. Peak memory is measured
in a process of its own for each contender. What was measured earlier stays in results.json, so that the table may be
filled in several runs; contenders that are to be compared belong in one.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from contenders import CONTENDERS, MODELS, Work
from measure import added_peak, environment, peak_rates, seconds
from write import write

from art_gair.engine.precision import computes_bf16

MEASURED_FOR_MEMORY = ("ART AT", "GAIRAT")


def place(cell: dict[str, Any]) -> tuple[int, str, int]:
    """Where a cell stands in the table."""
    work = cell["work"]
    return list(MODELS).index(work["model"]), work["precision"], work["batch"]


def timed(work: Work, names: list[str], repeats: int) -> dict[str, list[float]]:
    """Seconds a step of each contender, one figure a round."""
    calls = {name: CONTENDERS[name](work) for name in names}
    rounds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(repeats + 1):
        for name in names if i % 2 else names[::-1]:
            taken = seconds(calls[name], work.device) / work.steps
            if i > 0:
                rounds[name].append(taken)
    return rounds


def memory(work: Work, names: list[str]) -> dict[str, float]:
    """Peak memory, MiB, that each contender adds to that of a process which holds the model and the data."""
    peaks = {}
    for name in names:
        command = [sys.executable, __file__, "--print-memory", name, json.dumps(asdict(work))]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[name] = float(printed.strip().splitlines()[-1])
    return peaks


def print_memory(name: str, work: Work) -> None:
    """Run one contender twice and print the peak it adds, MiB."""
    call = CONTENDERS[name](work)

    def twice() -> None:
        call()
        call()

    print(added_peak(twice, work.device))


def main(argv: list[str] | None = None) -> None:
    """Measure the cells that are asked for, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["mlp", "small_cnn", "resnet18", "wrn16_4"])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, help="batches in one timed call; else one or a few, by the model")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--compile", action="store_true", help="our attacks through torch.compile")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--print-memory", nargs=2, metavar=("CONTENDER", "WORK"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    if args.print_memory:
        print_memory(args.print_memory[0], Work(**json.loads(args.print_memory[1])))
        return
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    args.out.mkdir(parents=True, exist_ok=True)
    store = args.out / "results.json"
    cells: list[dict[str, Any]] = json.loads(store.read_text()) if store.exists() else []
    for precision in args.precisions:
        if precision == "bf16" and not computes_bf16(torch.device(device)):
            print("bf16: not measured, this machine has no instructions for it")
            continue
        settings = {"compile": args.compile, "fit_of": args.steps}
        for work in (Work(m, b, precision, device, **settings) for m in args.models for b in args.batches):
            cell: dict[str, Any] = {"work": asdict(work), "steps": work.steps, "flops": work.step_flops()}
            cell |= {"environment": environment(device), "peak": peak_rates(precision, device)}
            cell |= {"seconds": timed(work, args.contenders, args.repeats)}
            cell |= {"memory": memory(work, [name for name in MEASURED_FOR_MEMORY if name in args.contenders])}
            earlier = next((c for c in cells if Work(**c["work"]) == work), None)
            if earlier is not None and earlier["environment"] == cell["environment"]:
                cell |= {key: earlier[key] | cell[key] for key in ("seconds", "memory")}
            cells = sorted([*(c for c in cells if c is not earlier), cell], key=place)
            store.write_text(json.dumps(cells, indent=1))
            print(work, {name: round(statistics.median(s), 4) for name, s in cell["seconds"].items()}, flush=True)
    write(cells, args.out)


if __name__ == "__main__":
    main()
