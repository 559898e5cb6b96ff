"""Chat messages to the text a model was trained on, by the model's own template (protocols/manifest.md, 4.4).

Templates are programs in Jinja's language by whoever made the model, so they run in Jinja's sandbox and see nothing but
the messages. They find here what transformers offers to templates. This module bounds how deep a template nests, how
large a product it makes and how much it writes; its callers bound how long it runs.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

from jinja2 import TemplateError, meta, nodes
from jinja2.environment import Template
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from p2pinfer.core.models.template_variables import (
    NO_VARIABLES,
    ChatMessage,
    Variable,
    check_looked_at,
    check_variables,
)
from p2pinfer.core.values.errors import ModelError, UsageError

ROLES: Final = frozenset({"system", "user", "assistant", "tool", "developer"})
MAX_RENDERED: Final = 1 << 26  # characters that a template may write; a context of a million positions has less
MAX_PRODUCT: Final = 1 << 20  # items of a sequence, or bits of a number, that one operation may make
SAMPLE: Final = ({"role": "user", "content": "Hello"},)  # a conversation that every template takes


class ChatTemplate:
    """One model's template, ready to use.

    names: of control tokens, by the variables that templates know them by
    words: the template's own: what it looks for in messages is one of them

    Raises:
        ModelError: it is no template.
    """

    def __init__(self, source: str, names: Mapping[str, str] | None = None) -> None:
        self._names = dict(names or {})
        try:
            environment = _environment()
            self._template: Template = environment.from_string(source)
            parsed = environment.parse(source)
            self.words: Final = _words(parsed)
            self._looked_at = meta.find_undeclared_variables(parsed) - environment.globals.keys()
        except Exception as error:  # noqa: BLE001 - whatever Jinja makes of somebody else's program
            raise ModelError(f"the model's chat template is broken: {_reason(error)}") from None

    def render(
        self,
        messages: Sequence[ChatMessage],
        now: datetime | None = None,
        variables: Mapping[str, Variable] = NO_VARIABLES,
    ) -> str:
        """The text of a conversation, ready for the model's answer.

        now:       the date, for templates that ask for it; without one, they are told that there is no clock
        variables: of the template, that whoever asks sets

        Raises:
            UsageError: the template does not take these messages, the reason being its own, or does not look at one of
                the variables.
        """
        _check(messages)
        check_variables(variables)
        check_looked_at(variables, self._looked_at)
        clock = {} if now is None else {"strftime_now": now.strftime}
        try:
            return _joined(
                self._template.generate(
                    messages=[dict(message) for message in messages],
                    add_generation_prompt=True,
                    tools=None,
                    documents=None,
                    **self._names,
                    **clock,
                    **variables,
                )
            )
        except Exception as error:  # noqa: BLE001 - it is somebody else's program, and may fail in any way
            raise UsageError(f"the model's chat template does not take these messages: {_reason(error)}") from None


def _words(template: nodes.Template) -> frozenset[str]:
    """The strings of a template, and the names that it looks up."""
    strings = {one.value for one in template.find_all(nodes.Const) if isinstance(one.value, str)}
    return frozenset(strings | {one.attr for one in template.find_all(nodes.Getattr)})


def fault_of(source: str, now: datetime) -> str:
    """The reason that a template renders no chat; empty where it does."""
    try:
        ChatTemplate(source).render(SAMPLE, now)
    except UsageError as error:
        return str(error)
    return ""


def _joined(pieces: Any) -> str:
    """The pieces together, up to a bound."""
    parts, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_RENDERED:
            raise TemplateError(f"it writes more than {MAX_RENDERED} characters")
        parts.append(piece)
    return "".join(parts)


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deep, or never ends"
    return str(error) or type(error).__name__


def _check(messages: Sequence[ChatMessage]) -> None:
    if not messages:
        raise UsageError("a chat needs at least one message")
    for message in messages:
        if message.get("role") not in ROLES:
            raise UsageError(f"role {message.get('role')!r} is none of {', '.join(sorted(ROLES))}")
        if not isinstance(message.get("content"), str):
            raise UsageError(f"a {message['role']} message needs its content as text")


class _Generation(Extension):
    """`{% generation %}`: marks the model's own words for training; here it is transparent."""

    tags = {"generation"}  # noqa: RUF012 - so declared by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, whose operations cannot make much out of little."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and _product(left, right) > MAX_PRODUCT:
            raise TemplateError("a product is too large")
        if operator == "**" and _bits(left) * max(1, abs(right)) > MAX_PRODUCT:
            raise TemplateError("a power is too large")
        return super().call_binop(context, operator, left, right)


def _product(left: Any, right: Any) -> int:
    """Items, or bits, of a product."""
    if isinstance(left, int | float) and isinstance(right, int | float):
        return _bits(left) + _bits(right)
    count, items = (left, right) if isinstance(left, int) else (right, left)
    return int(count) * len(items)


def _bits(number: Any) -> int:
    return number.bit_length() if isinstance(number, int) else 64


def _environment() -> _Environment:
    # Unoptimised: else products of constants are made while the template is read, whatever their size
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation], optimized=False
    )
    environment.filters["tojson"] = _to_json  # Jinja's own escapes HTML
    environment.globals["raise_exception"] = _raise
    environment.globals.pop("lipsum")  # draws, and makes as much text as it is asked for
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
