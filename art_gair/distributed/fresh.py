"""A part of a store that no earlier life of the processes has written to.

torchrun restarts all processes when one has died, and they find the same store, with the addresses of the dead in it.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from typing import Any

from torch.distributed.distributed_c10d import PrefixStore

POLL_SECONDS = 0.02


def fresh_store(store: Any, rank: int, size: int, timeout: timedelta) -> Any:
    """Return a store on which the processes that live now have agreed, with nothing in it.

    Each process leaves a name of its own. Process 0 gives each name that it finds the name of the new part, and waits
    until all have taken it; a name of an earlier life takes nothing.

    :raises TimeoutError: if a process does not come.
    """
    began, mine = time.monotonic(), secrets.token_hex(8)
    store.set(f"art_gair/name/{rank}", mine)
    part = secrets.token_hex(8) if rank == 0 else None
    while True:
        if rank == 0:
            _welcome(store, size, str(part))
        if part is None and store.check([f"art_gair/part/{mine}"]):
            part = store.get(f"art_gair/part/{mine}").decode()
        if part is not None:
            store.set(f"art_gair/taken/{part}/{rank}", "")
            taken = [store.check([f"art_gair/taken/{part}/{r}"]) for r in range(size)]
            if all(taken):
                return PrefixStore(f"art_gair/{part}", store)
        if time.monotonic() - began > timeout.total_seconds():
            raise TimeoutError(f"distributed: not all of the {size} processes came in {timeout.total_seconds():g} s.")
        time.sleep(POLL_SECONDS)


def _welcome(store: Any, size: int, part: str) -> None:
    for rank in range(size):
        if store.check([f"art_gair/name/{rank}"]):
            store.set(f"art_gair/part/{store.get(f'art_gair/name/{rank}').decode()}", part)
