"""Files of lines, plain or packed: gzip and Zstandard, told apart by how the name ends.

What belongs here: packing and unpacking. What does not: lines that are too long, and files that unpack to too much (``landing``).
"""

import gzip
import io
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import zstandard

CHUNK = 2**20
"""Bytes that are unpacked at a time: few enough to be copied from the processor's cache."""


class Frames:
    """The frames of a Zstandard file, one after the other, a little at a time: a few bytes may stand for gigabytes.

    PyArrow says when the last one is not whole; Python's zstandard takes it for a whole one, or unpacks all there is.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")

    def read(self, size: int, /) -> bytes:
        """Read so many bytes, or the next ``CHUNK``, or what is left."""
        unpacked: bytes = self.stream.read(size or CHUNK)
        return unpacked


class _Unpacked(io.RawIOBase):
    """A Zstandard file, read as ingest reads it: one that is not whole is an error."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.frames, self.rest = file, Frames(file), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  # collections.abc.Buffer, from Python 3.12 on
        self.rest = self.rest or memoryview(self.frames.read(0))
        size = min(len(buffer), len(self.rest))
        buffer[:size], self.rest = self.rest[:size], self.rest[size:]
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


def reading(path: Path) -> BinaryIO:
    """Open a file to read what it unpacks to."""
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix.lower() == ".zst":
        return cast(BinaryIO, io.BufferedReader(_Unpacked(path.open("rb")), io.DEFAULT_BUFFER_SIZE))
    return path.open("rb")


def writing(path: Path, like: str) -> BinaryIO:
    """Open a file to write, packed as a file of that name is."""
    if like.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(path, "wb", mtime=0))
    if like.lower().endswith(".zst"):
        return cast(BinaryIO, zstandard.ZstdCompressor().stream_writer(path.open("wb")))
    return path.open("wb")
