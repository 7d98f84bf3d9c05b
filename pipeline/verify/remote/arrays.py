"""Encodes arrays, numbers and generators of random numbers of numpy."""

from __future__ import annotations

import base64
import re
import sys
from typing import Any

from .wire import Decode, Encode, Wire

_COUNTERS = ("state", "inc")
"""The parts of a PCG64 generator's state."""
_KEY_LENGTH = 624
"""Numbers in the state of a Mersenne twister."""


def encode_array(value: Any, encode: Encode) -> Wire | None:
    """A numpy array, number or generator, encoded; None if it is none of them."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.generic):
        if value.dtype.kind not in "biufcSU":
            return encode(value.item())
        return ["scalar", value.dtype.str, encode(value.item())]
    if type(value) is numpy.random.Generator and type(value.bit_generator) is numpy.random.PCG64:
        state = value.bit_generator.state
        counters: list[Wire] = [encode(state["state"][name]) for name in _COUNTERS]
        return ["Generator", *counters, state["has_uint32"], state["uinteger"]]
    if type(value) is numpy.random.RandomState:
        return ["RandomState", *[encode(part) for part in value.get_state()]]
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

    if wire[0] == "Generator":
        return numpy.random.Generator(_bit_generator(wire, decode))
    if wire[0] == "RandomState":
        return _random_state(wire, decode)
    if wire[0] == "scalar":
        return numpy.dtype(_dtype(wire[1])).type(decode(wire[2]))
    if wire[0] == "objects":
        found = numpy.empty(len(wire[2]), dtype=object)
        found[:] = [decode(v) for v in wire[2]]
        return found.reshape([int(n) for n in wire[1]])
    data = base64.b64decode(wire[3])
    return numpy.frombuffer(data, _dtype(wire[1])).reshape([int(n) for n in wire[2]]).copy()


def _bit_generator(wire: list[Any], decode: Decode) -> Any:
    import numpy

    found: Any = numpy.random.PCG64()
    counters = dict(zip(_COUNTERS, map(decode, wire[1:3]), strict=True))
    found.state = {
        "bit_generator": "PCG64", "state": counters, "has_uint32": int(wire[3]), "uinteger": int(wire[4]),
    }  # fmt: skip
    return found


def _random_state(wire: list[Any], decode: Decode) -> Any:
    import numpy

    name, key, position, has_gauss, gauss = map(decode, wire[1:])
    if not 0 <= position <= len(key) == _KEY_LENGTH:  # numpy would read beyond the key
        raise ValueError("no state of a generator")
    found = numpy.random.RandomState()
    found.set_state((name, key, position, has_gauss, gauss))
    return found


def _dtype(text: str) -> str:
    if not re.fullmatch(r"[<>|=][biufcSUmM]\d{1,6}(\[\w+\])?", text):
        raise ValueError("no data type")
    return text
