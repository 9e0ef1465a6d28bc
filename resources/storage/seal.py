"""A Parquet file's own word on its bytes: a checksum in its footer, so that a damaged file is known for one; and by whom it was written.

What belongs here: laying, testing and reading the seal. What does not: which files are read.

Polars writes no page checksums and tests none: of 300 flipped bits 184 gave other values in silence. The seal is text of a fixed
length in the footer, blank when the bytes are summed, and filled in before the file gets its name. It has two sums: what the file
was when it was made - its version, kept when rows of a person are erased -, and what it is now. It says as well which portfolio and
which code wrote the file: not part of its version, as the same rows are the same rows whoever wrote them.
"""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from atc_pipeline.tables.store import WrittenBy

SEAL = "atc_seal"
"""The key of the file's metadata."""
_SUM, _NAME = 8, 12
"""Letters of a sum, and of the name of a portfolio or of code."""
_BLANK = "-" * _SUM
_NOBODY = "-" * _NAME
BLANK = f"{_BLANK}:{_BLANK}:{_NOBODY}:{_NOBODY}"
"""What to write under it."""
_CHUNK = 2**22


class BrokenSealError(Exception):
    """The bytes of a file are not those that were written."""


def lay(path: Path, by: WrittenBy | None = None) -> None:
    """Seal a file that was written with ``BLANK``; or seal it again after rows were taken out, with the version and the author it had."""
    with path.open("r+b") as file:
        seal = _read(file)
        if seal is not None:
            is_new = seal.version == _BLANK
            version = seal.sum_with(seal.blank) if is_new else seal.version
            author = f":{by.portfolio or _NOBODY}:{by.code or _NOBODY}" if is_new and by is not None else seal.author
            file.seek(seal.begins)
            file.write(f"{version}:{seal.sum_with(f'{version}:{_BLANK}{author}')}{author}".encode())


def test(path: Path) -> None:
    """Raise BrokenSealError unless the bytes are those that were sealed; a file without a seal is older than seals."""
    with path.open("rb") as file:
        seal = _read(file)
    if seal is not None and seal.checksum != seal.sum_with(f"{seal.version}:{_BLANK}{seal.author}"):
        raise BrokenSealError("its checksum is another")


def written_by(text: str | None) -> WrittenBy:
    """Read who wrote a file off its seal; nobody where it does not say."""
    names = (text or "").split(":")[2:]
    portfolio, code = (None if name == _NOBODY else name for name in names) if len(names) == len(WrittenBy._fields) else (None, None)
    return WrittenBy(portfolio, code)


@dataclass(frozen=True)
class _Seal:
    """What a file says of itself, and what is there: the sum of all that is before its footer, and the footer."""

    begins: int
    """Where in the file the seal is."""
    version: str
    checksum: str
    author: str
    """``:<portfolio>:<code>``; nothing in files of older versions of ours."""
    before: int
    head: bytes
    tail: bytes

    @property
    def blank(self) -> str:
        """Return the seal as it was when the file was written."""
        return BLANK[: 2 * _SUM + 1 + len(self.author)]

    def sum_with(self, text: str) -> str:
        """Sum the file up as if the seal were this text."""
        return f"{zlib.crc32(self.head + text.encode() + self.tail, self.before):08x}"


def _read(file: BinaryIO) -> _Seal | None:
    footer, begins = _footer(file)
    key = footer.find(SEAL.encode())
    if key < 0:
        return None
    at = key + len(SEAL) + 2  # the value's field header and length, one byte each
    end = at + footer[at - 1]
    head, text, tail = footer[:at], footer[at:end].decode(errors="replace"), footer[end:]
    version, checksum, author = text[:_SUM], text[_SUM + 1 : 2 * _SUM + 1], text[2 * _SUM + 1 :]
    return _Seal(begins + at, version, checksum, author, _sum(file, begins), head, tail)


def _footer(file: BinaryIO) -> tuple[bytes, int]:
    """Return the footer, with the 8 bytes that follow it, and where it begins."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    end = file.read()
    begins = size - 8 - int.from_bytes(end[:4], "little")
    if end[4:] != b"PAR1" or begins < 4:
        raise BrokenSealError("it is not whole")
    file.seek(begins)
    return file.read(), begins


def _sum(file: BinaryIO, until: int) -> int:
    file.seek(0)
    total = 0
    while until:
        chunk = file.read(min(_CHUNK, until))
        total, until = zlib.crc32(chunk, total), until - len(chunk)
    return total
