"""Everything an owner can set, from one TOML file, with unit, default and meaning.

Read once at the start and passed down in pieces. `p2pinfer config` prints what is in force, and is the one table.
"""

import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, get_type_hints

from p2pinfer.core.money.budget import NETWORK_PART
from p2pinfer.core.records.terms import MAX_PROPOSED
from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.shown import brief
from p2pinfer.core.values.units import Numerics, Span
from p2pinfer.disk.plain import read_small
from p2pinfer.engine.messages import CPU

AUTO: Final = "auto"  # the numerics class that the machine decides on


def _setting(default: Any, help_: str) -> Any:
    """A field with its line of help; the unit stands in the name or in the help."""
    return field(default=default, metadata={"help": help_})


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """[network]"""

    listen: tuple[str, ...] = _setting(
        ("/ip4/127.0.0.1/tcp/0",), "multiaddrs to listen on; port 0 takes a free one, and the same at the next start"
    )
    announce: tuple[str, ...] = _setting((), "multiaddrs told to others; empty: the ones listened on")
    bootstrap: tuple[str, ...] = _setting((), "multiaddrs of peers to meet first")
    mdns: bool = _setting(True, "find peers on the local network; never used when only loopback is listened on")
    files_mb_per_day: int = _setting(
        100,
        "MB of models' files for other machines a day, for one network a fourth, of weights a half; 0: none",
    )


@dataclass(frozen=True, slots=True)
class Serve:
    """[serve]"""

    model: str = _setting("", "name or id of the model to serve; empty serves none and only helps others find peers")
    layers: str = _setting(
        "", "layers FIRST:LAST to hold for good; empty: chosen where the swarm is weakest, and changed"
    )
    memory_mb: int = _setting(
        0, "MB the node may take for weights and KV cache; 0: half of the machine's, or the GPU's"
    )
    numerics: str = _setting(
        AUTO,
        "numerics class: i8g32-1, i8g32k8-1 (half the KV cache), bf16-1 or f32-1; auto: the fastest engine's here",
    )
    device: str = _setting(CPU, "where the engine computes: cpu, cuda, cuda:1")
    threads: int = _setting(0, "CPU threads of the engine; 0: all cores but one")
    max_positions: int = _setting(0, "positions a session may reserve; 0: the model's context")
    max_sessions: int = _setting(64, "sessions at once")


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """[prices] in nano-credits per 1,000,000 units"""

    prefill: int = _setting(20_000, "nano-credits per 1,000,000 layer-tokens of prompt")
    decode: int = _setting(80_000, "nano-credits per 1,000,000 layer-tokens of answer")
    cached: int = _setting(2_000, "nano-credits per 1,000,000 layer-tokens found in the cache")
    sampled: int = _setting(640_000, "nano-credits per 1,000,000 ids sampled, at the tail")
    flat: int = _setting(0, "nano-credits per session")


@dataclass(frozen=True, slots=True)
class Trust:
    """[trust] bounds the work done before it is receipted"""

    cadence: int = _setting(128, "positions between receipts, at most")
    max_chunk: int = _setting(256, "positions of a prompt computed in one step at most")
    window: int = _setting(1024, "positions one session may be ahead of its receipts")
    client_window: int = _setting(16_384, "positions all sessions of a new client may be ahead together")
    client_window_max: int = _setting(
        131_072, "positions that sessions of a client may be ahead that has signed for twice as many"
    )
    strangers_window: int = _setting(
        131_072, "positions all new clients may be ahead together; a network has an eighth of what others leave"
    )


MAX_FILE: Final = 1 << 20  # bytes of a file of settings
MAX_SPAN_TEXT: Final = 20  # characters of FIRST:LAST; Python refuses to read numbers of thousands of digits
MAX_THREADS: Final = 1024  # torch's own pools fail without a word far above it

SECTIONS: Final = {"network": NetworkSettings, "serve": Serve, "prices": PriceSettings, "trust": Trust}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a node."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    serve: Serve = field(default_factory=Serve)
    prices: PriceSettings = field(default_factory=PriceSettings)
    trust: Trust = field(default_factory=Trust)

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.serve.numerics != AUTO:
            numerics_of(self.serve.numerics)
        span_of(self.serve.layers)
        check_device(self.serve.device)
        trust = self.trust
        if trust.window < 2 * trust.max_chunk + 2 * trust.cadence:
            raise UsageError(
                f"trust.window is {trust.window}; it must be at least 2 x max_chunk + 2 x cadence = "
                f"{2 * trust.max_chunk + 2 * trust.cadence}, or a prompt waits for every signature"
            )
        if trust.window > MAX_PROPOSED * trust.cadence:
            raise UsageError(
                f"trust.window is {trust.window}; it must be at most {MAX_PROPOSED} x cadence = "
                f"{MAX_PROPOSED * trust.cadence}, or clients leave the node aside"
            )
        if not trust.window <= trust.client_window <= trust.client_window_max:
            raise UsageError("trust: window <= client_window <= client_window_max must hold")
        if trust.strangers_window < NETWORK_PART * trust.window:
            raise UsageError(
                f"trust.strangers_window is {trust.strangers_window}; it must be at least {NETWORK_PART} x window = "
                f"{NETWORK_PART * trust.window}, or no new client is served"
            )
        if self.prices.cached > self.prices.prefill:
            raise UsageError("prices.cached must not be above prices.prefill")

    def _check_numbers(self) -> None:
        for name, shape in SECTIONS.items():
            section = getattr(self, name)
            for item in fields(shape):
                value = getattr(section, item.name)
                if isinstance(value, int) and not 0 <= value < 1 << 32:
                    raise UsageError(f"{name}.{item.name} is {brief(value)}; it must be from 0 to {(1 << 32) - 1}")
        if self.serve.threads > MAX_THREADS:
            raise UsageError(f"serve.threads is {self.serve.threads}; it must be at most {MAX_THREADS}")
        for name, value in (
            ("serve.max_sessions", self.serve.max_sessions),
            ("trust.cadence", self.trust.cadence),
            ("trust.max_chunk", self.trust.max_chunk),
        ):
            if not value:
                raise UsageError(f"{name} must be at least 1")


def read_settings(path: Path | None) -> Settings:
    """The settings of a file; of none, the defaults.

    Raises UsageError naming what is wrong and what would be right.
    """
    if path is None:
        return Settings()
    try:
        data = tomllib.loads(read_small(path, MAX_FILE).decode())
    except FileNotFoundError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; make one: p2pinfer config > {path.name}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8, byte {error.start} is wrong: save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    except ValueError:  # Python refuses to read numbers of thousands of digits
        raise UsageError(f"{path} is not TOML of settings: a number in it is too long") from None
    except RecursionError:
        raise UsageError(f"{path} is not TOML of settings: it nests too deep") from None
    try:
        return _settings(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _settings(data: dict[str, Any]) -> Settings:
    if unknown := data.keys() - SECTIONS.keys():
        raise UsageError(_unknown(min(unknown), data[min(unknown)]))
    return Settings(**{name: _section(name, shape, data.get(name, {})) for name, shape in SECTIONS.items()})


def _unknown(name: str, value: object) -> str:
    """The fault of a name at the top of the file: a section that is none, or a setting outside its section."""
    homes = [section for section, shape in SECTIONS.items() if name in get_type_hints(shape)]
    if homes:
        return f"{name} is a setting of a section: write [{homes[0]}] in the line above it"
    what = f"section [{name}]" if isinstance(value, dict) else f"setting {name}"
    return f"unknown {what}; there are the sections {', '.join(f'[{section}]' for section in SECTIONS)}"


def _section(name: str, shape: type[Any], data: object) -> Any:
    if not isinstance(data, dict):
        raise UsageError(f"{name} must be a section: [{name}]")
    hints = get_type_hints(shape)
    for key in data:
        if key not in hints:
            raise UsageError(f"unknown setting {name}.{key}; there are {', '.join(hints)}")
    return shape(**{key: _value(f"{name}.{key}", hints[key], value) for key, value in data.items()})


def _value(name: str, wanted: object, value: object) -> object:
    if wanted == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise UsageError(f"{name} must be a list of strings")
    if type(value) is not wanted:
        words = {str: "text in quotes", int: "a whole number", bool: "true or false"}
        raise UsageError(f"{name} must be {words[wanted]}")  # type: ignore[index]
    return value


def change(settings: Settings, section: str, **values: object) -> Settings:
    """`settings` with those values of one section that are not None: the command line's word over the file's."""
    given = {key: value for key, value in values.items() if value is not None and value != ()}
    return replace(settings, **{section: replace(getattr(settings, section), **given)}) if given else settings


def numerics_of(label: str) -> Numerics:
    """The class a setting names."""
    for numerics in Numerics:
        if numerics.label == label:
            return numerics
    raise UsageError(
        f"unknown numerics class {label!r}; there are {AUTO}, {', '.join(item.label for item in Numerics)}"
    )


def check_device(name: str) -> None:
    """Raises UsageError for a device that no engine computes on."""
    if not re.fullmatch(rf"{CPU}|cuda(:\d+)?", name):
        raise UsageError(f"unknown device {name!r}; there are {CPU}, cuda, and cuda:N for one of several GPUs")


def span_of(text: str) -> Span | None:
    """`FIRST:LAST`, the last not included; empty is none."""
    if not text:
        return None
    first, colon, last = text.partition(":")
    numbers = colon and first.isdecimal() and last.isdecimal() and len(text) < MAX_SPAN_TEXT
    if not (numbers and int(first) < int(last)):
        example = "write FIRST:LAST, the first below the last, for example 0:10"
        raise UsageError(f"layers {text!r:.60} are not a span; {example}")
    return Span(int(first), int(last))


def describe(settings: Settings) -> str:
    """The settings as a TOML file that reads back as they are: values with their help, and what is not the default."""
    lines: list[str] = []
    for name, shape in SECTIONS.items():
        lines += ["", f"[{name}]"] if lines else [f"[{name}]"]
        for item in fields(shape):
            value = getattr(getattr(settings, name), item.name)
            default = f"  [default: {_toml(item.default)}]" if value != item.default else ""
            lines += [f"# {item.metadata['help']}{default}", f"{item.name} = {_toml(value)}"]
    return "\n".join(lines)


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
    return str(value)
