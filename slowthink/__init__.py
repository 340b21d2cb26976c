"""slowthink: curate reasoning data, train a slow-thinking model, and evaluate it under budgets.

    import slowthink as st

    with st.load_model("smollm2-135m") as model:
        print(model.think("What is 17 + 25?", max_thinking_tokens=64, waits=1))

The names in `__all__` are public (docs/api.md); provisional until version 1.0. Each is loaded when
it is first used: importing slowthink loads no other package.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # not from typing: a file of that name may lie in the working folder
if TYPE_CHECKING:
    from slowthink.api.answers import extract_answer, grade
    from slowthink.api.curve import Curve
    from slowthink.api.figures import Comparison, Estimate, compare, maj_at_k, pass_at_k
    from slowthink.api.model import Model, Thought, load_model
    from slowthink.api.problems import find_duplicates, find_leaks, load_problems, select
    from slowthink.api.rows import Rows
    from slowthink.api.runs import Run, run
    from slowthink.engines.transformers.thinking_budget import ThinkingBudget
    from slowthink.environment import __version__
    from slowthink.errors import ConfigError, DataError, EngineError, GraderError, SlowthinkError
    from slowthink.records import Grade, Problem, Trace, Verdict

__all__ = [
    "Comparison",
    "ConfigError",
    "Curve",
    "DataError",
    "EngineError",
    "Estimate",
    "Grade",
    "GraderError",
    "Model",
    "Problem",
    "Rows",
    "Run",
    "SlowthinkError",
    "ThinkingBudget",
    "Thought",
    "Trace",
    "Verdict",
    "__version__",
    "compare",
    "extract_answer",
    "find_duplicates",
    "find_leaks",
    "grade",
    "load_model",
    "load_problems",
    "maj_at_k",
    "pass_at_k",
    "run",
    "select",
]

_NAMES = {
    "api.answers": ("extract_answer", "grade"),
    "api.curve": ("Curve",),
    "api.figures": ("Comparison", "Estimate", "compare", "maj_at_k", "pass_at_k"),
    "api.model": ("Model", "Thought", "load_model"),
    "api.problems": ("find_duplicates", "find_leaks", "load_problems", "select"),
    "api.rows": ("Rows",),
    "api.runs": ("Run", "run"),
    "engines.transformers.thinking_budget": ("ThinkingBudget",),
    "environment": ("__version__",),
    "errors": ("ConfigError", "DataError", "EngineError", "GraderError", "SlowthinkError"),
    "records": ("Grade", "Problem", "Trace", "Verdict"),
}
"""Public names by module; the imports above are the same, for type checkers."""
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        from slowthink.errors import did_you_mean

        hint = "" if name.startswith("_") else did_you_mean(name, __all__)
        raise AttributeError(f"module `slowthink` has no attribute `{name}`{hint}")
    try:
        value = getattr(importlib.import_module(f"slowthink.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        from slowthink.errors import missing_extra

        raise missing_extra(error.name, extra="local") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
