"""Functions of text: normalization, words, language and domain. No I/O."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

from ..recipe import Normalise
from ..records import Message

_LINE_ENDS = re.compile("\r\n?|\x85|\u2028|\u2029")
_ZERO_WIDTH = re.compile("[\u00ad\u200b\u2060\ufeff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")

_KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_HANGUL = "\u1100-\u11ff\uac00-\ud7af"
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CJK = _KANA + _HANGUL + _HAN
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_SPACE = re.compile(r"\s+")
# A hyphen after a letter joins words; any other is an operator.
_QUANTITY = re.compile(r"\d+(?:[.,]\d+)*|[+*/=<>^%&|!√∫∑∏≤≥≠±×÷]|(?<![^\W\d_])[-−]")


def normalise(text: str, config: Normalise) -> str | None:
    """The normalized text, or None if it contains a control character and the configuration refuses those.

    Normalizing twice changes nothing.
    """
    if config.line_ends:
        text = _LINE_ENDS.sub("\n", text)
    if _CONTROL.search(text):
        if config.control == "reject":
            return None
        if config.control == "remove":
            text = _CONTROL.sub("", text)
    if not text.isascii():
        if config.zero_width == "remove":
            text = _ZERO_WIDTH.sub("", text)
        if config.form != "keep":
            text = unicodedata.normalize(config.form, text)
    if config.trailing_space:
        if " \n" in text or "\t\n" in text:
            text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
        text = text.rstrip(" \t\n")
    return text


def words(text: str) -> list[str]:
    """The words of a text, for comparisons: NFKC, without case and punctuation.

    Each Chinese, Japanese or Korean character is one word. In a text without words, each character is one.
    """
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
    else:
        found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return found or list(_SPACE.sub("", text))


def hash_words(parts: Sequence[str]) -> bytes:
    """Hash of a sequence of words, 8 bytes."""
    return blake2b(" ".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def quantities(text: str) -> list[str]:
    """Numbers and operators in order. They distinguish arithmetic problems that have the same words."""
    return _QUANTITY.findall(text if text.isascii() else unicodedata.normalize("NFKC", text))


def content(messages: Sequence[Message]) -> str:
    """A conversation as one text, without the system message, which many prompts share."""
    return "\n".join(m["content"] for m in messages if m["role"] != "system")


def language(text: str) -> str:
    """ISO 639-1 code, or `und` for text without letters.

    Chinese, Japanese and Korean are recognized by their scripts, if these make up half of the letters. Other languages
    are classified by py3langid (naive Bayes over byte n-grams, 97 languages, with the model in its wheel).
    """
    letters = [c for c in text[:2000] if c.isalpha()]
    if not letters:
        return "und"
    sample = "".join(letters)
    if not sample.isascii():
        kana, hangul, han = (len(re.findall(f"[{script}]", sample)) for script in (_KANA, _HANGUL, _HAN))
        if 2 * (kana + hangul + han) >= len(sample):
            if hangul > kana + han:
                return "ko"
            return "ja" if 10 * kana > han else "zh"
    from py3langid import classify

    return str(classify(text[:2000])[0])


def domain(messages: Sequence[Message], gold: str | None, tests: str | None) -> str:
    """Domain of a row that names none: code (has `tests`), math (has `gold`), chinese (by script) or instruction."""
    if (tests or "").strip():
        return "code"
    if (gold or "").strip():
        return "math"
    letters = "".join(c for c in content(messages)[:2000] if c.isalpha())
    han, kana = (len(re.findall(f"[{script}]", letters)) for script in (_HAN, _KANA))
    return "chinese" if letters and 2 * han >= len(letters) and 10 * kana <= han else "instruction"
