"""The plan of what is moved into a folder: it says whether each file is as it was, or as it was to become."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from upstream.files import RefusedError, digest, replace_file
from upstream.note import Written

NAME = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What is moved.

    :param new: hash of what each file becomes, by path in the folder.
    :param old: hash of what it was; None: there was no such file.
    :param noted: what was noted of the folder before.
    """

    new: dict[str, str]
    old: dict[str, str | None]
    noted: Written

    def write(self, room: Path) -> None:
        """Write the plan into the folder where the files wait."""
        replace_file(room / NAME, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, room: Path) -> Plan:
        """Read it from there.

        :raises RefusedError: if it is damaged, or names files outside the folder.
        """
        try:
            plan = cls(**json.loads((room / NAME).read_bytes()))
        except (ValueError, TypeError):
            plan = cls({}, {"": None}, {})
        folder = room.parent.resolve()
        if set(plan.new) != set(plan.old) or not all((folder / p).resolve().is_relative_to(folder) for p in plan.new):
            raise RefusedError(f"{room / NAME} is damaged; {by_hand(room)}")
        return plan

    def done(self, room: Path) -> bool:
        """Return whether all files are as they were to become."""
        return all(hash_of(room.parent / path) == new for path, new in self.new.items())

    def moved(self, room: Path) -> list[str]:
        """Return the files that are as they were to become, where that differs from what they were.

        :raises RefusedError: if one is neither, or what it was is lost.
        """
        moved, killed = [], "An earlier run was killed half-way, and"
        for path, old in self.old.items():
            target, copy = room.parent / path, room / "old" / path
            held = hash_of(target)
            if held == old:
                continue
            if held != self.new[path]:
                raise RefusedError(f"{killed} {target} was changed since; {by_hand(room)}")
            if old is not None and hash_of(copy) != old:
                raise RefusedError(f"{killed} {copy} is lost or changed; restore {target}, then delete {room}.")
            moved.append(path)
        return moved


def hash_of(path: Path) -> str | None:
    """Return the hash of a file, None if there is none."""
    return digest(path.read_bytes()) if path.is_file() else None


def by_hand(room: Path) -> str:
    """Say what to do where a program should not."""
    return f"what stood there before is in {room / 'old'}: put it back where you want it, then delete {room}."
