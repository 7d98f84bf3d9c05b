"""Encodes arrays and numbers of numpy."""

from __future__ import annotations

import base64
import re
import sys
from typing import Any

from .wire import Decode, Encode, Wire


def encode_array(value: Any, encode: Encode) -> Wire | None:
    """A numpy array or a number of numpy's, encoded; None if it is neither."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.generic):
        if value.dtype.kind not in "biufcSU":
            return encode(value.item())
        return ["scalar", value.dtype.str, encode(value.item())]
    if type(value) is not numpy.ndarray:
        return None
    if value.dtype.kind in "biufcSUmM":
        data = base64.b64encode(numpy.ascontiguousarray(value).tobytes()).decode()
        return ["array", value.dtype.str, list(value.shape), data]
    return ["objects", list(value.shape), [encode(v) for v in value.ravel().tolist()]]


def decode_array(wire: list[Any], decode: Decode) -> Any:
    """The array or number.

    Raises:
        Exception: any, if the list is not what `encode_array` made.
    """
    import numpy

    if wire[0] == "scalar":
        return numpy.dtype(_dtype(wire[1])).type(decode(wire[2]))
    if wire[0] == "objects":
        found = numpy.empty(len(wire[2]), dtype=object)
        found[:] = [decode(v) for v in wire[2]]
        return found.reshape([int(n) for n in wire[1]])
    data = base64.b64decode(wire[3])
    return numpy.frombuffer(data, _dtype(wire[1])).reshape([int(n) for n in wire[2]]).copy()


def _dtype(text: str) -> str:
    if not re.fullmatch(r"[<>|=][biufcSUmM]\d{1,6}(\[\w+\])?", text):
        raise ValueError("no data type")
    return text
