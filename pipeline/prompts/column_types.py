"""Arrow types that a column of a prompt table may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa


def type_problem(field: str, kind: pa.DataType) -> str | None:
    """The types that a field allows, as text, if `kind` is not one of them; otherwise None."""
    if field not in _ALLOWED or any(is_allowed(kind) for is_allowed in _ALLOWED[field]):
        return None
    return _ALLOWED_WORDS[field]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _is_list_of_texts(kind: pa.DataType) -> bool:
    return _is_list(kind) and _is_text(kind.value_type)


def _is_conversation(kind: pa.DataType) -> bool:
    return pa.types.is_null(kind) or (_is_list(kind) and bool(pa.types.is_struct(kind.value_type)))


_TEXT, _TEXT_OR_INTEGER = (_is_text,), (_is_text, pa.types.is_integer)
_ALLOWED: Mapping[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "prompt": _TEXT,
    "domain": _TEXT,
    "entry_point": _TEXT,
    "template": _TEXT,
    "id": _TEXT_OR_INTEGER,
    "gold": (_is_text, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    "tests": (_is_text, _is_list_of_texts),
    "messages": (_is_conversation,),
}
_ALLOWED_WORDS = dict.fromkeys(("prompt", "domain", "entry_point", "template"), "text") | {
    "id": "text or whole numbers",
    "gold": "text or numbers",
    "tests": "text or a list of texts",
    "messages": "a list of role and content",
}
