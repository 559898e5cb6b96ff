"""The record of nodes: what clients of a data folder learnt of nodes and owners, which the next one need not pay for.

A file of JSON, `nodes.json` (disk/shared_file.py). Its word fades as if its process still ran
(core/routes/experience.py).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from p2pinfer.core.routes.experience import Experience, Kept
from p2pinfer.core.routes.failures import MAX_COUNTED
from p2pinfer.core.routes.measures import Lag
from p2pinfer.core.values.notes import Note
from p2pinfer.disk.shared_file import SharedFile, parse_time

KEY_BYTES: Final = 32
MOST_S: Final = 1e6
MOST_RATE: Final = 1e12  # bytes/s


class ExperienceFile(Experience):
    """The file of what the clients of a data folder learnt."""

    def __init__(self, path: Path, slept_s: Callable[[], float] = lambda: 0.0) -> None:
        """slept_s: says how many seconds the machine slept since it was asked before"""
        super().__init__()
        self._file = SharedFile(path, "the record of nodes", _parse)
        self._began_s: float | None = None  # when it was read first
        self._is_unwritten = False  # though it was tried
        self._slept_s = slept_s

    def fade(self) -> None:
        """It fades while the machine sleeps, too."""
        if slept_s := self._slept_s():
            self.age(slept_s)

    async def load(self, clock: int) -> None:
        """Take in what the file holds. clock: Unix time now."""
        found, now = await self._file.read(), trio.current_time()
        self._began_s = now if self._began_s is None else self._began_s
        self.take(found or {}, self._began_s, now, clock)

    async def save(self, clock: int) -> None:
        """Write down what was noted, where it is news. clock: Unix time now."""
        self.fade()  # or what is written now is of now, and comes back so
        if self.is_news or self._is_unwritten:
            self._is_unwritten = True  # whatever ends us before it is
            await self.load(clock)  # others write, too
            self._is_unwritten = not await self._file.write(_plain(self.keep(trio.current_time(), clock)))


def _plain(kept: Kept) -> dict[str, dict[str, list[float]]]:
    return {
        name: {_text(key): [*KINDS[name].plain(note.value), note.at_s] for key, note in notes.items()}
        for name, notes in kept.items()
    }


def _parse(found: Any) -> Kept:
    """Raises ValueError for what is no record of nodes."""
    if not isinstance(found, dict) or not all(isinstance(notes, dict) for notes in found.values()):
        raise ValueError("its parts are no lists of nodes")
    return {name: kind.parse_all(found.get(name, {})) for name, kind in KINDS.items()}


class _Kind:
    """One kind of note, and how it is written."""

    def __init__(
        self, whose: Sequence[str], plain: Callable[[Any], Sequence[float]], parse: Callable[[list[Any]], Any]
    ) -> None:
        self._whose = whose
        self.plain = plain
        self._parse = parse

    def parse_all(self, notes: Mapping[str, Any]) -> dict[bytes, Note[Any]]:
        """Raises ValueError."""
        return {self._key(text): self._note(written) for text, written in notes.items()}

    def _key(self, text: str) -> bytes:
        whose, _, digits = text.rpartition(" ")
        key = bytes.fromhex(digits)
        if whose not in self._whose or len(key) != KEY_BYTES:
            raise ValueError(f"{text:.80} is no key")
        return whose.encode("ascii") + key

    def _note(self, written: Any) -> Note[Any]:
        if not isinstance(written, list) or not written:
            raise ValueError("a note is no list")
        *values, at = written
        return Note(self._parse(values), parse_time(at))


def _text(key: bytes) -> str:
    return f"{key[:-KEY_BYTES].decode('ascii')} {key[-KEY_BYTES:].hex()}".strip()


def _count(values: list[Any]) -> int:
    [count] = values
    if type(count) is not int or not 0 <= count <= MAX_COUNTED:
        raise ValueError("a number of failures is none")
    return count


def _lag(values: list[Any]) -> Lag:
    late_s, slow_s = values
    return Lag(_number(late_s, MOST_S), _number(slow_s, MOST_S))


def _round_trip(values: list[Any]) -> float:
    [rtt_s] = values
    return _number(rtt_s, MOST_S)


def _rate(values: list[Any]) -> float:
    [rate] = values
    return _number(rate, MOST_RATE)


def _number(value: object, most: float) -> float:
    if type(value) not in (int, float) or not 0 <= value <= most:  # type: ignore[operator]
        raise ValueError(f"a number that is not from 0 to {most:g}")
    return float(value)  # type: ignore[arg-type]


OF_BOTH: Final = "node", "owner"
KINDS: Final = {
    "failures": _Kind(OF_BOTH, lambda count: [count], _count),
    "lags": _Kind(OF_BOTH, lambda lag: [lag.late_s, lag.slow_s], _lag),
    "round_trips": _Kind([""], lambda rtt_s: [rtt_s], _round_trip),
    "rates": _Kind([""], lambda rate: [rate], _rate),
}
