"""Takes functions and classes out of the package's source and puts them in ART's form; nothing is imported or run.

The lines of a body stay what they are, comments included. What changes is what ART's form asks for: torch is imported
inside the function, its types are quoted, each argument has a `:param` line.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upstream import docstrings
from upstream.bodies import Body
from upstream.signatures import annotation, signature

Definition = ast.FunctionDef | ast.ClassDef
INDENT = "    "


class LiftError(Exception):
    """The core is no longer what a piece expects of it; the message names the piece."""


@dataclass(frozen=True)
class Piece:
    """A function, class or constant of the core, and what of it changes on the way to ART.

    :param where: file below the package and name in it: "attacks/pgd.py:PGD._run".
    :param name: its name in ART; "" keeps it.
    :param arguments: added at the end of the signature, such as "lam: float".
    :param without: fields, methods and arguments that are left out; "f.x" is the argument x of a class's method f.
    :param replace: expressions, and the text that takes their place; each must be there.
    :param drop: statements that are left out, each must be there.
    :param given: tests of `if` statements whose outcome is fixed here: the branch alone remains.
    :param types: names in annotations, and what stands in their place.
    :param doc: `:param` lines by the name of the argument, over the core's and those of `docstrings.GLOSSARY`; by the
        name of a function and "()", the text of its docstring.
    :param words: phrases of its docstrings, and what stands in their place; each must be there.
    :param doc_of: the class or function whose docstring's first paragraph is the text, in the place of its own.
    """

    where: str
    name: str = ""
    arguments: Sequence[str] = ()
    without: Sequence[str] = ()
    replace: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()
    given: Mapping[str, bool] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    doc: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    doc_of: str = ""


@dataclass(frozen=True)
class Core:
    """The package's source below a folder."""

    folder: Path

    def text(self, piece: Piece) -> str:
        """Return the piece in ART's form, not indented.

        :raises LiftError: if the core does not hold it, or not what is to be changed in it.
        """
        try:
            source = self._source(piece)
            node = self._find(piece, source)
            if piece.doc_of:
                piece = dataclasses.replace(
                    piece, doc={**piece.doc, f"{_names(node)[0]}()": self.formula(piece.doc_of)}
                )
            text = _text(node, source, piece)
            missing = [phrase for phrase in piece.words if phrase not in text]
            if missing:
                raise KeyError(f"these words are not there: {missing}")
            for phrase, other in piece.words.items():
                text = text.replace(phrase, other)
            return text
        except (KeyError, OSError, SyntaxError) as error:
            raise LiftError(f"{piece.where} cannot be lifted from {self.folder}: {error}") from error

    def value(self, where: str) -> str:
        """Return the source of a constant's value; arguments and errors as for `text`."""
        node, source = self._node(where)
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            raise LiftError(f"{where} is no constant.")
        return ast.get_source_segment(source, node.value) or ""

    def formula(self, where: str) -> str:
        """Return the first paragraph of a docstring in one line; arguments and errors as for `text`."""
        node, _ = self._node(where)
        doc = ast.get_docstring(node) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else None
        if doc is None:
            raise LiftError(f"{where} has no docstring.")
        return docstrings.first_paragraph(doc)

    def default(self, where: str, argument: str) -> str:
        """Return the source of an argument's default; errors as for `text`."""
        node, source = self._node(where)
        if isinstance(node, ast.FunctionDef):
            positional = node.args.args[len(node.args.args) - len(node.args.defaults) :]
            pairs = [*zip(positional, node.args.defaults, strict=True)]
            pairs += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None]
            for name, value in pairs:
                if name.arg == argument:
                    return ast.get_source_segment(source, value) or ""
        raise LiftError(f"{where} has no argument {argument!r} with a default.")

    def _node(self, where: str) -> tuple[ast.stmt, str]:
        try:
            source = self._source(Piece(where))
            return self._find(Piece(where), source), source
        except (KeyError, OSError, SyntaxError) as error:
            raise LiftError(f"{where} cannot be lifted from {self.folder}: {error}") from error

    def _source(self, piece: Piece) -> str:
        return (self.folder / piece.where.partition(":")[0]).read_text(encoding="utf-8")

    def _find(self, piece: Piece, source: str) -> ast.stmt:
        body: Sequence[ast.stmt] = _parse(source).body
        node: ast.stmt | None = None
        for name in piece.where.partition(":")[2].split("."):
            node = next((n for n in body if name in _names(n)), None)
            if node is None:
                raise KeyError(f"there is no {name!r}")
            body = node.body if isinstance(node, ast.ClassDef) else ()
        assert node is not None
        return node


@functools.lru_cache(maxsize=64)
def _parse(source: str) -> ast.Module:
    return ast.parse(source)


def _names(node: ast.stmt) -> list[str]:
    """Return what a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _text(node: ast.stmt, source: str, piece: Piece) -> str:
    if isinstance(node, ast.FunctionDef):
        return _function(node, source, piece)
    if isinstance(node, ast.ClassDef):
        return _class(node, source, piece)
    return _constant(node, piece.name or _names(node)[0], source, piece)


def _function(node: ast.FunctionDef, source: str, piece: Piece) -> str:
    body = Body(source, piece.replace, piece.drop, piece.given)
    lines = body.lines(node)
    names, head = signature(node, piece.name or node.name, piece.arguments, piece.without, piece.types)
    text = piece.doc.get(f"{node.name}()") or ast.get_docstring(node)
    if text is None:
        raise KeyError(f"{node.name} has no docstring")
    doc = docstrings.function(text, names, piece.doc)
    imports = [statement for name, statement in TORCH.items() if name in body.used]
    inside = [*docstrings.quoted(doc), *imports, *([""] if imports else []), *lines]
    decorators = [f"@{ast.unparse(d)}" for d in node.decorator_list]
    return "\n".join([*decorators, head, *(INDENT + line if line else "" for line in inside)])


TORCH = {"torch": "import torch", "F": "import torch.nn.functional as F", "nn": "from torch import nn"}
"""What a body must import if it uses the name."""


def _class(node: ast.ClassDef, source: str, piece: Piece) -> str:
    """Return a class: a method takes of the piece's changes those that its own lines ask for."""
    kept = [n for n in node.body if not set(_names(n)) & set(piece.without)]
    methods = [n for n in kept if isinstance(n, ast.FunctionDef)]
    members = {name for n in node.body for name in _names(n)}
    unknown = set(piece.without) - members - {f"{n.name}.{a.arg}" for n in methods for a in n.args.args}
    if unknown:
        raise KeyError(f"there is no {sorted(unknown)} to leave out")
    told = [a.arg for n in methods if n.name == "__init__" for a in n.args.args]  # in the docstring of __init__
    text = docstrings.of_class(ast.get_docstring(node) or "", [*piece.without, *told], piece.doc)
    blocks = ["\n".join(docstrings.quoted(text))]
    fields = [n for n in kept if isinstance(n, (ast.AnnAssign, ast.Assign))]
    if fields:
        blocks.append("\n".join(_constant(n, _names(n)[0], source, piece) for n in fields))
    used = Body(source, piece.replace, piece.drop, piece.given)
    for method in methods:
        left_out = [a.arg for a in method.args.args if f"{method.name}.{a.arg}" in piece.without]
        own = Piece(piece.where, "", (), left_out, *used.those_in(method), piece.types, piece.doc)
        blocks.append(_function(method, source, own))
    used.require_all()
    head = [f"@{ast.unparse(d)}" for d in node.decorator_list] + [f"class {piece.name or node.name}:"]
    return "\n".join([*head, textwrap.indent("\n\n".join(blocks), INDENT)])


def _constant(node: ast.stmt, name: str, source: str, piece: Piece) -> str:
    value = getattr(node, "value", None)
    text = "" if value is None else f" = {ast.get_source_segment(source, value)}"
    if isinstance(node, ast.AnnAssign):
        return f"{name}: {annotation(node.annotation, piece.types)}{text}"
    return f"{name}{text}"
