"""The command line of the report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from art_gair import plots
from art_gair.evaluation.attacks import PRESETS
from art_gair.evaluation.evaluate import evaluate_robustness
from art_gair.evaluation.request import folder_of
from art_gair.loading import CommandError, load_data, load_model

PROGRAM = "art_gair"
"""The console command; `python -m art_gair` is the same."""

DESCRIPTION = """Attack a PyTorch model in many ways, and say what it withstands and whether that can be believed.

Writes report.html (one page to mail), report.md, report.json and figures into --out, and a table to the terminal.
A run that was killed goes on where it stopped if it is started again with the same --out.
"""

EXAMPLE = """example:
  art_gair evaluate --model my_models:resnet18 --checkpoint weights.pt --data cifar10.npz --eps 8/255 \\
      --preset standard --n 1000 --out report
"""


def number(text: str) -> float:
    """Read 0.03, 8/255 or 1e-2.

    :raises argparse.ArgumentTypeError: if it is no number.
    """
    try:
        above, *below = (float(part) for part in text.split("/", maxsplit=1))
        return above / below[0] if below else above
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number; expected one like 0.03 or 8/255") from None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    outer = argparse.ArgumentParser(prog=PROGRAM, description="Tools of art_gair.")
    commands = outer.add_subparsers(dest="command", required=True)
    inner = commands.add_parser(
        "evaluate",
        help="attack a model and report what it withstands",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = inner.add_argument_group("the model")
    model.add_argument(
        "--model",
        required=True,
        metavar="MODULE:FUNCTION",
        help="function without arguments that returns the nn.Module",
    )
    model.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="its weights, a state dict saved by torch.save; no code is loaded",
    )
    model.add_argument("--entry", metavar="KEY", help="which state dict of a checkpoint that holds several")
    model.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one"
    )
    data = inner.add_argument_group("the data")
    data.add_argument(
        "--data", required=True, type=Path, metavar="FILE", help="an .npz file with x_test and y_test, or x and y"
    )
    data.add_argument("--class-names", nargs="+", metavar="NAME", help="one name a class, for tables and figures")
    data.add_argument("--n", type=int, metavar="N", help="take the first N samples only")
    data.add_argument("--scale", type=number, metavar="S", help="multiply the data; default: 1/255 for uint8, else 1")
    data.add_argument(
        "--layout",
        choices=["auto", "nchw", "nhwc"],
        default="auto",
        help="order of the images' axes; auto: nhwc where only the last axis can be the channels, 1 or 3",
    )
    data.add_argument(
        "--clip",
        type=number,
        nargs=2,
        default=(0.0, 1.0),
        metavar=("LOW", "HIGH"),
        help="range of valid inputs after scaling; default: 0 1",
    )
    attack = inner.add_argument_group("the attacks")
    attack.add_argument(
        "--eps", required=True, type=number, nargs="+", help="radius of the ball, for instance 8/255; or several radii"
    )
    attack.add_argument("--norm", choices=["inf", "2", "1"], default="inf", help="default: inf")
    attack.add_argument(
        "--preset",
        choices=list(PRESETS),
        default="quick",
        help="quick: three kinds of PGD; standard: more of it, and Square; full: AutoAttack too; default: quick",
    )
    attack.add_argument("--cascade", action="store_true", help="attack only what is still standing: faster")
    attack.add_argument("--seed", type=int, default=0, help="default: 0")
    attack.add_argument("--batch-size", type=int, default=128, metavar="B", help="default: 128")
    inner.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the report")
    return outer


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0, or 2 after a message about a wrong argument."""
    args = parser().parse_args(argv)
    try:
        plots.require_matplotlib()
        x, y = load_data(args.data, args.n, args.scale, args.layout)
        classifier = load_model(args.model, args.checkpoint, args.entry, x, tuple(args.clip), args.device)
        reports = evaluate_robustness(
            classifier,
            x,
            y,
            args.eps,
            args.norm if args.norm == "inf" else int(args.norm),
            args.preset,
            args.seed,
            class_names=args.class_names,
            cascade=args.cascade,
            batch_size=args.batch_size,
            resume_from=args.out / "attacks",
        )
    except (CommandError, ImportError, TypeError, ValueError, NotImplementedError) as error:
        sys.stderr.write(f"{PROGRAM} evaluate: {error}\n")
        return 2
    radii = [report.settings["eps"] for report in reports]
    for eps, report in zip(radii, reports, strict=True):
        folder = args.out if len(reports) == 1 else args.out / folder_of(eps, radii)
        report.save(folder)
        sys.stdout.write(f"{report.table()}\n\nThe report is {folder / 'report.html'}\n")
    return 0
