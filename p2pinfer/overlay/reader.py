"""The reader of a link: what comes becomes messages, and its cost is paid before more is read (wire.md, 7.1)."""

from collections.abc import Callable

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.pace import ACK_BYTES
from p2pinfer.overlay.backlog import LinkBacklog
from p2pinfer.overlay.commons import Commons
from p2pinfer.overlay.contained import LinkEnds
from p2pinfer.overlay.dues import Dues
from p2pinfer.overlay.greeting import FirstMessages
from p2pinfer.overlay.toll import PAY_S


class Reader:
    """Of one link.

    greeting:  whose pipe and decoder go on
    weight:    the link's, to which a message counts that has not all come
    take:      is called with each message; where it raises RemoteProtocolError, the link ends with its code
    is_deaf:   after bytes that were no frames, or a fault of ours: no more is taken
    """

    def __init__(
        self,
        greeting: FirstMessages,
        commons: Commons,
        dues: Dues,
        weight: LinkBacklog,
        take: Callable[[Message], None],
        ends: LinkEnds,
    ) -> None:
        self.is_deaf = False
        self._pipe = greeting.pipe
        self._peer, self._source = greeting.pipe.peer, greeting.pipe.source
        self._decoder = greeting.decoder
        self._turn = commons.turn
        self._toll = commons.toll
        self._dues = dues
        self._pulse = dues.pulse
        self._weight = weight
        self._take = take
        self._ends = ends
        self._partial = 0  # bytes of a message that has not all come

    async def run(self) -> None:
        """Take what comes; after a fault of ours in taking it, wait for the peer to close."""
        with self._ends.contained:
            await self._read_all()
        if self.is_deaf:
            await self._read_all()

    def leave(self) -> None:
        """The link is gone: let go of what came of a message, for who knows how long somebody keeps the link."""
        self._toll.owe(self._peer, self._source, self._pipe.meter.take(0.0))
        self._decoder.clear()

    async def _read_all(self) -> None:
        """Take what comes, and wait for nobody but the peer. After our goodbye, wait for the peer's, or the end."""
        data = b""  # first the messages that came together with the peer's Hello
        meter, toll = self._pipe.meter, self._toll
        try:
            while True:
                if toll.is_owed and self._peer not in toll.partners:
                    await self._pay()
                with self._turn:
                    meter.run()
                    is_all = self._take_bytes(data)
                    meter.rest()
                if meter.cost_s >= PAY_S and (cost_s := meter.take()) > 0:
                    await self._pay(cost_s)
                if not is_all:  # others have their turn, then the rest of it comes
                    data = b""
                    await trio.lowlevel.checkpoint()
                elif not (data := await self._pipe.read()):
                    break
        except trio.BrokenResourceError as error:
            self._ends.end(f"the connection broke: {error}", Code.LOST)
        else:
            self._ends.end("the connection ended without a goodbye", Code.LOST)

    async def _pay(self, cost_s: float = 0.0) -> None:
        """Wait until it may be read, after it has cost so much."""
        self._toll.owe(self._peer, self._source, cost_s)
        if not self._toll.lets(self._peer, self._source):
            with self._pulse.unread():
                await self._toll.wait(self._peer, self._source)

    def _take_bytes(self, data: bytes) -> bool:
        """Take messages; False where more are there than are taken at once.

        Tiny ones come by the thousand: all of them would cost more than can be paid soon, while everybody waits.
        """
        if self.is_deaf:
            return True
        is_all = True
        self._dues.received += len(data)
        self._dues.received_s = self._pulse.heard_s = trio.current_time()
        self._decoder.feed(data)
        try:
            while (message := self._decoder.next_message()) is not None:
                self._take(message)
                if self._pipe.meter.lasts_s >= PAY_S:
                    is_all = False
                    break
        except RemoteProtocolError as error:
            self.is_deaf = True
            self._ends.close(error.code, str(error))
        if (waiting := self._decoder.waiting) != self._partial:
            self._weight.change(waiting - self._partial)
            self._partial = waiting
            self._weight.relieve()
        if self._dues.received - self._dues.acknowledged >= ACK_BYTES:
            self._dues.acknowledge()
        return is_all
