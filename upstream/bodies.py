"""The lines of a function's body, as they stand in the core, but for the few expressions that ART's shape changes."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from upstream.signatures import annotation


class Body:
    """What is changed in the lines of a body; every change must find its place.

    :param source: of the whole file.
    :param replace: expressions, and the text that takes their place.
    :param drop: statements that are left out.
    :param given: tests of `if` statements whose outcome is known.
    """

    def __init__(self, source: str, replace: Mapping[str, str], drop: Sequence[str], given: Mapping[str, bool]) -> None:
        self.source = source.splitlines(keepends=True)
        self.replace = {_expression(old): (old, new) for old, new in replace.items()}
        self.drop = {ast.dump(ast.parse(old).body[0]): old for old in drop}
        self.given = {_expression(test): (test, outcome) for test, outcome in given.items()}
        self.done: set[str] = set()
        self.used: set[str] = set()

    def lines(self, node: ast.FunctionDef) -> list[str]:
        """Return the lines of a function's body, without docstring, not indented.

        :raises KeyError: if a change finds no place.
        """
        statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
        text = "".join(self._statements(statements))
        self.require_all()
        self.used = {n.id for n in ast.walk(ast.parse(textwrap.dedent(text))) if isinstance(n, ast.Name)}
        return textwrap.dedent(text).rstrip("\n").split("\n")

    def require_all(self) -> None:
        """Raise KeyError if a change has found no place yet."""
        wanted = [old for old, _ in (*self.replace.values(), *self.given.values())] + list(self.drop.values())
        missing = [text for text in wanted if text not in self.done]
        if missing:
            raise KeyError(f"these are not there: {missing}")

    def those_in(self, node: ast.FunctionDef) -> tuple[dict[str, str], list[str], dict[str, bool]]:
        """Return the changes that find a place in a function, and note that they do."""
        inside = {ast.dump(n) for n in ast.walk(node)}
        replaced = {_key(n) for statement in node.body for n in self._replaced(statement)}
        replace = {old: new for key, (old, new) in self.replace.items() if key in replaced}
        drop = [old for key, old in self.drop.items() if key in inside]
        given = {test: outcome for key, (test, outcome) in self.given.items() if key in inside}
        self.done |= {*replace, *drop, *given}
        return replace, drop, given

    def _statements(self, statements: Sequence[ast.stmt]) -> Iterator[str]:
        """Yield the source of statements, with the comments before them."""
        for statement in statements:
            if ast.dump(statement) in self.drop:
                self.done.add(self.drop[ast.dump(statement)])
                continue
            if isinstance(statement, ast.If) and _key(statement.test) in self.given:
                test, outcome = self.given[_key(statement.test)]
                self.done.add(test)
                branch = statement.body if outcome else statement.orelse
                yield _indented("".join(self._statements(branch)), statement.col_offset)
                if outcome and isinstance(statement.body[-1], ast.Return):
                    return
                continue
            yield self._text(statement)

    def _text(self, statement: ast.stmt) -> str:
        """Return the lines of a statement, those of comments right above it too, with expressions replaced."""
        first, last = statement.lineno - 1, statement.end_lineno or statement.lineno
        while self.source[first - 1].lstrip().startswith("#"):
            first -= 1
        lines = self.source[first:last]
        for node in reversed(list(self._replaced(statement))):
            new = self._new(node)
            row, end_row = node.lineno - 1 - first, (node.end_lineno or node.lineno) - 1 - first
            before = lines[row].encode()[: node.col_offset].decode()
            after = lines[end_row].encode()[node.end_col_offset :].decode()
            lines[row : end_row + 1] = [before + new + after]
        return "".join(lines)

    def _new(self, node: ast.expr) -> str:
        if _key(node) not in self.replace:
            return annotation(node, {})
        old, new = self.replace[_key(node)]
        self.done.add(old)
        return new

    def _replaced(self, node: ast.AST) -> Iterator[ast.expr]:
        """Yield the outermost expressions to replace, in the order of the source; the types of variables are some."""
        if isinstance(node, ast.expr) and _key(node) in self.replace:
            yield node
            return
        if isinstance(node, ast.AnnAssign):
            yield node.annotation
            node = ast.Module([ast.Expr(e) for e in (node.target, node.value) if e is not None], [])
        children = list(ast.iter_child_nodes(node))
        yield from sorted((e for c in children for e in self._replaced(c)), key=lambda e: (e.lineno, e.col_offset))


def _key(node: ast.expr) -> str:
    return ast.dump(node).replace("Store()", "Load()")


def _expression(text: str) -> str:
    return ast.dump(ast.parse(text, mode="eval").body)


def _indented(text: str, indent: int) -> str:
    return textwrap.indent(textwrap.dedent(text), " " * indent)
