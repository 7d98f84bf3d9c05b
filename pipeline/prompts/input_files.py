"""The files that a path names, opened: folders and glob patterns, compression, and encoding."""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from ..errors import InputError

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a file -> Arrow's name of the compression."""
OTHER_PACKINGS = {b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7z", b"\x04\x22\x4d\x18": "lz4"}
"""First bytes of a file -> a compression that is not unpacked here."""
ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte order mark -> encoding."""
COMPRESSED_ENDINGS = {".gz", ".bz2", ".zst"}
FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
"""Ending -> format. Other files of an entry are read as JSON lines; in folders they are ignored."""


def ending(path: Path) -> str:
    """The ending in lower case, without that of a compression: `.jsonl` of `a.jsonl.zst`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSED_ENDINGS else path.suffix.lower()


def files_of(path: Path) -> list[Path]:
    """The files that a path names: itself, a folder's, or those of a glob pattern, in the order of their names.

    Raises:
        InputError: there are none.
    """
    if path.is_dir():
        found = sorted(f for f in path.rglob("*") if f.is_file() and ending(f) in FORMATS and not _is_hidden(f, path))
        if not found:
            raise InputError(str(path), 0, f"the folder has no files that end in {', '.join(FORMATS)}")
        return found
    if path.exists() or not any(c in path.name or c in str(path.parent) for c in "*?["):
        return [path]
    anchor = next(folder for folder in path.parents if folder.is_dir())  # its name may contain a bracket
    try:
        found = sorted(f for f in anchor.glob(str(path.relative_to(anchor))) if f.is_file())
    except ValueError as error:
        raise InputError(str(path), 0, f"not a pattern: {error}") from None
    if not found:
        raise InputError(str(path), 0, "no file matches this pattern")
    return found


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


def open_unpacked(path: Path) -> BinaryIO:
    """A file's bytes, unpacked if they are compressed with gzip, bz2 or zstd.

    Raises:
        InputError: the file can't be opened, or is packed in another way.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if packing := next((name for mark, name in OTHER_PACKINGS.items() if start.startswith(mark)), None):
            raise InputError(str(path), 0, f"is compressed with {packing}; allowed: gzip, bz2, zstd, or no compression")
        compression = next((name for mark, name in COMPRESSIONS.items() if start.startswith(mark)), None)
        return path.open("rb") if compression is None else io.BufferedReader(pa.input_stream(str(path), compression))
    except OSError as error:
        raise unreadable(path, error) from error


def open_text(path: Path) -> io.TextIOWrapper:
    """A file's text: UTF-8, or UTF-16 with its byte order mark. Bytes that are not UTF-8 become surrogates.

    Raises:
        InputError: the file can't be opened.
    """
    with open_unpacked(path) as file:
        start = file.read(4)
    encoding = next((name for mark, name in ENCODINGS.items() if start.startswith(mark)), "utf-8")
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    return io.TextIOWrapper(open_unpacked(path), encoding=encoding, errors=errors, newline="")


def is_utf8(text: str) -> bool:
    """Whether a text that `open_text` read was UTF-8."""
    return text.isascii() or not any("\udc80" <= c <= "\udcff" for c in text)


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that can't be opened or read."""
    if isinstance(error, FileNotFoundError):
        return InputError(str(path), 0, "prompt file not found")
    return InputError(str(path), 0, f"can't be read: {error.strerror or error}")
