"""Signatures and annotations as ART writes them: torch's types quoted, lines as black breaks them."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

WIDTH = 120

TYPES = {"Tensor": '"torch.Tensor"', "nn.Module": '"torch.nn.Module"', "Model": "Callable", "AttackLoss": "Callable"}
"""Names in the core's annotations, and what ART writes."""


def annotation(node: ast.expr, types: Mapping[str, str]) -> str:
    """Return an annotation with the names of this project's types put into ART's words."""
    text = ast.unparse(_Renamed({**TYPES, **types}).visit(ast.parse(ast.unparse(node), mode="eval")).body)
    return text.replace("'", '"')


class _Renamed(ast.NodeTransformer):
    def __init__(self, types: Mapping[str, str]) -> None:
        self.types = types

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.parse(self.types[node.id], mode="eval").body if node.id in self.types else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = ast.unparse(node)
        return ast.parse(self.types[name], mode="eval").body if name in self.types else node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """Read quoted annotations as well."""
        if not isinstance(node.value, str):
            return node
        quoted: ast.expr = self.visit(ast.parse(node.value, mode="eval").body)
        return quoted


def signature(
    node: ast.FunctionDef, name: str, more: Sequence[str], without: Sequence[str], types: Mapping[str, str]
) -> tuple[list[str], str]:
    """Return the names of the arguments and the head of a function, such as "def f(x: int) -> int:".

    :param more: arguments to add at the end.
    :param without: arguments to leave out.
    :raises KeyError: if one of these is not there.
    """
    known = [a.arg for a in node.args.args]
    if not set(without) <= set(known):
        raise KeyError(f"there are no arguments {sorted(set(without) - set(known))}")
    defaults: list[ast.expr | None] = [None] * (len(known) - len(node.args.defaults)) + list(node.args.defaults)
    arguments = [
        _argument(a, default, types)
        for a, default in zip(node.args.args, defaults, strict=True)
        if a.arg not in without
    ] + list(more)
    returns = "" if node.returns is None else f" -> {annotation(node.returns, types)}"
    names = [a for a in known if a not in (*without, "self")] + [a.partition(":")[0] for a in more]
    return names, _broken(f"def {name}(", arguments, f"){returns}:")


def _argument(node: ast.arg, default: ast.expr | None, types: Mapping[str, str]) -> str:
    text = node.arg if node.annotation is None else f"{node.arg}: {annotation(node.annotation, types)}"
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _broken(head: str, arguments: Sequence[str], tail: str) -> str:
    """Break a line as black does; a method has an indent of its own."""
    room = WIDTH - (4 if "self" in arguments else 0)
    one = head + ", ".join(arguments) + tail
    if len(one) <= room:
        return one
    inside = "    " + ", ".join(arguments)
    if len(inside) <= room:
        return "\n".join([head, inside, tail])
    return "\n".join([head, *(f"    {argument}," for argument in arguments), tail])
