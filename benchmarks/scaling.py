"""Several processes against one: measured on the CPU, and reckoned for many GPUs.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--processes 2] [--rounds 5] [--models small_cnn] [--batch 64]
                                                   [--out benchmarks/results]

A training of some steps runs in one process with one thread, and in several with one thread each, on the same global
batches, by turns; the ratio of the medians of a step's time is the speedup. Beside it stands what the cores themselves
allow: as many processes at once that take parts of the batch and exchange nothing.

The reckoning for GPUs is `predict`: the time of a step from the operations of the model, counted here, and a rate that
is assumed; the time of the exchange from the gradient's bytes and the network's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from vit import VisionTransformer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import models

K = 10
SUSTAINED = 150e12
"""Operations a second that a GPU is assumed to sustain in bf16: a seventh to a third of what an A100 or H100 can."""

LATENCY = 5e-6
"""Seconds of one message between two GPUs, assumed; a ring has 2 (N - 1) of them one after the other."""

NETWORKS = {"25 Gbit/s": 25e9 / 8, "400 Gbit/s": 400e9 / 8}
GPUS = (8, 64, 512)

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "ResNet-18, 32 x 32": (models.ResNet18, (3, 32, 32), 128),
    "WRN-34-10, 32 x 32": (lambda: models.wide_resnet(5, 10), (3, 32, 32), 128),
    "ViT-B/16, 224 x 224": (lambda: VisionTransformer(768, 12, 12, 1000, size=224, patch=16), (3, 224, 224), 32),
}
"""What is reckoned: network, input, and samples a GPU."""


def exchange_seconds(gradient_bytes: float, gpus: int, bytes_a_second: float) -> float:
    """Return the time of a ring's all-reduce: 2 (N - 1) / N of the gradient over each link, and its messages."""
    return 2 * (gpus - 1) / gpus * gradient_bytes / bytes_a_second + 2 * (gpus - 1) * LATENCY


def efficiency(step_seconds: float, exchange: float) -> float:
    """Return T / (T + C): nothing of the exchange is hidden behind the backward pass, which is the worst case."""
    return step_seconds / (step_seconds + exchange)


def predict(name: str) -> list[dict[str, Any]]:
    """Return the reckoning for a network: an adversarial step of K + 1 passes, and a step without an attack."""
    make, shape, batch = NETS[name]
    with torch.device("meta"):
        net, x = make(), torch.empty(1, *shape)
    with FlopCounterMode(display=False) as counter:
        net(x)
    forward = counter.get_total_flops()
    size = sum(p.numel() for p in net.parameters())
    passes = {f"K = {K}": K + 1, "no attack": 1}
    seconds = {kind: 3 * forward * batch * n / SUSTAINED for kind, n in passes.items()}
    return [
        {
            "network": name,
            "samples a GPU": batch,
            "parameters": size,
            "operations forward": forward,
            "link": link,
            "GPUs": gpus,
            **{kind: efficiency(t, exchange_seconds(4 * size, gpus, speed)) for kind, t in seconds.items()},
            "step seconds": seconds[f"K = {K}"],
        }
        for link, speed in NETWORKS.items()
        for gpus in GPUS
    ]


CHILD = """
import json, sys, time
import torch
torch.set_num_threads(1)
sys.path[:0] = {paths!r}
from scaling import train_steps
print("seconds", train_steps({model!r}, {batch}, {steps}), flush=True)
"""


def train_steps(model: str, batch: int, steps: int) -> float:
    """Return the mean time of a step of GAIRAT's, the first two left out."""
    from art.estimators.classification import PyTorchClassifier

    from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD
    from art_gair.plugins import Plugin

    class Clock(Plugin):
        def __init__(self) -> None:
            self.times: list[float] = []

        def after_step(self) -> None:
            self.times.append(time.perf_counter())

    torch.manual_seed(0)
    net = {"small_cnn": models.SmallCNN, "resnet18": models.ResNet18}[model]()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    classifier = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (3, 32, 32), 10, optimizer, clip_values=(0.0, 1.0), device_type="cpu"
    )
    clock = Clock()
    attack = GeometryAwarePGD(classifier, eps=8 / 255, eps_step=2 / 255, max_iter=K)
    trainer = AdversarialTrainerGAIRAT(classifier, attack, burn_in=0, plugins=[clock])
    n = batch * (steps + 2)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(n, 3, 32, 32, generator=generator), torch.randint(10, (n,), generator=generator)
    trainer.fit(x.numpy(), y.numpy(), batch_size=batch, nb_epochs=1, seed=0, verbose=False)
    return (clock.times[-1] - clock.times[1]) / steps


def run(processes: int, model: str, batch: int, steps: int, *, together: bool, port: int = 0) -> float:
    """Return the longest of the processes' step times.

    :param together: whether they share each batch; else each takes batches of its own, of that size.
    """
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "examples"), str(here.parent)]
    code = CHILD.format(paths=paths, model=model, batch=batch, steps=steps)
    running = []
    for rank in range(processes):
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        if together and processes > 1:
            env |= {"RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
            env |= {"MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-c", code]
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
    outputs = [process.communicate()[0] for process in running]
    return max(float(output.split("seconds")[-1]) for output in outputs)


def measure(processes: int, model: str, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Return the times of a step by turns: in one process, shared by several, and of several that share nothing."""
    times: dict[str, list[float]] = {"one": [], "several": [], "apart": []}
    for i in range(rounds):
        times["one"].append(run(1, model, batch, steps, together=False))
        times["several"].append(run(processes, model, batch, steps, together=True, port=29400 + i))
        times["apart"].append(run(processes, model, batch // processes, steps, together=False))
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    return {
        **{"model": model, "batch": batch, "processes": processes, "steps": steps, "rounds": rounds},
        "seconds a step": times,
        "speedup": medians["one"] / medians["several"],
        "speedup without exchange": medians["one"] / medians["apart"],
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
    }


def page(measured: list[dict[str, Any]], predicted: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = ["# Scaling", "", "## Measured", ""]
    lines += ["    OMP_NUM_THREADS=1 python benchmarks/scaling.py", ""]
    lines += [
        "By turns, medians; each process has one thread. The last speedup is that of as many processes that take",
        "",
    ]
    lines[-2] += " parts of the batch and exchange nothing: what the cores themselves allow."
    lines += ["| model | global batch | processes | seconds a step, one process | together | speedup |"]
    lines[-1] += " speedup without exchange | machine |"
    lines.append("|---|--:|--:|--:|--:|--:|--:|---|")
    for m in measured:
        one, several = (statistics.median(m["seconds a step"][kind]) for kind in ("one", "several"))
        cells = [m["model"], m["batch"], m["processes"], f"{one:.3f}", f"{several:.3f}", f"{m['speedup']:.2f}"]
        cells += [f"{m['speedup without exchange']:.2f}", f"{m['machine']}, torch {m['torch']}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "## Reckoned for GPUs", "", REASONS, ""]
    lines += [f"| network | samples a GPU | link | GPUs | K = {K}, % | no attack, % |", "|---|--:|---|--:|--:|--:|"]
    for p in predicted:
        cells = [p["network"], p["samples a GPU"], p["link"], p["GPUs"]]
        cells += [f"{100 * p[f'K = {K}']:.0f}", f"{100 * p['no attack']:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


REASONS = f"""Not measured: no GPU was at hand. A step takes T = (K + 1) 3 F b / R: F operations of a sample's forward
pass, counted, b samples a GPU, a backward pass as two forward ones, and a rate that is assumed,
R = {SUSTAINED / 1e12:.0f} TFLOP/s. An all-reduce of the gradient, G = 4 bytes a parameter, takes
C = 2 (N - 1) / N G / B + 2 (N - 1) L in a ring of N GPUs, with B bytes a second of the link and
L = {LATENCY * 1e6:.0f} us a message, assumed. The efficiency is T / (T + C): nothing of the exchange is hidden behind
the backward pass, so this is the worst case. A slower GPU has a higher one. The K steps of the attack exchange nothing:
an adversarial training waits for the network a (K + 1)-th as much as a plain one."""


def main(argv: list[str] | None = None) -> None:
    """Measure, reckon, and write both down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--models", nargs="+", default=["small_cnn"], choices=["small_cnn", "resnet18"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args(argv)
    measured = [measure(args.processes, model, args.batch, args.steps, args.rounds) for model in args.models]
    predicted = [row for name in NETS for row in predict(name)]
    args.out.mkdir(parents=True, exist_ok=True)
    content = {"measured": measured, "predicted": predicted}
    (args.out / "scaling.json").write_text(json.dumps(content, indent=1) + "\n")
    text = page(measured, predicted)
    (args.out / "scaling.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
