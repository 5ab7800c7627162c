"""Run by `make install-check` where nothing but the package is installed: the README's first block trains."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

assert importlib.util.find_spec("matplotlib") is None
assert importlib.util.find_spec("pytest") is None
assert importlib.util.find_spec("tensorboard") is None
assert importlib.util.find_spec("kornia") is None
readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
block = re.search(r"```python\n(.*?)```", readme, flags=re.DOTALL)
assert block is not None
exec(compile(block.group(1), "README.md", "exec"), {})
