"""Run by `make install-check` where nothing but the wheel is installed: the README's first block trains."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import art_gair

for tool in ("matplotlib", "pytest", "tensorboard", "kornia", "pyautoattack"):
    assert importlib.util.find_spec(tool) is None, tool

package = Path(art_gair.__file__).parent
assert package.parent.name == "site-packages", package
assert version("art_gair") == art_gair.__version__
for file in ("py.typed", "report/template.html"):
    assert (package / file).is_file(), file
command = Path(sys.executable).with_name("art_gair")
assert "evaluate" in subprocess.run([command, "--help"], check=True, capture_output=True, text=True).stdout

readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
block = re.search(r"```python\n(.*?)```", readme, flags=re.DOTALL)
assert block is not None
exec(compile(block.group(1), "README.md", "exec"), {})
