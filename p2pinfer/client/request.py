"""A person's request, as the protocol has it: floats become integers, words become codecs and classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, TypedDict

from p2pinfer.client.arrivals import DEFAULT_WAIT_S, OnWait
from p2pinfer.core.models.chat import ChatMessage
from p2pinfer.core.records.draw import MILLIONTHS
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
    """Options beside a prompt; see `Request`."""

    model: str
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    stop: tuple[str, ...]
    codec: str
    numerics: str
    max_cost: int | None
    control_tokens: bool
    wait_s: float
    on_wait: OnWait | None


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how it is to be answered.

    prompt:      text as it is, or chat messages for the model's template
    model:       name or id; empty where the swarm serves one model only
    temperature: 0 is greedy
    top_k:       candidates kept; 0 keeps all
    top_p:       share of the probability kept
    stop:        strings that end the answer; they are not part of it; a control token's name ends it there
    codec:       of rows between stages: q8o4, bf16 or f32
    numerics:    class of the stages: i8g32-1, i8g32k8-1, i8h64-1, bf16-1 or f32-1; empty takes whichever is best
    max_cost:    nano-credits that the answer may cost, at worst; None is the client's limit, or the default one
    control_tokens: names of control tokens in chat messages are those tokens; else they are text
    wait_s:      seconds to wait for what is missing: a peer to ask, the model, layers of it; 0 looks once
    on_wait:     hears in words what is waited for, whenever that changes; called in the client's thread
    """

    prompt: Prompt
    model: str = ""
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    codec: str = DEFAULT_CODEC
    numerics: str = ""
    max_cost: int | None = None
    control_tokens: bool = False
    wait_s: float = DEFAULT_WAIT_S
    on_wait: OnWait | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise UsageError("the prompt is empty")
        _check_prompt(self.prompt)
        for name in ("model", "codec", "numerics"):
            if not isinstance(value := getattr(self, name), str):
                raise UsageError(f"{name} is text, not {value!r:.80}")
        if not _are_texts(self.stop):
            raise UsageError(f"stop is a list of texts, not {self.stop!r:.80}")
        if self.codec not in CODECS:
            raise UsageError(f"unknown codec {self.codec!r}; there are {', '.join(CODECS)}")
        if self.numerics and self.numerics not in CLASSES:
            raise UsageError(f"unknown numerics class {self.numerics!r}; there are {', '.join(CLASSES)}")
        check_cost(self.max_cost)
        if not (isinstance(self.wait_s, int | float) and 0 <= self.wait_s <= MAX_WAIT_S):
            raise UsageError(f"wait_s is {self.wait_s!r:.80}; it is seconds, from 0 to {MAX_WAIT_S}")
        _ = self.sampling

    @property
    def sampling(self) -> SamplingRecord:
        """Raises UsageError for numbers that make no sense."""
        try:
            if not (isfinite(self.temperature) and isfinite(self.top_p)):
                raise ValueError(f"temperature {self.temperature} and top_p {self.top_p} must be finite")
            return SamplingRecord(
                temperature=round(self.temperature * MILLIONTHS),
                top_k=self.top_k,
                top_p=round(self.top_p * MILLIONTHS),
                seed=self.seed,
                max_tokens=self.max_tokens,
                stops=tuple(stop.encode() for stop in self.stop),
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"cannot sample so: {error}") from None


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
        raise UsageError(f"the prompt is no Unicode text: character {error.start} is half of one") from None


def _content(message: ChatMessage) -> str:
    """The text of a message. Raises UsageError where it has none."""
    if isinstance(message, Mapping) and _are_texts((message.get("role"), content := message.get("content"))):
        return str(content)
    raise UsageError(f"a chat message has a role and a content, both text: {message!r:.80}")


def _are_texts(values: object) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and all(isinstance(one, str) for one in values)
