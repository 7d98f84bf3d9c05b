"""Typography of answers: Unicode symbols become LaTeX, and each LaTeX command one of its spellings."""

from __future__ import annotations

import re
import unicodedata

_RAISED = {
    **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix", strict=True)),
    "⸍": "/",
}
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₓ", "0123456789+-()nx", strict=True))
_RAISED_RUN = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(f"[{''.join(_LOWERED)}]+")
_GREEK_LETTERS = "αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΠΣΦΨ"
_GREEK_NAMES = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega
    Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi
"""
_COMMANDS = {
    **{"×": "times", "·": "cdot", "⋅": "cdot", "∙": "cdot", "∞": "infty", "∪": "cup", "∩": "cap", "±": "pm", "∓": "mp"},
    **{"≤": "le", "≥": "ge", "⩽": "le", "⩾": "ge", "≠": "ne", "≈": "approx", "≃": "approx", "∅": "emptyset"},
    **{"∈": "in", "∖": "setminus", "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil", "⟨": "langle"},
    **{"⟩": "rangle", "⇒": "implies", "→": "to", "∠": "angle", "\u2126": "Omega", "\u03a9": "Omega"},
    **{"ϕ": "phi", "ℓ": "ell"},
    **dict(zip(_GREEK_LETTERS, _GREEK_NAMES.split(), strict=True)),
    "π": "pi",
}  # fmt: skip
# NFKC would merge these with their neighbors, or turn them into other letters.
_SYMBOLS = {
    **{c: f"\\{name} " for c, name in _COMMANDS.items()},
    **dict(zip("ℝℤℕℚℂ", (f"\\mathbb{{{c}}}" for c in "RZNQC"), strict=True)),
    **dict.fromkeys("−–‒‐‑﹣", "-"),
    **dict.fromkeys("°º˚", r"^\circ "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad✅✓✔☑", ""),
    **{
        "√": r"\sqrt ",
        "∛": r"\sqrt[3] ",
        "÷": "/",
        "∕": "/",
        "∶": ":",
        "’": "'",
        "‘": "'",
        "′": "'",
        "∣": "|",
        "∗": "*",
    },
}
_FRACTIONS = re.compile("[\u00bc-\u00be\u2150-\u215e\u2189]")
_DOLLAR = "\ue000"
_TRANSLATION = str.maketrans(_SYMBOLS)

_SPELLINGS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), r"\le"),
    **dict.fromkeys(("geq", "geqslant", "geqq"), r"\ge"),
    **{"lt": "<", "gt": ">", "colon": ":", "div": "/", "ast": "*", "percent": "%", "textdollar": "$", "pounds": "£"},
    **dict.fromkeys(("varnothing", "O"), r"\emptyset"),
    **dict.fromkeys(("lvert", "rvert", "vert", "mid"), "|"),
    **{
        "neq": r"\ne",
        "lbrace": r"\{",
        "rbrace": r"\}",
        "lbrack": "[",
        "rbrack": "]",
        "lparen": "(",
        "rparen": ")",
        "euro": "€",
        "yen": "¥",
    },
    **dict.fromkeys(("dots", "cdots", "dotsc", "dotsb"), r"\ldots"),
    **dict.fromkeys(("approxeq", "simeq", "thickapprox", "doteq"), r"\approx"),
    **dict.fromkeys(("Rightarrow", "Longrightarrow", "iff", "longrightarrow"), r"\implies"),
    **dict.fromkeys(("degree", "textdegree"), r"^\circ"),
    **dict.fromkeys(("land", "wedge"), " and "),
    **dict.fromkeys(("lor", "vee"), " or "),
    **{"bigcup": r"\cup", "infin": r"\infty", "varphi": r"\phi", "varepsilon": r"\epsilon", "vartheta": r"\theta"},
    **{"backslash": r"\setminus", "smallsetminus": r"\setminus", "exponentialE": "e", "imath": "i", "lnot": " not "},
}
_FONTS = "mathbf|mathit|mathsf|mathtt|mathcal|boldsymbol|bm|ensuremath|underline|mathopen|mathclose|fbox|boxed|mathord"
_TEXT = "text|textbf|textit|textrm|textsf|texttt|textnormal|textup|mbox|hbox|mathrm|operatorname\\*?|emph"
_DROPPED = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|left|right|middle|[bB]igg?[lrm]?|quad|qquad|enspace|thinspace"
    r"|tiny|small|normalsize|large|Large|LARGE|huge|Huge|bf|rm|it|sf|tt|bfseries|centering|boldmath|therefore|because)"
    r"(?![a-zA-Z])\.?"
    r"|\\(?:hspace|vspace|phantom|hphantom|vphantom|label|tag)\*?\s*\{[^{}]*\}"
    r"|\\(?:(?:text)?color|colorbox)\s*\{[^{}]*\}"
)
_ENVIRONMENT = re.compile(
    r"\\begin\{((?:align(?:ed)?|equation|gather(?:ed)?|split|multline|math|displaymath)\*?)\}(.*?)\\end\{\1\}",
    re.DOTALL,
)
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_TEXT_GROUP = re.compile(rf"\\(?:{_TEXT})\s*\{{([^{{}}]*)\}}")
_FONT_GROUP = re.compile(rf"\\(?:{_FONTS})(?:\s*\{{([^{{}}]*)\}}|(?![a-zA-Z]))")
_NAMES = "e i d ln log lg sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh exp max min gcd lcm"
_MATH_NAMES = frozenset(_NAMES.split())


def normalize(text: str) -> str:
    """Normalizes the text with NFKC, so full-width digits become digits; mathematical symbols become LaTeX."""
    if text.isascii():
        return text
    text = _FRACTIONS.sub(lambda m: _fraction(m[0]), text)
    text = _RAISED_RUN.sub(lambda m: f"^{{{''.join(_RAISED[c] for c in m[0])}}}", text)
    text = _LOWERED_RUN.sub(lambda m: f"_{{{''.join(_LOWERED[c] for c in m[0])}}}", text)
    text = unicodedata.normalize("NFKC", text.translate(_TRANSLATION))
    return text.replace("\u2044", "/")


def _fraction(character: str) -> str:
    """½ as LaTeX, so that 2½ is a mixed number and not 21/2."""
    top, _, bottom = unicodedata.normalize("NFKC", character).partition("\u2044")
    return rf"\frac{{{top}}}{{{bottom}}}" if bottom else character


def clean_answer(text: str) -> str:
    """Removes typography from an answer: delimiters, bold, fonts, colors, thin spaces, final punctuation.

    Words that stand in a text command behind something else stay in it, as `\\text{...}`: it distinguishes the unit of
    `5\\text{ m}` from the variable of `5m`.
    """
    text = (
        text.replace("{,}", ",")
        .replace("\\!", "")
        .replace("\\not=", "\\ne ")
        .replace("\\$", _DOLLAR)
        .replace("\\%", "%")
    )
    text = re.sub(r"(?<=\d)\\[,!;: ]\s?(?=\d{3}(?!\d))", "", text)  # 1\,234
    text = re.sub(r"(?<!\\)\\(?:[,;: ]|\r?\n)|~(?!=)|(?<!\\)\\$", " ", text)
    text = re.sub(r"\$([^$]*)\$(?!\d)", r" \1 ", text.replace("$$", "$"))
    text = re.sub(r"\\\\\s*\[[\d.]*[a-z]*\]", r"\\\\ ", text)  # space between rows
    text = _ENVIRONMENT.sub(lambda m: m[2].replace("&", " "), text)
    text = re.sub(
        r"\{([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}|\bC\((\d+),\s*(\d+)\)", lambda m: _applied("binom", m), text
    )
    text = re.sub(r"\bC_\{?(\d+)\}?\s*\^\s*\{?(\d+)\}?", r"\\binom{\1}{\2}", text)
    text = re.sub(
        r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}|^([^{}]*)\\over(?![a-zA-Z])([^{}]*)$",
        lambda m: _applied("frac", m),
        text,
    )
    text = _repeat_cycle(_DROPPED.sub(" ", text))
    for _ in range(3):  # fonts inside fonts
        text = _FONT_GROUP.sub(lambda m: f" {m[1] or ''} ", text)
    text = _COMMAND.sub(lambda m: _SPELLINGS.get(m[1], m[0]), text)
    text = _TEXT_GROUP.sub(_keep_words, text)
    text = re.sub(r"(?<=[\w)])(?:\*\*| \*\* )(?=[\w(-])", "^", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]|`|\*\*|__", " ", text)
    text = re.sub(r"\$(?!\s*[-+]?[\d.])|(?<=\d)\$", " ", text)  # a dollar before a number is money
    text = text.replace(_DOLLAR, "$")
    text = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)", r"^\\circ ", text)
    text = re.sub(r"\s+", " ", text).replace(" ^", "^")
    text = re.sub(r"^\s*\\text\{([^{}]*)\}", r"\1 ", text)
    text = _trim(text)
    for _ in range(3):
        if not (text.startswith("{") and text.endswith("}") and _is_one_group(text)):
            break
        text = _trim(text[1:-1])
    return text


def plain(text: str) -> str:
    """The text with the words of its text commands."""
    return re.sub(r"\s+", " ", re.sub(r"\\text\{([^{}]*)\}", r"\1", text)).strip()


def _keep_words(match: re.Match[str]) -> str:
    words = match[1].strip()
    if words in _MATH_NAMES and "text" not in match[0][:5]:
        return f"\\{words} " if len(words) > 1 else f" {words} "
    if words.startswith("(") and words.endswith(")"):
        return f" {words} "
    if words.casefold() in ("and", "or", ",", ", and", ", or", ""):
        return f" {words} "
    if connective := re.fullmatch(r"(.*\w)(\s+(?:and|or)\s*)", match[1]):
        return f"\\text{{{connective[1]}}}{connective[2]} "
    return f"\\text{{{match[1]}}}"


def _applied(command: str, match: re.Match[str]) -> str:
    """The command with the match's two groups, or the next two, as its arguments."""
    top, bottom = (match[1], match[2]) if match[1] is not None else (match[3], match[4])
    return rf"\{command}{{{top}}}{{{bottom}}}"


def _repeat_cycle(text: str) -> str:
    """0.333... as a repeating decimal: three equal digits, or two equal groups, before dots."""
    dots = r"(?:\.\.\.|\\(?:ldots|dots|cdots)(?![a-zA-Z]))"
    return re.sub(rf"(\d\.\d{{0,6}}?)(?:(\d)\2\2+|(\d{{2,8}}?)\3+){dots}", r"\1\\overline{\2\3}", text)


def _trim(text: str) -> str:
    for _ in range(2):
        text = text.strip(' *"“”').rstrip(".,;:。、")
        if text.startswith("'"):
            text = text.strip("'")  # not the one of 5' or f'
    return text.strip(' *"“”')


def _is_one_group(text: str) -> bool:
    depth = 0
    for i, c in enumerate(text):
        depth += {"{": 1, "}": -1}.get(c, 0)
        if depth == 0:
            return i == len(text) - 1
    return False
