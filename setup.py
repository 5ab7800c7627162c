"""Install art_gair: `pip install .`, with all extras `pip install .[all]`, to work on it `pip install -e .[dev]`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
INIT = (HERE / "art_gair" / "__init__.py").read_text(encoding="utf-8")

EXTRAS = {
    "augment": ["kornia>=0.8"],
    "autoattack": ["pyautoattack>=0.2"],
    "plots": ["matplotlib>=3.8"],
    "tensorboard": ["tensorboard>=2.14"],
}
ALL = [requirement for extra in EXTRAS.values() for requirement in extra]
TOOLS = [
    *("pytest>=8", "pytest-cov>=5", "pytest-xdist>=3.5", "hypothesis>=6.100", "ruff>=0.5", "mypy>=1.10"),
    "pdoc>=16",  # the reference; it brings markdown2, which writes the guides
]

setup(
    name="art_gair",
    version=re.findall(r'^__version__ = "(.+)"$', INIT, re.MULTILINE)[0],  # importing it would need torch
    description="Geometry-aware instance-reweighted adversarial training (GAIRAT) for ART",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    keywords="adversarial training, robustness, GAIRAT, TRADES, AutoAttack, PyTorch",
    project_urls={
        "Paper": "https://arxiv.org/abs/2010.01736",
        "ART": "https://github.com/Trusted-AI/adversarial-robustness-toolbox",
    },
    packages=find_packages(include=["art_gair", "art_gair.*"]),
    package_data={"art_gair": ["py.typed", "report/template.html"]},
    entry_points={"console_scripts": ["art_gair = art_gair.cli:main"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6",
        "adversarial-robustness-toolbox>=1.20,<2",
        "numpy>=1.26",
        "scikit-learn>=1.3",
        "scipy>=1.10",  # exact tests and intervals of the robustness report; ART needs it as well
        "tqdm>=4.60",
        "Jinja2>=3.1",  # the page of the report; torch needs it as well
        "packaging>=21",  # ART 1.20 imports it without asking for it
    ],
    extras_require={**EXTRAS, "all": ALL, "dev": [*ALL, *TOOLS]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Security",
        "Typing :: Typed",
    ],
)
