"""One process speaks for all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

PACKAGE = __name__.partition(".")[0]


@contextmanager
def speaking(*, first: bool) -> Iterator[None]:
    """Let the log of this process be silent but for errors, unless it is the first one."""
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    if not first:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
