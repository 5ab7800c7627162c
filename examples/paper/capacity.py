"""Experiment 1, insufficient capacity: training error of standard and adversarial training against the network and eps.

    python examples/paper/capacity.py [--form digits|cpu|paper] [--share 1/2]

The claim (Zhang et al., ICLR 2021, Fig. 2): networks that fit the data by standard training do not fit adversarial
examples, and the less so the larger eps is. The error is that on the training images after the last epoch, for
adversarial training under PGD-10. CPU form: 3,000 training images of Fashion-MNIST, 20 epochs, one network in six
widths. Paper's form: CIFAR-10, 100 epochs, three networks. With eps 0 the trainer warns that nothing is attacked, and
rightly: that is standard training.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from candidates import K
from matplotlib.figure import Figure
from models import ResNet18, SmallCNN, wide_resnet
from regimes import BATCH, REGIMES, Regime, digits_cnn, fashion_cnn
from tables import markdown
from torch import nn
from trainings import Json, parser, read, remembered, results_of, rounded, save_figure, scheduler_of, share_of, split_of

from art_gair import AdversarialTrainerGAIRAT, Checkpoint, GeometryAwarePGD, UniformWeighting
from art_gair.storage.lock import LockedError

SEED = 0

Cell = tuple[str, float]
"""A network's name, and eps."""


@dataclass(frozen=True)
class Form:
    """What a form compares: networks at one eps, and eps on one network."""

    regime: str
    images: int
    epochs: int
    networks: dict[str, Callable[[], nn.Module]]
    eps: tuple[float, ...]
    network: str

    def cells(self) -> list[Cell]:
        """Return network and eps of each training; eps 0 is standard training."""
        usual = REGIMES[self.regime].eps
        by_network = [(network, eps) for network in self.networks for eps in (0.0, usual)]
        return [*by_network, *((self.network, eps) for eps in self.eps if eps != usual)]

    def regime_of(self, cell: Cell) -> Regime:
        """Return what a training depends on beside the number of images and epochs."""
        return replace(REGIMES[self.regime], network=self.networks[cell[0]], eps=cell[1], augment=None)

    def named(self, cell: Cell) -> Json:
        """Return what a result depends on."""
        settings = {"regime_settings": self.regime_of(cell).settings(), "images": self.images, "epochs": self.epochs}
        return {"network": cell[0], "eps": rounded(cell[1]), **settings, "K": K, "seed": SEED}

    def file(self, cell: Cell, results: Path) -> Path:
        """Return where a result stands."""
        return results / "capacity" / self.regime / f"{cell[0].replace(' ', '-')}-eps-{cell[1]:.4f}.json"


WIDTHS: dict[str, Callable[[], nn.Module]] = {f"width {w}": partial(fashion_cnn, w) for w in (2, 4, 8, 16, 32, 64)}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "SmallCNN": SmallCNN,
    "ResNet-18": ResNet18,
    "WRN-32-10": wide_resnet,
}
DIGITS: dict[str, Callable[[], nn.Module]] = {f"width {w}": partial(digits_cnn, w) for w in (2, 8)}
FORMS = {
    "digits": Form("digits", 1_000, 10, DIGITS, (0.1, 0.2), "width 8"),
    "cpu": Form("fashion", 3_000, 20, WIDTHS, (0.025, 0.05, 0.1, 0.15, 0.2), "width 32"),
    "paper": Form("cifar10_paper", 49_000, 100, NETWORKS, tuple(n / 255 for n in (2, 4, 8, 12, 16)), "ResNet-18"),
}


def main(argv: list[str] | None = None) -> None:
    """Train what is missing; print the table and draw the figure."""
    arguments = parser(__doc__)
    arguments.add_argument("--form", choices=FORMS, default="cpu")
    args = arguments.parse_args(argv)
    args.results = results_of(args)
    torch.set_num_threads(1)
    form = FORMS[args.form]
    work = [cell for cell in share_of(form.cells(), args.share) if not form.file(cell, args.results).exists()]
    began = time.perf_counter()
    for done, cell in enumerate(work, start=1):
        folder = form.file(cell, args.runs).with_suffix("")
        make = partial(train, form, cell, folder)
        try:
            one = remembered(form.file(cell, args.results), args.results, form.named(cell), make)
        except LockedError:
            print(f"{cell[0]}, eps {cell[1]:.3g}: another process trains it now; it is left to that one", flush=True)
            continue
        shutil.rmtree(folder, ignore_errors=True)
        minutes = (time.perf_counter() - began) / done * (len(work) - done) / 60
        print(f"{cell[0]}, eps {cell[1]:.3g}: error {one['error']:.1f} %; about {minutes:.0f} min left", flush=True)
    found = read_all(form, args.results)
    print(table(found))
    save_figure(draw(form, found), args.results / f"capacity-{args.form}.png")


def read_all(form: Form, results: Path) -> dict[Cell, Json]:
    """Return the results that are there already."""
    files = {cell: form.file(cell, results) for cell in form.cells()}
    return {cell: read(file, form.named(cell)) for cell, file in files.items() if file.exists()}


class Unattacked:
    """Standard training, as an attack that leaves the images as they are."""

    max_iter = 0
    batch_size = BATCH

    def on_batches(self, classifier: Any, epoch: int) -> Any:
        """Return the attack on batches."""
        return lambda x, labels: (x, None)


def train(form: Form, cell: Cell, folder: Path) -> Json:
    """Train one network, or go on with it, and measure its error on the training images."""
    regime = form.regime_of(cell)
    x, y = (part[: form.images] for part in split_of(form.regime).train)
    classifier = regime.classifier(SEED)
    attack: Any = Unattacked()
    if regime.eps > 0.0:
        attack = GeometryAwarePGD(classifier, eps=regime.eps, eps_step=regime.eps / 4, max_iter=K)
    trainer = AdversarialTrainerGAIRAT(
        classifier, attack, UniformWeighting(), burn_in=0, plugins=[Checkpoint(folder, keep=1)]
    )
    settings: dict[str, Any] = {"seed": SEED, "verbose": False, "resume": folder.exists()}
    scheduler = scheduler_of(classifier, regime, form.epochs)
    trainer.fit(x, y, batch_size=BATCH, nb_epochs=form.epochs, scheduler=scheduler, **settings)
    return measure(classifier, attack, x, y)


def measure(classifier: Any, attack: Any, x: Any, y: Any) -> Json:
    """Return the size of a network, and its errors in percent."""
    torch.manual_seed(SEED)
    attacked = x if isinstance(attack, Unattacked) else attack.generate(x, y)
    clean, robust = (float((classifier.predict(z).argmax(axis=1) == y).mean()) for z in (x, attacked))
    parameters = sum(p.numel() for p in classifier.model.parameters())
    errors = {"clean_error": rounded(100 * (1 - clean)), "error": rounded(100 * (1 - robust))}
    return {"parameters": parameters, **errors}


def table(found: dict[Any, Json]) -> str:
    """Return the errors as Markdown."""
    lines = [["network", "parameters", "eps", "error on clean images, %", "error trained against, %"]]
    for one in found.values():
        figures = [f"{one[key]:.3g}" for key in ("eps", "clean_error", "error")]
        lines.append([one["network"], f"{one['parameters']:,}", *figures])
    return markdown(lines)


def draw(form: Form, found: dict[Any, Json]) -> Figure:
    """Draw the errors against the network and against eps."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    usual = REGIMES[form.regime].eps
    for eps, title in ((0.0, "standard training"), (usual, f"adversarial training, eps {usual:.3g}")):
        cells = [found[n, eps] for n in form.networks if (n, eps) in found]
        left.plot([one["parameters"] for one in cells], [one["error"] for one in cells], "o-", label=title)
    left.set(xscale="log", xlabel="parameters", ylabel="error on training images, %")
    left.legend(frameon=False)
    cells = [found[form.network, eps] for eps in (0.0, *form.eps) if (form.network, eps) in found]
    right.plot([one["eps"] for one in cells], [one["error"] for one in cells], "o-", color="C1")
    right.set(xlabel="eps; 0 is standard training", title=form.network)
    left.set_ylim(bottom=0)  # of both, at the end: it fixes the scale
    return figure


if __name__ == "__main__":
    main()
