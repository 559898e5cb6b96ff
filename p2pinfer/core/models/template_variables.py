"""The values that a chat template is given: messages, and variables as `enable_thinking` (manifest.md, 4.4)."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from p2pinfer.core.values.errors import UsageError

ChatMessage = Mapping[str, Any]  # `role` and `content`; a template may look at more
Variable = bool | int | float | str | None
NO_VARIABLES: Final[Mapping[str, Variable]] = {}

# What every template gets, whoever asks
OWN: Final = frozenset(
    (
        *("messages", "add_generation_prompt", "tools", "documents", "strftime_now", "raise_exception"),
        *("bos_token", "eos_token", "unk_token", "pad_token"),
    )
)
MAX_VARIABLE: Final = (1 << 63) - 1  # the largest whole number; as low as one below its negative


def check_variables(variables: Mapping[str, Variable]) -> None:
    """Raise UsageError for what cannot be a variable of a template, or is not for others to set."""
    if not isinstance(variables, Mapping):
        raise UsageError(f"template_vars are names and values, not {variables!r:.80}")
    for name, value in variables.items():
        if not (isinstance(name, str) and name.isidentifier()):
            raise UsageError(f"{name!r:.80} is not a name for a template's variable")
        if name in OWN:
            raise UsageError(f"{name} is what a template gets from p2pinfer; it cannot be set")
        if not isinstance(value, bool | int | float | str | None):
            raise UsageError(f"a template's variable is true, false, a number or a text: {name} is {value!r:.80}")
        if isinstance(value, int) and not -MAX_VARIABLE - 1 <= value <= MAX_VARIABLE:
            raise UsageError(f"{name} is a number of more than 64 bits")


def check_looked_at(variables: Collection[str], looked_at: Collection[str]) -> None:
    """Raise UsageError for a variable that the template does not look at: it would change nothing."""
    if unknown := sorted(set(variables) - set(looked_at)):
        known = ", ".join(sorted(set(looked_at) - OWN)) or "none"
        raise UsageError(f"the model's chat template does not look at {unknown[0]}; it looks at: {known}")
