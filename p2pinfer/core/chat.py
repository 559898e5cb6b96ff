"""Chat messages to the text a model was trained on, by the model's own template (protocols/manifest.md, 4).

Templates are programs in Jinja's language by whoever made the model, so they run in Jinja's sandbox and see nothing
but the messages; how long they run and how much they write is not bounded. What transformers offers to templates is
here, except the clock: a template that asks for the date gets none.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.environment import Template
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from p2pinfer.core.errors import ModelError, UsageError

ROLES: Final = frozenset({"system", "user", "assistant", "tool", "developer"})

ChatMessage = Mapping[str, str]  # `role` and `content`


class ChatTemplate:
    """One model's template, ready to use.

    Raises:
        ModelError: it is no template.
    """

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        self._names = {"bos_token": bos, "eos_token": eos}
        try:
            self._template: Template = _environment().from_string(source)
        except TemplateError as error:
            raise ModelError(f"the model's chat template is broken: {error}") from None

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The text of a conversation, ready for the model's answer.

        Raises:
            UsageError: the template does not take these messages; the reason is the template's own.
        """
        _check(messages)
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                tools=None,
                documents=None,
                **self._names,
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"the model's chat template does not take these messages: {error}") from None
        except RecursionError:
            raise UsageError("the model's chat template never ends") from None


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


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json  # Jinja's own escapes HTML
    environment.globals["raise_exception"] = _raise
    return environment


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
