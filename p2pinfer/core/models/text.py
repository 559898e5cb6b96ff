"""Text to ids and ids to text, by a model's tokenizer (protocols/manifest.md, 4).

Client and tail must read the same text from the same ids, because a stop string is looked for by the one and checked
by the other. So the text of ids has one definition here: every id stands for some bytes (a special id for none), and
the text is those bytes as UTF-8, where what is no UTF-8 becomes U+FFFD. It is the same however the ids are grouped.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from p2pinfer.core.models.control_names import ControlNames
from p2pinfer.core.models.detokenizer import Detokenizer
from p2pinfer.core.models.manifest import Manifest
from p2pinfer.core.models.spelling import spelling_of
from p2pinfer.core.models.template_variables import NO_VARIABLES, ChatMessage, Variable
from p2pinfer.core.models.tokenizer import read_tokenizer
from p2pinfer.core.values.errors import ModelError, UsageError

if TYPE_CHECKING:
    from p2pinfer.core.models.chat import ChatTemplate


class Texts:
    """A model's tokenizer and chat template.

    tokenizer: the bytes of the model's tokenizer.json

    Raises:
        ModelError: it is no tokenizer, or of a kind whose ids do not stand for bytes.
    """

    def __init__(self, tokenizer: bytes, manifest: Manifest | None = None) -> None:
        self._tokenizer = read_tokenizer(tokenizer)
        description = self._tokenizer.description
        spelling = spelling_of(description.get("decoder"))
        if spelling is None:
            raise ModelError("this kind of tokenizer is not supported: its ids do not stand for bytes")
        self._spelling = spelling
        added = description.get("added_tokens") or []
        self._special = {item["id"]: item["content"] for item in added if item["special"]}
        self._added: dict[int, str] = {item["id"]: item["content"] for item in added}
        self._bytes: dict[int, bytes] = {}
        self._names = _names(description)
        self._control = ControlNames(self._tokenizer)
        self._manifest = manifest
        self._template: ChatTemplate | None = None

    @property
    def size(self) -> int:
        """One more than the highest id that a text can have."""
        return self._tokenizer.size

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text, with those that the tokenizer puts before every text.

        Raises UsageError where the model does not know one of them.
        """
        return self._known(self._tokenizer.encode(text))

    def encode_chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        now: datetime | None = None,
        control_tokens: bool = False,
        variables: Mapping[str, Variable] = NO_VARIABLES,
    ) -> tuple[int, ...]:
        """The ids of a conversation, ready for the model's answer.

        now:            the date, for templates that ask for it
        control_tokens: names of control tokens in messages are those tokens; else they are text like any other
        variables:      of the template, without names of control tokens

        Raises UsageError as `chat` and `encode` do, and for a variable with such a name.
        """
        if control_tokens:
            return self._known(self._control.encode_rendered(self.chat(messages, now, variables), {}))
        template = self._ready()
        for name, value in variables.items():
            if isinstance(value, str) and (found := self._control.name_in(value)):
                raise UsageError(f"the template's variable {name} has the control token {found!r} in it")
        render = partial(template.render, now=now, variables=variables)
        return self._known(self._control.encode(messages, render, template.words))

    def chat(
        self,
        messages: Sequence[ChatMessage],
        now: datetime | None = None,
        variables: Mapping[str, Variable] = NO_VARIABLES,
    ) -> str:
        """The text of a conversation by the model's template.

        Raises:
            UsageError: the model has no template, or it does not take these messages or variables.
        """
        return self._ready().render(messages, now, variables)

    def _ready(self) -> "ChatTemplate":
        """The template, read once."""
        if self._template is None:
            if self._manifest is None or not self._manifest.template:
                raise UsageError(
                    "the model has no chat template; ask it without chat messages, or import it with --template"
                )
            from p2pinfer.core.models.chat import ChatTemplate  # Jinja takes a while to import, and not all chat

            names = {"bos_token": self._name(self._manifest.bos), "eos_token": self._name(self._manifest.ends)}
            self._template = ChatTemplate(self._manifest.template, names | self._names)
        return self._template

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, from its beginning."""
        stream = Detokenizer(self, begins=True)
        return "".join([*map(stream.add, ids), stream.finish()])

    def bytes_of(self, id_: int) -> bytes:
        """The bytes that an id adds to the text; none for special ids and for those the tokenizer does not know."""
        known = self._bytes.get(id_)
        if known is None:
            known = self._bytes[id_] = self._read(id_)
        return known

    @property
    def drops_first_space(self) -> bool:
        """A text's first space stands for its beginning, as with sentencepiece."""
        return self._spelling.drops_first_space

    def special_name(self, id_: int) -> str | None:
        """The name of a control token, which stands for no bytes."""
        return self._special.get(id_)

    def _read(self, id_: int) -> bytes:
        if id_ in self._special:
            return b""
        if id_ in self._added:
            return self._added[id_].encode()
        name = self._tokenizer.name(id_)
        return b"" if name is None else self._spelling.read(name)

    def _name(self, ids: tuple[int, ...]) -> str:
        return self._tokenizer.name(ids[0]) or "" if ids else ""

    def _known(self, ids: list[int]) -> tuple[int, ...]:
        """The ids, all of which the model has a row for."""
        if self._manifest is not None and ids and (highest := max(ids)) >= self._manifest.vocabulary:
            raise UsageError(
                f"the prompt has the token {self._tokenizer.name(highest)!r}, id {highest}, and the model knows "
                f"{self._manifest.vocabulary} ids: leave that out of the prompt"
            )
        return tuple(ids)


def _names(description: Mapping[str, Any]) -> dict[str, str]:
    """The names of control tokens that templates may ask for, as far as tokenizer.json says them."""
    names = {
        "unk_token": description["model"].get("unk_token"),
        "pad_token": (description.get("padding") or {}).get("pad_token"),
    }
    return {key: name for key, name in names.items() if isinstance(name, str)}
