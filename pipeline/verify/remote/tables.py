"""Encodes tables, columns and points in time of pandas."""

from __future__ import annotations

import re
import sys
from typing import Any

from .wire import Decode, Encode, Wire

_DTYPES = re.compile(
    r"u?int(8|16|32|64)|U?Int(8|16|32|64)|float(32|64)|Float(32|64)|bool(ean)?|object|str(ing)?|category"
)


def encode_table(value: Any, encode: Encode) -> Wire | None:
    """A DataFrame, Series, Index, Timestamp or Timedelta, encoded; None if it is none of them."""
    pandas: Any = sys.modules.get("pandas")
    if pandas is None:
        return None
    if value is pandas.NaT or value is pandas.NA:
        return ["missing", "NaT" if value is pandas.NaT else "NA"]
    if type(value) is pandas.Timestamp:
        return ["Timestamp", value.isoformat(), (value.tz is not None and str(value.tz)) or None]
    if type(value) is pandas.Timedelta:
        return ["Timedelta", value.value]
    if type(value) is pandas.DataFrame:
        columns = [_column(value.iloc[:, i], encode) for i in range(value.shape[1])]
        return ["DataFrame", _index(value.columns, encode), _index(value.index, encode), *columns]
    if type(value) is pandas.Series:
        return ["Series", encode(value.name), _index(value.index, encode), _column(value, encode)]
    return ["Index", _index(value, encode)] if isinstance(value, pandas.Index) else None


def decode_table(wire: list[Any], decode: Decode) -> Any:
    """The value.

    Raises:
        Exception: any, if the list is not what `encode_table` made.
    """
    import pandas

    kind = wire[0]
    if kind == "missing":
        return pandas.NaT if wire[1] == "NaT" else pandas.NA
    if kind == "Timestamp":
        found = pandas.Timestamp(str(wire[1]))
        return found.tz_convert(str(wire[2])) if wire[2] is not None else found
    if kind == "Timedelta":
        return pandas.Timedelta(int(wire[1]), unit="ns")
    if kind == "Index":
        return _to_index(wire[1], decode)
    index = _to_index(wire[2], decode)
    if kind == "Series":
        return _to_column(wire[3], decode, index).rename(decode(wire[1]))
    parts = {i: _to_column(part, decode, index) for i, part in enumerate(wire[3:])}
    table = pandas.DataFrame(parts, index=index)
    table.columns = _to_index(wire[1], decode)
    return table


def _column(column: Any, encode: Encode) -> Wire:
    return [str(column.dtype), *[encode(v) for v in column.astype(object).tolist()]]


def _to_column(wire: list[Any], decode: Decode, index: Any) -> Any:
    import pandas

    values = [decode(v) for v in wire[1:]]
    name = str(wire[0])
    if _DTYPES.fullmatch(name):
        return pandas.Series(values, index=index, dtype=name)
    found = pandas.Series(values, index=index)  # times: their type follows from the values
    return found if str(found.dtype) == name else found.astype(name) if name.startswith("datetime64[") else found


def _index(index: Any, encode: Encode) -> Wire:
    """Names, and a range or the values with their type."""
    names: list[Wire] = [encode(name) for name in index.names]
    if type(index).__name__ == "RangeIndex":
        return ["range", names, index.start, index.stop, index.step]
    kind = "multi" if type(index).__name__ == "MultiIndex" else str(index.dtype)
    return [kind, names, *[encode(v) for v in index.tolist()]]


def _to_index(wire: list[Any], decode: Decode) -> Any:
    import pandas

    names = [decode(name) for name in wire[1]]
    if wire[0] == "range":
        return pandas.RangeIndex(wire[2], wire[3], wire[4], name=names[0])
    values = [decode(v) for v in wire[2:]]
    if wire[0] == "multi":
        return pandas.MultiIndex.from_tuples(values, names=names)
    dtype = wire[0] if _DTYPES.fullmatch(str(wire[0])) else None
    return pandas.Index(values, dtype=dtype, name=names[0])
