"""The lines that the contribution adds to files of ART's own: exports and documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Lines that go into a file right after others.

    :param path: of the file in ART.
    :param name: of the class that they name.
    :param after: lines that stand in it once.
    :param lines: what is put behind them.
    """

    path: str
    name: str
    after: str
    lines: str

    def applied(self, text: str) -> str:
        """Return the file's text with the lines in it, in the line ends of their place; unchanged if they are there.

        :raises ValueError: if the place is not there, or not once, or the class is named elsewhere in the file.
        """
        places = [(self.after.replace("\n", end), self.lines.replace("\n", end)) for end in ("\n", "\r\n")]
        if any(after + lines in text for after, lines in places):
            return text
        if re.search(rf"\b{self.name}\b", text):
            raise ValueError(f"{self.path} names {self.name} in other lines than these would be; take those out.")
        counts = [text.count(after) for after, _ in places]
        if sum(counts) != 1:
            wanted = self.after.strip().splitlines()[0]
            raise ValueError(
                f"{self.path} has the line {wanted!r} {sum(counts)} times; expected it once, as in ART 1.20."
            )
        after, lines = places[counts.index(1)]
        return text.replace(after, after + lines)


def _section(title: str, name: str) -> str:
    return f"{title}\n{'-' * len(title)}\n.. autoclass:: {name}\n   :members:\n   :special-members:\n\n"


EDITS = [
    Edit(
        "art/attacks/evasion/__init__.py",
        "GeometryAwarePGDPyTorch",
        "from art.attacks.evasion.geometric_decision_based_attack import GeoDA\n",
        "from art.attacks.evasion.geometry_aware_pgd import GeometryAwarePGDPyTorch\n",
    ),
    Edit(
        "art/defences/trainer/__init__.py",
        "AdversarialTrainerGAIRATPyTorch",
        "from art.defences.trainer.adversarial_trainer_trades_pytorch import AdversarialTrainerTRADESPyTorch\n",
        "from art.defences.trainer.adversarial_trainer_gairat import AdversarialTrainerGAIRAT\n"
        "from art.defences.trainer.adversarial_trainer_gairat_pytorch import AdversarialTrainerGAIRATPyTorch\n",
    ),
    Edit(
        "docs/modules/attacks/evasion.rst",
        "GeometryAwarePGDPyTorch",
        ".. autoclass:: GeoDA\n   :members:\n   :special-members:\n\n",
        _section("Geometry-Aware Projected Gradient Descent (GA-PGD) - PyTorch", "GeometryAwarePGDPyTorch"),
    ),
    Edit(
        "docs/modules/defences/trainer.rst",
        "AdversarialTrainerGAIRATPyTorch",
        ".. autoclass:: AdversarialTrainerTRADESPyTorch\n   :members:\n   :special-members:\n\n",
        _section(
            "Adversarial Training Geometry-Aware Instance-Reweighted (GAIRAT) - PyTorch",
            "AdversarialTrainerGAIRATPyTorch",
        ),
    ),
]
