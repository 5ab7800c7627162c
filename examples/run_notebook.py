"""Run a notebook's code cells in order and write what they print and draw into the file.

    python examples/run_notebook.py examples/adversarial_training_gairat_digits.ipynb

As Jupyter's "Restart and run all", without Jupyter: the tests run the notebook by `run`, with smaller settings.
"""

from __future__ import annotations

import argparse
import ast
import base64
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def run(notebook: dict[str, Any], settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run all code cells in one namespace, and put their outputs into the notebook.

    :param settings: variables that replace what the first code cell has set.
    :return: the namespace.
    """
    names: dict[str, Any] = {}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, start=1):
        cell["outputs"], cell["execution_count"] = run_cell(cell, names, number), number
        if number == 1:
            names.update(settings or {})
    return names


def run_cell(cell: Cell, names: dict[str, Any], number: int) -> list[Cell]:
    """Run a cell and return its outputs: what it prints, then what its last line is; lines for Jupyter are left out."""
    lines = ["" if line.startswith("%") else line for line in "".join(cell["source"]).splitlines()]
    tree = ast.parse("\n".join(lines))
    last = tree.body[-1] if tree.body else None
    value, printed = None, io.StringIO()
    with redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(tree.body[:-1], []), f"cell {number}", "exec"), names)
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        else:
            exec(compile(tree, f"cell {number}", "exec"), names)
    text = printed.getvalue()
    outputs: list[Cell] = [{"name": "stdout", "output_type": "stream", "text": lines_of(text)}] if text else []
    if value is not None:
        shown = {"execution_count": number, "metadata": {}, "output_type": "execute_result"}
        outputs.append({"data": shown_as(value), **shown})
    return outputs


def shown_as(value: Any) -> dict[str, Any]:
    """Return a value as Jupyter shows it: a figure of matplotlib as PNG, anything else as text."""
    if not hasattr(value, "savefig"):
        return {"text/plain": lines_of(repr(value))}
    image = io.BytesIO()
    value.savefig(image, format="png", dpi=80, bbox_inches="tight")
    return {"image/png": base64.b64encode(image.getvalue()).decode(), "text/plain": ["<Figure>"]}


def lines_of(text: str) -> list[str]:
    """Return text as notebooks keep it."""
    return text.splitlines(keepends=True)


def main(argv: list[str] | None = None) -> None:
    """Run the notebook in its folder and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    path = parser.parse_args(argv).notebook
    notebook = json.loads(path.read_text(encoding="utf-8"))
    sys.path.insert(0, str(path.parent.resolve()))
    run(notebook)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
