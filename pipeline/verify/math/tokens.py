"""The tokens of a mathematical expression, in LaTeX or as plain text."""

from __future__ import annotations

import re
from typing import NamedTuple

from .words import GREEK

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>\d*\.\d*\\(?:overline|bar|dot)\s*\{\s*\d+\s*\}|\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<command>\\(?:[a-zA-Z]+|[{}|]))"
    r"|(?P<letters>[a-zA-Z]+)"
    r"|(?P<symbol>\*\*|[-+*/^_!|(){}\[\]'])"
)
_INVERTIBLE = "sin cos tan cot sec csc sinh cosh tanh"
FUNCTIONS = {
    **{name: name for name in (*_INVERTIBLE.split(), "ln", "log", "lg", "exp")},
    **{f"{prefix}{name}": f"a{name}" for name in _INVERTIBLE.split() for prefix in ("a", "arc")},
    **{"abs": "abs", "log10": "lg"},
}
"""Functions of one argument: as they are written, and sympy's names."""
_PLAIN = {
    **{name: name for name in (*FUNCTIONS, *GREEK, "sqrt", "frac")},
    **{"infinity": "infty", "inf": "infty", "oo": "infty", "cbrt": "cbrt"},
}
_SHORT_WORDS = "as at be by do go he if in is it me my no of on or so to up us we am an pm cm mm km ft kg"
_NO_PRODUCT = frozenset(_SHORT_WORDS.split())


class Token(NamedTuple):
    """`kind` is number, command, letter or symbol; the text of a command has no backslash."""

    kind: str
    text: str
    start: int


def tokenize(text: str) -> list[Token] | None:
    """The tokens of the whole text; None if a part of it is not mathematics.

    Letters side by side are a product, as in xy, unless they may be a word.
    """
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        kind, found, start = str(match.lastgroup), match[0], position
        position = match.end()
        if kind == "space":
            continue
        if kind == "letters":
            parts = _split_letters(found, start)
            if parts is None:
                return None
            tokens += parts
        elif kind == "command":
            tokens.append(Token("command", found[1:], start))
        elif (
            kind == "number"
            and tokens[-1:]
            and tokens[-1].kind == "number"
            and (len(tokens) < 2 or tokens[-2].text != "_")
        ):
            return None  # "3 4" is no product, but \log_2 5 a logarithm
        else:
            tokens.append(Token(kind, {"**": "^"}.get(found, found), start))
    return tokens


def _split_letters(letters: str, start: int) -> list[Token] | None:
    if letters.casefold() in _PLAIN:
        return [Token("command", _PLAIN[letters.casefold()], start)]
    for length in (6, 4, 3, 2):  # sinx
        if letters[:length] in FUNCTIONS and len(letters) == length + 1:
            return [Token("command", letters[:length], start), Token("letter", letters[length:], start + length)]
    in_order = len(set(letters)) == len(letters) and list(letters) == sorted(letters)
    if len(letters) > 2 and not (in_order and ord(letters[-1]) - ord(letters[0]) < len(letters) + 1):
        return None
    if letters.casefold() in _NO_PRODUCT:
        return None
    return [Token("letter", c, start + i) for i, c in enumerate(letters)]
