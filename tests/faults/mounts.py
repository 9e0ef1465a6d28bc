"""Processes that see disks of their own.

What belongs here: a namespace of mounts, entered before anything is imported: threads of Polars that are there before stay outside.
What does not: what is mounted in it.
"""

import ctypes
import os
import pickle
import subprocess
from collections.abc import Sequence
from multiprocessing.connection import Connection

NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of sched.h
NOT_ALLOWED = 77


def apart(call: bytes, wires: Sequence[Connection]) -> None:
    """Unpickle a function and what it takes, and call it with the wires too, where what is mounted is seen by nobody else."""
    if ctypes.CDLL(None).unshare(NEW_MOUNTS) or subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode:
        os._exit(NOT_ALLOWED)
    function, *given = pickle.loads(call)  # noqa: S301  # by the test itself
    function(*given, wires)
