"""ART's own tests of PGD and of its TRADES trainer, with the class under test replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PGD_TESTS = "tests/attacks/test_projected_gradient_descent.py"
TRADES_TESTS = "tests/defences/trainer/test_adversarial_trainer_trades_pytorch.py"

PGD_IMPORT = (
    "from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent import ProjectedGradientDescent\n"
)

PGD = '''from {module} import {attack}


def ProjectedGradientDescent(classifier, targeted=False, random_eps=False, **settings):
    """The attack under test, with the defaults of ART's PGD; it has no targets."""
    if targeted:
        raise unittest.SkipTest("the attack is untargeted")
    defaults = {{"eps": 0.3, "eps_step": 0.1, "max_iter": 100, "num_random_init": 0, "batch_size": 32}}
    return {attack}(classifier, **{{**defaults, **settings}})

'''

PGD_SELECTED = "pytorch_mnist or pytorch_iris"
"""Those on PyTorch. `test_check_params_pt` does not apply: it asks that eps and eps_step are of one type."""

PGD_CUTS = (
    ("        # Test PGD with L1 norm\n", "        # Test PGD with L2 norm\n"),
    ("        # Test PGD with True targeted\n", "    def test_check_params_pt(self):\n"),
)
"""Parts of the comparison with ART's numpy PGD that do not apply, from a line up to another: another step and
projection for the norm 1, targets, random starts by numpy's generator, random eps."""

SLIM = {
    "module": "art.attacks.evasion",
    "attack": "GeometryAwarePGDPyTorch",
    "trainer_import": "from art.defences.trainer import AdversarialTrainerGAIRATPyTorch",
    "trainer": 'AdversarialTrainerGAIRATPyTorch(classifier, attack, objective="trades", beta=6.0)',
}
OURS = {
    "module": "art_gair",
    "attack": "GeometryAwarePGD",
    "trainer_import": "from art_gair import TRADES, AdversarialTrainerGAIRAT",
    "trainer": "AdversarialTrainerGAIRAT(classifier, attack, objective=TRADES(6.0))",
}
CLASSES = {"slim": SLIM, "ours": OURS}


def write_replaced(bed: Path, name: str, *, whole_mnist: bool) -> tuple[str, str]:
    """Write ART's tests for other classes, beside the originals; return the paths of PGD's and the trainer's.

    :param name: "slim" for the contribution, "ours" for this package.
    :param whole_mnist: whether ART's data are the whole of MNIST; accuracies tied to its first images hold only then.
    :raises ValueError: if the tests are not those of the release that this was written for.
    """
    classes = CLASSES[name]
    paths = []
    for path, changes in ((PGD_TESTS, _pgd(classes)), (TRADES_TESTS, _trades(classes, whole_mnist=whole_mnist))):
        text = (bed / path).read_text(encoding="utf-8")
        for old, new in changes.items():
            if old not in text:
                raise ValueError(f"{path} has no {old!r}; expected ART's tests of 1.20.")
            text = text.replace(old, new)
        text = _cut(text) if path == PGD_TESTS else text
        paths.append(path.replace(".py", f"_{name}.py"))
        (bed / paths[-1]).write_text(text, encoding="utf-8")
    return paths[0], paths[1]


def _pgd(classes: Mapping[str, str]) -> dict[str, str]:
    return {PGD_IMPORT: PGD.format(**classes)}


def _cut(text: str) -> str:
    for begin, end in PGD_CUTS:
        if begin not in text or end not in text:
            raise ValueError(f"{PGD_TESTS} has no {begin!r} or {end!r}; expected ART's tests of 1.20.")
        first, last = text.index(begin), text.index(end)
        text = text[:first].rstrip(" ") + text[last:]
    return text


def _trades(classes: Mapping[str, str], *, whole_mnist: bool) -> dict[str, str]:
    accuracies = {"    assert accuracy == 0.32\n": "", "accuracy_new > 0.32": "accuracy_new > accuracy"}
    return {
        "from art.defences.trainer import AdversarialTrainerTRADESPyTorch": classes["trainer_import"],
        "from art.attacks.evasion import ProjectedGradientDescent": "from {module} import {attack}".format(**classes),
        "attack = ProjectedGradientDescent(": f"attack = {classes['attack']}(",
        "                targeted=False,\n": "",
        "AdversarialTrainerTRADESPyTorch(classifier, attack, beta=6.0)": classes["trainer"],
        **({} if whole_mnist else accuracies),
    }
