"""Processes of this host: which of them live, and what the host is called.

What belongs here: asking the kernel. What does not: what becomes of what the dead have left.
"""

import os
import socket
from pathlib import Path

HOST = "atc/host"
"""The tag of a run that says on which host its process is."""


def this_host() -> str:
    """Return the name of this host, or of this container."""
    return socket.gethostname()


def is_alive(pid: int, since: float | None = None) -> bool:
    """Return whether a process of this host has the number; ``since``: and had it at that time, in seconds since 1970.

    Where the kernel does not tell when a process began (no ``/proc``), a number that was given out again passes for the old one.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    begun = _begun(pid)
    return since is None or begun is None or begun <= since + _CLOCK_SLACK


_CLOCK_SLACK = 5.0
"""Seconds: the time of booting is told in whole ones, and clocks are set."""


def _begun(pid: int) -> float | None:
    try:
        # proc(5): field 22, of which the second may hold blanks and brackets; a zombie (state Z) is nobody
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        booted = next(line for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines() if line.startswith("btime "))
    except (OSError, StopIteration, ValueError):
        return None
    return float("inf") if state == "Z" else int(booted.split()[1]) + int(fields[18]) / os.sysconf("SC_CLK_TCK")
