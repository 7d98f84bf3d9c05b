"""All forms by name."""

from __future__ import annotations

from .choice_sets import CHOICES
from .code_sets import CODE
from .instruction_sets import INSTRUCTIONS
from .judged import JUDGED
from .livebench import LIVEBENCH
from .livecodebench import LIVECODEBENCH
from .math_sets import MATH
from .set_form import Form

FORMS: dict[str, Form] = {
    **MATH,
    **CODE,
    **CHOICES,
    **INSTRUCTIONS,
    **JUDGED,
    "livecodebench": LIVECODEBENCH,
    "livebench": LIVEBENCH,
}
"""Name of a form (`SuiteForm`) -> its format."""
