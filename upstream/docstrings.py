"""Docstrings as ART writes them: text on lines of its own, a `:param` line for each argument."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

WIDTH = 112
"""Characters in a line, so that those of a method stay within 120."""

GLOSSARY = {
    "x": "Original inputs of shape `(n, *shape)`.",
    "x_adv": "Current adversarial examples, of the shape of the original inputs.",
    "labels": "Class indices of shape `(n,)`.",
    "logits": "Logits of shape `(n, nb_classes)`.",
    "clean_logits": "Logits of the original inputs, where the loss compares with them.",
    "adversarial_logits": "Logits of the adversarial examples, of shape `(n, nb_classes)`.",
    "scores": "Logits or probabilities of shape `(n, nb_classes)`.",
    "eps": "Radius of the ball, broadcastable against the inputs.",
    "grad": "Gradients of the loss at the current adversarial examples.",
    "box": "Valid range of the inputs, or None.",
    "delta": "Perturbations of shape `(n, *shape)`.",
    "model": "Maps a batch of inputs to logits.",
    "samples": "The batch under attack.",
    "step": "The step to take from the current adversarial examples.",
    "loss": "One of the losses of the attack, with one value for each sample.",
    "rows": "Booleans or a slice over the samples.",
    "a": "Values taken where `rows` is True.",
    "b": "Values taken elsewhere.",
    "values": "Values of shape `(n, *shape)`.",
    "mask": "Booleans; values where it is False become zero. None keeps them all.",
    "kappa": "Numbers of PGD steps that the samples withstand, of shape `(n,)`.",
    "max_iter": "K, the number of steps of the attack.",
    "epoch": "Epoch of the training, counted from 0.",
    "shape": "Shape of the inputs.",
}
"""What the arguments of lifted functions are, where their own docstrings do not say it."""

FIELD = re.compile(r"^:(\w+)(?: ([\w, ]+))?:", re.MULTILINE)


def first_paragraph(doc: str) -> str:
    """Return the first paragraph in one line."""
    return " ".join(doc.split("\n\n")[0].split())


def quoted(doc: str) -> list[str]:
    """Return the lines of a docstring with its quotes; a backslash would need a raw one and is not expected."""
    return ['"""', *doc.split("\n"), '"""']


def function(doc: str, names: Sequence[str], extra: Mapping[str, str]) -> str:
    """Return a docstring with a `:param` line for each of the arguments, in their order.

    :param extra: lines by the name of the argument, which win over those of `GLOSSARY`; "raises": "" drops that line.
    :raises KeyError: if nothing says what an argument is.
    """
    text, fields = _parts(doc)
    params = {name: field for key, name, field in fields if key == "param"}
    lines = [
        f":param {name}: {extra[name]}" if name in extra else params.get(name) or f":param {name}: {GLOSSARY[name]}"
        for name in names
    ]
    others = [field for key, _, field in fields if key != "param" and key not in extra]
    return _joined(text, [*lines, *others])


def of_class(doc: str, without: Sequence[str], extra: Mapping[str, str]) -> str:
    """Return a class's docstring without the `:param` lines of some names, and with those of others in new words."""
    text, fields = _parts(doc)
    kept = [(name, field) for _, name, field in fields if name not in without]
    return _joined(text, [f":param {name}: {extra[name]}" if name in extra else field for name, field in kept])


def _parts(doc: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Split a docstring, without its examples, into its text and its fields: kind, name, whole field."""
    doc = "\n\n".join(part for part in doc.split("\n\n") if not part.startswith(">>> "))
    starts = [*FIELD.finditer(doc)]
    text = doc[: starts[0].start()] if starts else doc
    ends = ([match.start() for match in starts[1:]] + [len(doc)]) if starts else []
    fields = [(m[1], m[2] or "", doc[m.start() : end].strip()) for m, end in zip(starts, ends, strict=True)]
    return text.strip(), fields


def _joined(text: str, fields: Sequence[str]) -> str:
    text = "\n\n".join(_fitting(paragraph) for paragraph in text.split("\n\n"))
    return "\n".join([text, *([""] if text and fields else []), *(_wrapped(field) for field in fields)])


def _fitting(paragraph: str) -> str:
    """Break a paragraph anew if a line of it is too long for a method."""
    return paragraph if max(map(len, paragraph.split("\n"))) <= WIDTH else textwrap.fill(paragraph, WIDTH)


def _wrapped(field: str) -> str:
    head = FIELD.match(field)
    indent = " " * (len(head[0]) + 1 if head else 0)
    return textwrap.fill(" ".join(field.split()), WIDTH, subsequent_indent=indent, break_long_words=False)
