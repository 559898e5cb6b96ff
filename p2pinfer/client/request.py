"""A person's request, as the protocol has it: floats become integers, words become codecs and classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Final, TypedDict

from p2pinfer.client.arrivals import DEFAULT_WAIT_S, OnWait
from p2pinfer.core.models.template_variables import ChatMessage, Variable, check_variables
from p2pinfer.core.records.draw import GREEDY, MILLIONTHS, Sampling
from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.units import Codec, Numerics

CODECS: Final = {codec.label: codec for codec in Codec if codec is not Codec.IDS}
CLASSES: Final = {numerics.label: numerics for numerics in Numerics}
DEFAULT_CODEC: Final = Codec.Q8O4.label
DEFAULT_MAX_TOKENS: Final = 256
MAX_WAIT_S: Final = 604_800  # a week; nobody means more

Prompt = str | Sequence[ChatMessage]


class Options(TypedDict, total=False):
    """Options beside a prompt. One that is not here, or makes no sense, is a UsageError that says what there is.

    model:          name or id; not needed where the swarm serves one model only
    max_tokens:     end the answer after so many; 256
    temperature:    0 is greedy; None is the model's own, as its manifest has it
    top_k:          candidates kept; 0 keeps all; None is the model's own
    top_p:          share of the probability kept, above 0 and at most 1; None is the model's own
    seed:           of the draws above temperature 0; the same seed draws the same
    stop:           list of texts that end the answer; they are not part of it; a control token's name ends it there
    codec:          of rows between stages: q8o4, bf16 or f32
    numerics:       class of the stages: i8g32-1, i8g32k8-1, bf16-1 or f32-1; empty takes whichever is best
    max_cost:       nano-credits that the answer may cost, at worst; None is the client's limit, or the default one
    control_tokens: names of control tokens in chat messages are those tokens; else they are text
    template_vars:  variables of the model's chat template, as {"enable_thinking": False}
    wait_s:         seconds to wait for what is missing: a peer to ask, the model, layers of it; 10; 0 looks once
    on_wait:        function that hears in words what is waited for, whenever that changes; in the client's thread
    timeout:        seconds for the whole answer, with all that it waits for; then it is given up, what came is paid,
                    and GenerationFailed is raised; None is no limit
    """

    model: str
    max_tokens: int
    temperature: float | None
    top_k: int | None
    top_p: float | None
    seed: int
    stop: list[str] | tuple[str, ...]
    codec: str
    numerics: str
    max_cost: int | None
    control_tokens: bool
    template_vars: Mapping[str, Variable]
    wait_s: float
    on_wait: OnWait | None
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how it is to be answered, by `Options`. prompt: text, or chat messages for the model's template"""

    prompt: Prompt
    model: str = ""
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    stop: Sequence[str] = ()
    codec: str = DEFAULT_CODEC
    numerics: str = ""
    max_cost: int | None = None
    control_tokens: bool = False
    template_vars: Mapping[str, Variable] = field(default_factory=dict)
    wait_s: float = DEFAULT_WAIT_S
    on_wait: OnWait | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise UsageError("the prompt is empty")
        _check_prompt(self.prompt)
        for name in ("model", "codec", "numerics"):
            if not isinstance(value := getattr(self, name), str):
                raise UsageError(f"{name} is text, not {value!r:.80}")
        check_texts("stop", self.stop)
        if self.codec not in CODECS:
            raise UsageError(f"unknown codec {self.codec!r}; there are {', '.join(CODECS)}")
        if self.numerics and self.numerics not in CLASSES:
            raise UsageError(f"unknown numerics class {self.numerics!r}; there are {', '.join(CLASSES)}")
        check_cost(self.max_cost)
        if not (isinstance(self.wait_s, int | float) and 0 <= self.wait_s <= MAX_WAIT_S):
            raise UsageError(f"wait_s is {self.wait_s!r:.80}; it is seconds, from 0 to {MAX_WAIT_S}")
        if not (self.timeout is None or (isinstance(self.timeout, int | float) and 0 < self.timeout <= MAX_WAIT_S)):
            raise UsageError(f"timeout is {self.timeout!r:.80}; it is seconds, above 0 and at most {MAX_WAIT_S}")
        check_variables(self.template_vars)
        if self.template_vars and isinstance(self.prompt, str):
            raise UsageError("template_vars are for chat messages; a prompt that is text has no template")
        self.sampling(GREEDY)

    def sampling(self, own: Sampling) -> SamplingRecord:
        """Return the record for the tail. own: the model's parameters, where the request names none

        Raises UsageError for numbers that make no sense.
        """
        try:
            return SamplingRecord(
                temperature=own.temperature if self.temperature is None else _millionths(self.temperature),
                top_k=own.top_k if self.top_k is None else self.top_k,
                top_p=own.top_p if self.top_p is None else _millionths(self.top_p),
                seed=self.seed,
                max_tokens=self.max_tokens,
                stops=tuple(stop.encode() for stop in self.stop),
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"cannot sample so: {error}") from None


def make_request(prompt: Prompt, options: Options) -> Request:
    """Raises UsageError as `Request` does, and for an option that is none."""
    check_names(options)
    return Request(prompt, **options)


def check_names(options: Mapping[str, object], known: type = Options) -> None:
    """Raises UsageError for an option that is none. known: the TypedDict that has those that are"""
    names = known.__annotations__
    for name in options:
        if name not in names:
            raise UsageError(f"there is no option {name!r:.80}{_meant(name, names)}; there are {', '.join(names)}")


def check_texts(name: str, values: object) -> None:
    """Raises UsageError for what is not a list of texts, as a text itself."""
    if not _are_texts(values):
        raise UsageError(f"{name} is a list of texts, not {values!r:.80}{_as_list(values)}")


def _meant(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches  # nobody else needs it

    close = get_close_matches(name, names, n=1)
    return f"; do you mean {close[0]}?" if close else ""


def _as_list(value: object) -> str:
    return f": write [{value!r:.80}]" if isinstance(value, str) else ""


def _millionths(value: float) -> int:
    if not isfinite(value):
        raise ValueError(f"{value} is not a number to sample with")
    return round(value * MILLIONTHS)


def check_cost(max_cost: int | None) -> None:
    """Raises UsageError for a limit that is none."""
    if max_cost is not None and (type(max_cost) is not int or max_cost < 0):
        raise UsageError(f"max_cost is a whole number of nano-credits, not {max_cost!r:.80}")


def _check_prompt(prompt: Prompt) -> None:
    """Raises UsageError for what is neither text nor chat messages, and where there are bytes that were no text."""
    if not isinstance(prompt, str) and (isinstance(prompt, bytes) or not isinstance(prompt, Sequence)):
        raise UsageError(f"a prompt is text, or a list of chat messages, not {prompt!r:.80}")
    texts = [prompt] if isinstance(prompt, str) else [_content(message) for message in prompt]
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the prompt is not Unicode text: character {error.start} is half of one") from None


def _content(message: ChatMessage) -> str:
    """The text of a message. Raises UsageError where it has none."""
    if isinstance(message, Mapping) and _are_texts((message.get("role"), content := message.get("content"))):
        return str(content)
    raise UsageError(f"a chat message has a role and a content, both text: {message!r:.80}")


def _are_texts(values: object) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and all(isinstance(one, str) for one in values)
