"""Families of tiny Python functions; the tests' expected values come from running the reference solution.

A family is one `CodeFamily`: what to ask, which solution to run (`{k}` stands for the drawn parameter), and
the inputs of the tests, edge case first. A row draws a parameter, a name for the function and a wording.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

SUFFIX = " Answer with only a Python code block."

NUMBERS: tuple[object, ...] = ([], [7], [1, 2, 3, 4, 5, 6], [10, 3, 8, 12, 5, 20, 15], [-4, 0, 9, 2, 6, 30])
INTEGERS = (0, 1, 6, 10, 25, -3)
WORDS: tuple[object, ...] = (
    [],
    ["sun"],
    ["apple", "fig", "banana", "kiwi", "cherry"],
    ["a", "to", "tree", "house", "window"],
)
SMALL = (2, 3, 4, 5, 6, 7, 8, 9, 10)
LETTERS = tuple("aeotnl")
TEXTS = ("", "a", "banana split", "Hello there, old tree", "one two three")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFamily:
    """One kind of function: `ask` completes "Write a Python function `name(argument)` that ..."."""

    name: str
    argument: str = "numbers"
    functions: tuple[str, ...]
    """Names that the function may get in a row."""
    ask: tuple[str, ...]
    """Ways to say the same thing."""
    body: str
    """Expression that the reference solution returns."""
    inputs: tuple[object, ...] = NUMBERS
    parameters: tuple[object, ...] = SMALL
    """Values of `{k}`."""

    def draw(self, rng: Random) -> tuple[str, str, str]:
        """One (prompt, entry point, reference solution) of the family."""
        value, function, ask = rng.choice(self.parameters), rng.choice(self.functions), rng.choice(self.ask)
        function = function.format(k=value)
        body = self.body.format(k=value)
        prompt = f"Write a Python function `{function}({self.argument})` that {ask.format(k=value)}.{SUFFIX}"
        return prompt, function, f"def {function}({self.argument}):\n    return {body}\n"


def assertions(entry_point: str, solution: str, inputs: tuple[object, ...]) -> str:
    """Assert lines, one an input, holding what the reference solution returns for it."""
    scope: dict[str, object] = {}
    exec(solution, scope)  # noqa: S102 - our own text, see `body` above
    function = scope[entry_point]
    assert callable(function)
    return "\n".join(f"assert {entry_point}({value!r}) == {function(value)!r}" for value in inputs)


SEEN: tuple[CodeFamily, ...] = (
    CodeFamily(
        name="multiply_each",
        functions=("multiply_each", "scale_list", "times_{k}", "multiply_all"),
        ask=(
            "returns a list with every number multiplied by {k}",
            "multiplies every element of the list by {k} and returns the new list",
        ),
        body="[number * {k} for number in numbers]",
    ),
    CodeFamily(
        name="add_to_each",
        functions=("add_to_each", "shift_list", "plus_{k}", "increase_all"),
        ask=(
            "returns a list with {k} added to every number",
            "adds {k} to every element of the list and returns the new list",
        ),
        body="[number + {k} for number in numbers]",
    ),
    CodeFamily(
        name="count_greater",
        functions=("count_greater", "count_above", "count_over_{k}", "how_many_above"),
        ask=(
            "returns how many numbers in the list are greater than {k}",
            "counts the numbers in the list that are greater than {k}",
        ),
        body="sum(1 for number in numbers if number > {k})",
    ),
    CodeFamily(
        name="count_divisible",
        functions=("count_divisible", "count_multiples", "count_by_{k}", "num_divisible"),
        ask=(
            "returns how many numbers in the list are divisible by {k}",
            "counts the numbers in the list that are divisible by {k}",
        ),
        body="sum(1 for number in numbers if number % {k} == 0)",
    ),
    CodeFamily(
        name="keep_greater",
        functions=("keep_greater", "filter_above", "only_over_{k}", "greater_than"),
        ask=(
            "returns a list of the numbers that are greater than {k}",
            "keeps only the numbers greater than {k} and returns them as a list",
        ),
        body="[number for number in numbers if number > {k}]",
    ),
    CodeFamily(
        name="keep_divisible",
        functions=("keep_divisible", "filter_multiples", "multiples_of_{k}", "only_divisible"),
        ask=(
            "returns a list of the numbers that are divisible by {k}",
            "keeps only the numbers divisible by {k} and returns them as a list",
        ),
        body="[number for number in numbers if number % {k} == 0]",
    ),
    CodeFamily(
        name="power_of",
        argument="n",
        functions=("power", "raise_it", "power_{k}", "to_the_power"),
        ask=("returns n to the power of {k}", "raises n to the power of {k} and returns the result"),
        body="n ** {k}",
        inputs=(0, 1, 2, 3, -2),
    ),
    CodeFamily(
        name="times_plus",
        argument="n",
        functions=("compute", "formula", "times_{k}_plus_one", "calculate"),
        ask=("returns {k} times n plus 1", "multiplies n by {k}, adds 1 and returns the result"),
        body="{k} * n + 1",
        inputs=INTEGERS,
    ),
    CodeFamily(
        name="first_letters",
        argument="text",
        functions=("first_letters", "shorten", "first_{k}", "take_start"),
        ask=(
            "returns the first {k} characters of the text",
            "shortens the text to its first {k} characters and returns it",
        ),
        body="text[:{k}]",
        inputs=TEXTS,
    ),
    CodeFamily(
        name="last_letters",
        argument="text",
        functions=("last_letters", "ending", "last_{k}", "take_end"),
        ask=(
            "returns the last {k} characters of the text",
            "returns only the last {k} characters of the text",
        ),
        body="text[-{k}:]",
        inputs=TEXTS,
    ),
    CodeFamily(
        name="repeat_text",
        argument="text",
        functions=("repeat", "repeat_text", "repeat_{k}_times", "copy_text"),
        ask=("returns the text repeated {k} times", "repeats the text {k} times and returns the result"),
        body="text * {k}",
        inputs=TEXTS,
    ),
    CodeFamily(
        name="count_letter",
        argument="text",
        functions=("count_letter", "letter_count", "count_{k}", "how_many_{k}"),
        ask=(
            "returns how many times the letter '{k}' appears in the text",
            "counts how often the letter '{k}' occurs in the text",
        ),
        body="text.count('{k}')",
        inputs=TEXTS,
        parameters=LETTERS,
    ),
    CodeFamily(
        name="count_equal",
        functions=("count_equal", "how_often", "count_number_{k}", "occurrences"),
        ask=(
            "returns how many times the number {k} appears in the list",
            "counts how often the number {k} occurs in the list",
        ),
        body="numbers.count({k})",
    ),
    CodeFamily(
        name="drop_first",
        argument="items",
        functions=("drop_first", "skip_items", "without_first_{k}", "skip_start"),
        ask=(
            "returns the list without its first {k} elements",
            "skips the first {k} elements of the list and returns the rest",
        ),
        body="items[{k}:]",
    ),
    CodeFamily(
        name="cap_at",
        argument="n",
        functions=("cap", "limit", "cap_at_{k}", "at_most"),
        ask=(
            "returns n if n is less than {k} and {k} otherwise",
            "returns the smaller of n and {k}",
        ),
        body="min(n, {k})",
        inputs=(*INTEGERS, 2, 5, 8),
    ),
    CodeFamily(
        name="replace_letter",
        argument="text",
        functions=("replace_letter", "hide_letter", "hide_{k}", "mask"),
        ask=(
            "replaces every letter '{k}' in the text with '*' and returns the result",
            "returns the text with each '{k}' replaced by '*'",
        ),
        body="text.replace('{k}', '*')",
        inputs=TEXTS,
        parameters=LETTERS,
    ),
)

UNSEEN: tuple[CodeFamily, ...] = (
    CodeFamily(
        name="long_words",
        argument="words",
        functions=("long_words", "keep_long"),
        ask=("returns a list of the words that have more than {k} letters",),
        body="[word for word in words if len(word) > {k}]",
        inputs=WORDS,
        parameters=(2, 3, 4, 5),
    ),
    CodeFamily(
        name="subtract_each",
        functions=("subtract_each", "lower_all"),
        ask=("returns a list with {k} subtracted from every number",),
        body="[number - {k} for number in numbers]",
    ),
    CodeFamily(
        name="count_less",
        functions=("count_less", "count_below"),
        ask=("returns how many numbers in the list are less than {k}",),
        body="sum(1 for number in numbers if number < {k})",
    ),
    CodeFamily(
        name="sum_divisible",
        functions=("sum_divisible", "sum_multiples"),
        ask=("returns the sum of all numbers that are divisible by {k}",),
        body="sum(number for number in numbers if number % {k} == 0)",
    ),
    CodeFamily(
        name="first_items",
        argument="items",
        functions=("first_items", "take"),
        ask=("returns the first {k} elements of the list",),
        body="items[:{k}]",
        parameters=(2, 3, 4, 5),
    ),
    CodeFamily(
        name="contains_number",
        functions=("contains", "has_number"),
        ask=("returns True if {k} is in the list and False otherwise",),
        body="{k} in numbers",
    ),
    CodeFamily(
        name="square_plus",
        argument="n",
        functions=("square_plus", "shifted_square"),
        ask=("returns the square of n plus {k}",),
        body="n ** 2 + {k}",
        inputs=INTEGERS,
    ),
    CodeFamily(
        name="remove_letter",
        argument="text",
        functions=("remove_letter", "drop_letter"),
        ask=("returns the text without the letter '{k}'",),
        body="text.replace('{k}', '')",
        inputs=TEXTS,
        parameters=LETTERS,
    ),
)
