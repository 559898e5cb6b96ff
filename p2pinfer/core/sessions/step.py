"""One forward pass of a session through a stage's layers, from the session to the engine and back, as plain values."""

from dataclasses import dataclass

from p2pinfer.core.records.draw import Sampling
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec, Span


@dataclass(frozen=True, slots=True)
class Step:
    """Consecutive positions of one session: a chunk of its prompt, or the latest id.

    slot:      the session's number at this engine
    position:  of the first row; at most the number of positions held. What the session held at or beyond it is dead
    data:      wire rows in `codec_in`; ids (u32be each) at the head
    codec_out: of the rows to send on; IDS at the tail
    sample:    at the tail, draw the id after the last row; None for a chunk that does not end the prompt
    layers:    of the model, within the shard's span, the same in all steps of a session; None for all of the shard's
    """

    slot: int
    position: int
    data: bytes
    codec_in: Codec
    codec_out: Codec
    sample: Sampling | None = None
    layers: Span | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """The outcome of one step; where `code` is not NONE it failed, alone.

    A step that was refused left its session as it was; after one that overflowed nothing is held from its position on.

    data: wire rows in the step's `codec_out`, one for each position; empty at the tail
    ids:  drawn at the tail
    code: BAD_VALUES for the rows that came in, BAD_POSITION for a gap or a full reservation,
          UNKNOWN_SESSION for a slot that is not open, ENGINE for values that overflowed here
    """

    data: bytes = b""
    ids: tuple[int, ...] = ()
    code: Code = Code.NONE
    text: str = ""
