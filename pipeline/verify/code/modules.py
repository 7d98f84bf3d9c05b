"""What workers import before they fork, since a forked process can't open files.

A fork costs more the more its process holds. So there are several kinds of workers for code, and each check goes to the
smallest one that has what its texts import.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import re
import sys

from ..remote.mutable import use_libraries

LIGHT = (
    "_strptime", "abc", "array", "base64", "binascii", "bisect", "cmath", "collections", "collections.abc",
    "contextlib", "copy",
    "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "io", "itertools", "json", "math",
    "numbers", "operator", "os", "queue", "random", "re", "statistics", "string", "struct", "sys", "textwrap",
    "threading", "time", "types", "typing", "unicodedata", "uuid", "warnings", "weakref", "zlib",
)  # fmt: skip
"""For functions on plain values."""
_LEFT_OUT = frozenset({
    "antigravity", "curses", "ensurepip", "idlelib", "lib2to3", "msilib", "msvcrt", "nis", "ossaudiodev", "pdb",
    "pydoc", "pydoc_data", "this", "tkinter", "turtle", "turtledemo", "venv", "winreg", "winsound",
})  # fmt: skip
"""They print, open windows, belong to other systems, or take much memory."""
_SUBMODULES = (
    "collections.abc", "concurrent.futures", "concurrent.futures.process", "concurrent.futures.thread", "email.message",
    "email.mime.text", "html.parser", "http.client", "importlib.metadata", "importlib.resources", "json.decoder",
    "logging.handlers", "multiprocessing.pool", "multiprocessing.process", "multiprocessing.queues",
    "multiprocessing.synchronize", "os.path", "unittest._log", "unittest.async_case", "unittest.mock",
    "urllib.error", "urllib.parse",
    "urllib.request", "xml.dom.minidom", "xml.etree.ElementTree", "xml.sax",
)  # fmt: skip
_ENCODINGS = (
    "ascii", "base64_codec", "cp1252", "cp437", "hex_codec", "idna", "latin_1", "punycode", "raw_unicode_escape",
    "rot_13",
    "unicode_escape", "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_8_sig",
)  # fmt: skip
COMMON = (
    *LIGHT, "argparse", "ast", "asyncio", "calendar", "csv", "dataclasses", "difflib", "getopt", "hmac", "html",
    "inspect",
    "itertools", "keyword", "locale", "logging", "pathlib", "pprint", "pytest", "secrets", "sortedcontainers", "timeit",
    "traceback", "unittest", "unittest._log", "unittest.async_case", "unittest.mock",
)  # fmt: skip
"""What tests of pytest and unittest need too."""
FULL = (
    *COMMON,
    *sorted(m for m in sys.stdlib_module_names - _LEFT_OUT if not m.startswith("_")),
    *_SUBMODULES,
    *(f"encodings.{name}" for name in _ENCODINGS),
    *("numpy", "numpy.linalg", "numpy.random", "numpy.testing"),
)
"""The standard library and numpy."""
DATA = (*FULL, "pandas", "pandas.testing", "scipy", "scipy.stats")
"""Packages that take long to load."""
KINDS = {"code": LIGHT, "common": COMMON, "full": FULL, "data": DATA}
"""Kind of worker -> what it imports; each has all that the one before has."""
_IMPORT = re.compile(r"^[ \t>.]*(?:import|from)[ \t]+([\w., \t]+)", re.MULTILINE)
_WORDS = {
    "common": ("asyncio", "pytest", "Mock", "patch(", "monkeypatch", "capsys", "unittest", "dataclass", "inspect"),
    "full": ("np.", "numpy", ">>>", "doctest"),
    "data": ("pandas", "pd.", "scipy"),
}
"""Words in texts that need a kind, whether or not they import it."""


def preload(kind: str = "code") -> None:
    """Imports what checks need. What is not installed is left out."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads do not survive a fork
    # Without the modules' own functions after a fork: they write to many pages. There are no threads whose locks they
    # would reset, and each check shall begin with the same random numbers.
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    for name in KINDS[kind]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    os.register_at_fork = register
    use_libraries()
    for name in ("random", "numpy.random"):
        if name in sys.modules:
            sys.modules[name].seed(0)
    if kind != "code":
        from ..remote.coroutines import use_loops_without_sockets

        use_loops_without_sockets()
    gc.disable()  # forked processes enable it again
    gc.collect()
    gc.freeze()


def kind_for(*texts: str) -> str:
    """The smallest kind of worker that has what the texts import."""
    imported = set().union(*map(_imports, texts)) & _ROOTS["data"]
    for kind in ("data", "full", "common"):
        smaller = _ROOTS[_SMALLER[kind]]
        if imported - smaller or any(word in text for word in _WORDS[kind] for text in texts):
            return kind
    return "code"


def _imports(text: str) -> set[str]:
    """The first parts of the modules that a text imports."""
    found: set[str] = set()
    for line in _IMPORT.findall(text):
        found.update(part.split(".")[0].split(" ")[0].strip() for part in re.split(r",\s*", line.split(" import ")[0]))
    return found


_ROOTS = {kind: frozenset(name.partition(".")[0] for name in names) for kind, names in KINDS.items()}
_SMALLER = dict(zip(["common", "full", "data"], KINDS, strict=False))
