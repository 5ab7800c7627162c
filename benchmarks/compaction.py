"""What FAT's attack gains as its stopped samples leave the computation: plain and adversarially trained digits models.

    python benchmarks/compaction.py [--tau 0 1 3] [--repeats 9] [--out benchmarks/results]

One process, alternating: FriendlyPGD as it is, and with every sample carried along to the last step. Both give the same
examples; the gain lies in how soon a model is fooled.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from digits import EPS, digits, small_cnn

from art_gair import AdversarialTrainerGAIRAT, FriendlyPGD, GeometryAwarePGD, UniformWeighting


class Carrying(FriendlyPGD):
    """FriendlyPGD whose stopped samples stay in the batch."""

    compact_on = ()


def trained(method: str, x: Any, y: Any, epochs: int = 5) -> Any:
    """Return a classifier trained on clean digits, or adversarially."""
    classifier = small_cnn(0)
    if method == "plain":
        classifier.fit(x, y, nb_epochs=epochs)
    else:
        attack = GeometryAwarePGD(classifier, eps=EPS, eps_step=EPS / 4)
        AdversarialTrainerGAIRAT(classifier, attack, UniformWeighting()).fit(x, y, nb_epochs=epochs)
    return classifier


def seconds(attack: FriendlyPGD, x: Any, y: Any) -> tuple[float, Any]:
    """Time of one generate from a fixed seed, and its examples."""
    torch.manual_seed(0)
    began = time.perf_counter()
    x_adv = attack.generate(x, y)
    return time.perf_counter() - began, x_adv


def main(argv: list[str] | None = None) -> None:
    """Time both in turn, and write compaction.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tau", nargs="+", type=int, default=[0, 1, 3])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    x, _, y, _ = digits(0)
    lines = ["| model | tau | all carried along, s | as it is, s | times faster |", "|---|--:|--:|--:|--:|"]
    for method in ("plain", "AT"):
        classifier = trained(method, x, y)
        for tau in args.tau:
            attacks = [kind(classifier, eps=EPS, eps_step=EPS / 4, tau=tau) for kind in (Carrying, FriendlyPGD)]
            times: list[list[float]] = [[], []]
            for i in range(args.repeats + 1):
                order = (0, 1) if i % 2 else (1, 0)
                runs = {which: seconds(attacks[which], x, y) for which in order}
                np.testing.assert_allclose(runs[0][1], runs[1][1], atol=1e-6)
                for which in order if i else ():
                    times[which].append(runs[which][0])
            slow, fast = median(times[0]), median(times[1])
            lines.append(f"| {method} | {tau} | {slow:.3f} | {fast:.3f} | {slow / fast:.2f} |")
            print(lines[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    head = (
        f"# FAT's stopped samples leave\n\n{len(x)} digits, eps {EPS}, K = 10, {torch.get_num_threads()} threads.\n\n"
    )
    (args.out / "compaction.md").write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
