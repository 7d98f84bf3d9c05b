"""Parses a whole expression, in LaTeX or as plain text, into sympy.

math-verify compares the results. Its own parser is not used: it reads a prefix of some texts (`6\\sqrt(3)` as 6), drops
subscripts and degrees, and reads `2(3)` as 5. Here a text is parsed completely or not at all, and decimals are exact.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NoReturn

import sympy
from sympy import Expr, Integer, Symbol

from .arithmetic import UnreadableError, binomial, factorial, finite, number, raised, root
from .tokens import FUNCTIONS, Token, tokenize
from .words import GREEK

MAX_CHARS = 400
MAX_DEPTH = 40
_ACCENT_NAMES = "vec hat bar overline overrightarrow tilde widehat widetilde dot overarc"
_ACCENTS = frozenset(_ACCENT_NAMES.split())
_NAMED = frozenset(("angle", "triangle"))
_CAPITALS = "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar"
_LETTER_COMMANDS = GREEK.union(_CAPITALS.split()) - {"pi"}
_NO_FACTOR = (r"\cdot", r"\times", r"\}", r"\circ", r"\rfloor", r"\rceil")
_CLOSING = {"(": ")", "{": "}", "[": "]", "\\{": "\\}"}


@lru_cache(maxsize=4096)
def parse_expression(text: str) -> Expr | None:
    """The value of the whole text; None if a part of it is not mathematics, or if its value is too large."""
    if len(text) > MAX_CHARS:
        return None
    tokens = tokenize(text)
    if not tokens:
        return None
    try:
        return _Parser(text, tokens).whole()
    except UnreadableError:
        return None


class _Parser:
    """Recursive descent: sum, product, power, atom. Each method leaves `position` behind what it has read."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.bars = 0
        self.in_trigonometry = False

    def whole(self) -> Expr:
        value = self.sum()
        if self.position < len(self.tokens):
            self.fail()
        return finite(value)

    def fail(self) -> NoReturn:
        raise UnreadableError(self.text)

    def peek(self, ahead: int = 0) -> str:
        """The next token; a command with its backslash. Empty at the end."""
        if self.position + ahead >= len(self.tokens):
            return ""
        token = self.tokens[self.position + ahead]
        return f"\\{token.text}" if token.kind == "command" else token.text

    def kind(self, ahead: int = 0) -> str:
        return self.tokens[self.position + ahead].kind if self.position + ahead < len(self.tokens) else ""

    def take(self, *texts: str) -> str:
        """Skips the next token if it is one of these, and returns it; else an empty text."""
        found = self.peek()
        if found and (not texts or found in texts):
            self.position += 1
            return found
        return ""

    def expect(self, text: str) -> None:
        if not self.take(text):
            self.fail()

    def sum(self) -> Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail()
        terms = [self.product()]
        while sign := self.take("+", "-"):
            term = self.product()
            terms.append(term if sign == "+" else -term)
        self.depth -= 1
        return sympy.Add(*terms)

    def product(self) -> Expr:
        sign = 1
        while found := self.take("+", "-"):
            sign = -sign if found == "-" else sign
        start = self.position
        value = self.mixed_number() or self.power()
        divided = False
        while True:
            if self.take("*", r"\cdot", r"\times"):
                value, divided = value * self.signed_power(), False
            elif self.take("/"):
                fraction_of_digits = (
                    self.position == start + 2 and self.kind(-2) == "number" and self.kind() == "number"
                )
                value, divided = finite(value / self.signed_power()), not fraction_of_digits
            elif self.begins_factor():
                if divided or (self.kind() == "number" and self.peek(1) not in ("^", "!")):
                    self.fail()  # a/bc may be a/(bc) or (a/b)c, and x2 be x_2 or x^2
                value = value * self.power()
            else:
                return sign * value

    def signed_power(self) -> Expr:
        sign = -1 if self.take("-") else 1
        return sign * self.power()

    def mixed_number(self) -> Expr | None:
        """2\\frac{1}{2}; None for anything else."""
        if self.kind() != "number" or self.peek(1) != r"\frac":
            return None
        before = self.position
        whole = number(self.take())
        part = self.power()
        if not (whole.is_Integer and part.is_Rational and 0 < part < 1):
            self.position = before
            return None
        return whole + part

    def begins_factor(self) -> bool:
        found = self.peek()
        if self.kind() in ("number", "letter"):
            return True
        if found == "|":
            return self.bars == 0
        return found in ("(", "[", "{") or (self.kind() == "command" and found not in _NO_FACTOR)

    def power(self) -> Expr:
        value = self.atom()
        while True:
            if self.take("!"):
                if self.peek() == "!":
                    self.fail()
                value = factorial(value)
            elif self.peek() == "^":
                if self.peek(1) == r"\circ":
                    self.position += 2
                    value = value * sympy.pi / 180 if self.in_trigonometry else value
                    continue
                self.position += 1
                value = raised(value, self.exponent())
                if self.peek() == "^":
                    self.fail()
            else:
                return value

    def exponent(self) -> Expr:
        if self.peek() in ("{", "("):
            return self.group()
        sign = -1 if self.take("-") else 1
        return sign * self.atom()

    def group(self) -> Expr:
        opening = self.take("(", "{", "[", r"\{")
        if not opening:
            self.fail()
        bars, self.bars = self.bars, 0
        value = self.sum()
        self.expect(_CLOSING[opening])
        self.bars = bars
        return value

    def argument(self) -> Expr:
        """The argument of \\frac and \\sqrt: a group, or one digit or symbol (`\\frac12`)."""
        if self.peek() == "{":
            return self.group()
        token = self.tokens[self.position] if self.position < len(self.tokens) else None
        if token is not None and token.kind == "number" and len(token.text) > 1 and token.text.isdigit():
            self.tokens[self.position] = Token("number", token.text[1:], token.start + 1)
            return Integer(token.text[0])
        return self.atom()

    def atom(self) -> Expr:
        kind, found = self.kind(), self.peek()
        if kind == "number":
            self.position += 1
            if self.peek() == "_":
                self.fail()
            return number(found)
        if kind == "letter":
            return self.symbol()
        if found in ("(", "{", "["):
            return self.group()
        if found == "|":
            self.position += 1
            self.bars += 1
            value = self.sum()
            self.expect("|")
            self.bars -= 1
            return sympy.Abs(value)
        if kind == "command":
            return self.command()
        return self.fail()

    def symbol(self) -> Expr:
        start = self.tokens[self.position].start
        letter = self.take()
        name = letter.removeprefix("\\") + self.subscript()
        while self.take("'"):
            name += "'"
        if letter in "fghPFGQ" and self.peek() == "(":
            self.group()
            end = self.tokens[self.position - 1].start + 1
            name = re.sub(r"\s", "", self.text[start:end])
        return {"i": sympy.I, "e": sympy.E}.get(name) or Symbol(name, real=True)

    def subscript(self) -> str:
        if not self.take("_"):
            return ""
        if not self.take("{"):
            return "_" + (self.take().removeprefix("\\") or self.fail())
        parts = []
        while not self.take("}"):
            parts.append(self.take() or self.fail())
        return "_" + "".join(parts).replace("\\", "")

    def command(self) -> Expr:
        name = self.peek()[1:]
        if name in FUNCTIONS:
            return self.function()
        if name in _LETTER_COMMANDS:
            return self.symbol()
        start = self.tokens[self.position].start
        self.position += 1
        if name == "pi":
            return sympy.pi
        if name == "infty":
            return sympy.oo
        if name == "frac":
            top, bottom = self.argument(), self.argument()
            return finite(top / bottom)
        if name == "binom":
            return binomial(self.argument(), self.argument())
        if name in ("sqrt", "cbrt"):
            index = self.group() if name == "sqrt" and self.peek() == "[" else Integer(2 if name == "sqrt" else 3)
            value = self.group() if self.peek() in ("{", "(") else self.atom()
            return root(value, index)
        if name in ("lfloor", "lceil"):
            value = self.sum()
            self.expect(name.replace("l", "\\r", 1))
            return sympy.floor(value) if name == "lfloor" else sympy.ceiling(value)
        if name in _ACCENTS or name in _NAMED:
            depth, end = 0, start
            while self.position < len(self.tokens) and (depth or end == start or self.kind() == "letter"):
                found = self.take()
                depth += {"{": 1, "}": -1}.get(found, 0)
                end = self.tokens[self.position - 1].start + len(found)
                if not depth and name in _ACCENTS:
                    break
            return Symbol(re.sub(r"\s", "", self.text[start:end]), real=True)
        return self.fail()

    def function(self) -> Expr:
        name = FUNCTIONS[self.take()[1:]]
        exponent = base = None
        for _ in range(2):
            if self.peek() == "^" and exponent is None:
                self.position += 1
                exponent = self.exponent()
            elif self.peek() == "_" and name == "log" and base is None:
                self.position += 1
                base = self.argument()
        trigonometric, self.in_trigonometry = self.in_trigonometry, name not in ("ln", "log", "lg", "exp", "abs")
        value = self.group() if self.peek() in ("(", "{", "[") else self.bare_argument()
        self.in_trigonometry = trigonometric
        if exponent == -1 and name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh"):
            name, exponent = f"a{name}", None
        if name in ("ln", "log", "lg"):
            result = sympy.log(value) if name == "ln" else sympy.log(value, base or 10)
        else:
            result = sympy.Abs(value) if name == "abs" else getattr(sympy, name)(value)
        return finite(result if exponent is None else raised(result, exponent))

    def bare_argument(self) -> Expr:
        """The argument without parentheses: \\sin 2x is sin(2x), and ends before another function."""
        sign = -1 if self.take("-") else 1
        value = self.power()
        while self.begins_factor() and not (self.kind() == "command" and self.peek()[1:] in FUNCTIONS):
            if self.kind() == "number":
                self.fail()
            value = value * self.power()
        return sign * value
