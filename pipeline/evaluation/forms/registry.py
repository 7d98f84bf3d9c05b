"""All forms by name."""

from __future__ import annotations

from .code_sets import CODE
from .form import Form
from .judged import JUDGED
from .math_sets import MATH

FORMS: dict[str, Form] = {**MATH, **CODE, **JUDGED}
"""Name of a form (`SuiteForm`) -> its format."""
