"""A store in a folder that is thrown away: for a stretch of days that does not fit memory, and that nobody needs afterwards.

What belongs here: making such a folder, and removing it. What does not: how a day is kept in it (``lake``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from resources.storage.lake import Lake


@contextmanager
def scratch() -> Iterator[Lake]:
    """Lend a lake of its own in a temporary folder (``TMPDIR`` says where); it is gone when the block ends."""
    with TemporaryDirectory(prefix="atc_scratch_") as folder:
        yield Lake(root=folder)
