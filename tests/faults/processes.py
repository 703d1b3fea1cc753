"""The processes of a session, for tests of what is left when something ends."""

from __future__ import annotations

from pathlib import Path


def processes_of(session: int) -> list[tuple[int, str]]:
    """Return id and command line of all processes of a session; Ray's processes stay in their driver's."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append((int(stat.parent.name), command))
    return found
