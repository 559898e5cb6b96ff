"""Cases of protocols/vectors/wire.json for links, calls and sessions on them: who says what on which stream, then what.

Written by hand from wire.md; tests replay them over the memory network.
"""

from collections.abc import Iterator
from typing import Any, Final

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, SessionId
from p2pinfer.core.wire.frames import encode_frame
from p2pinfer.core.wire.messages import (
    MAX_BODY,
    VERSION,
    AskContacts,
    AskFile,
    CallRefused,
    Contacts,
    FilePart,
    Goodbye,
    Hello,
    Message,
    Offers,
    Ping,
    Pong,
    RelayedOffer,
)
from p2pinfer.core.wire.session_messages import Accept, Close, Credit, Finish, Forward, SessionMessage, Stored

Case = dict[str, Any]

CLOCK_MS: Final = 1_700_000_000_000
SMALLER, HERE, GREATER, STRANGER = sorted(PrivateKey(bytes([seed]) * 32).public for seed in range(1, 5))
BOOT, OTHER_BOOT = b"boot of peer one", b"boot of peer two"
SESSION: Final = SessionId(b"session of links")


def hello(boot: bytes = BOOT) -> Hello:
    return Hello(VERSION, 0, MAX_BODY, CLOCK_MS, boot, "test")


def credit(limit: int) -> Credit:
    return Credit(SESSION, 0, limit)


def rows(position: int, size: int = 8) -> Forward:
    return Forward(SESSION, 0, 0, position, 1, position + 1, Codec.F32, bytes(size))


class Script:
    """One case, written step by step. Streams have names; the peers answer Pings unless `silent`."""

    def __init__(self, name: str, rule: str, **peers: bytes) -> None:
        keys = {"here": HERE, **(peers or {"a": SMALLER})}
        self.case: Case = {
            "name": name,
            "rule": rule,
            "keys": {peer: key.hex() for peer, key in keys.items()},
            "steps": [],
        }

    def up(self, stream: str = "a", peer: str = "a", boot: bytes = BOOT) -> "Script":
        """A peer has a link to here."""
        return self.opens(stream, peer).says(stream, hello(boot)).hears(stream, "Hello")

    def opens(self, stream: str, peer: str) -> "Script":
        return self._step(opens=stream, peer=peer)

    def dials(self, stream: str, peer: str) -> "Script":
        return self._step(dials=peer, stream=stream)

    def says(self, stream: str, *messages: Message) -> "Script":
        """All of it at once."""
        return self._step(says=stream, frames=b"".join(map(encode_frame, messages)).hex())

    def hears(self, stream: str, what: str | Message, code: Code | None = None) -> "Script":
        if isinstance(what, Message):
            return self._step(hears=stream, frame=encode_frame(what).hex())
        return self._step(hears=stream, name=what, **({"code": code.label} if code else {}))

    def closes(self, stream: str) -> "Script":
        return self._step(closes=stream)

    def silent(self, stream: str) -> "Script":
        return self._step(silent=stream)

    def answers(self, stream: str) -> "Script":
        """Pings again, from the next one on."""
        return self._step(answers=stream)

    def acknowledges(self, stream: str) -> "Script":
        """All that has come on it."""
        return self._step(acknowledges=stream)

    def pings(self, stream: str, *at_s: float) -> "Script":
        """These have come on it, so many seconds after it was opened."""
        return self._step(pings=list(at_s), stream=stream)

    def acks(self, stream: str, count: int) -> "Script":
        """So many Acks have come on it; the last is of all bytes that had been said when it was sent."""
        return self._step(acks=count, stream=stream)

    def runs(self, *peers: str) -> "Script":
        """A session of here with these peers runs."""
        return self._step(session=SESSION.hex(), peers=list(peers))

    def ends(self) -> "Script":
        return self._step(ended=SESSION.hex())

    def rests(self, rests: bool = True) -> "Script":
        """The session is at rest from now on, or is not."""
        return self._step(rests=rests)

    def sends(self, peer: str, message: SessionMessage) -> "Script":
        """The session sends this."""
        return self._step(sends=peer, frame=encode_frame(message).hex())

    def takes(self, peer: str, message: SessionMessage) -> "Script":
        """The session is given this."""
        return self._step(takes=peer, frame=encode_frame(message).hex())

    def waits(self, seconds: float) -> "Script":
        return self._step(wait_s=seconds)

    def asks(self, peer: str) -> "Script":
        return self._step(asks=peer, name="AskContacts")

    def told(self, what: str) -> "Script":
        """What the asker is told: the name of the answer, or a code."""
        return self._step(told=what)

    def slow(self) -> "Script":
        """Here answers no AskContacts from now on."""
        return self._step(slow=True)

    def linked(self, *peers: str) -> Case:
        """At the end here has links to these, and nothing more was said."""
        return {**self.case, "linked": list(peers)}

    def _step(self, **step: object) -> "Script":
        self.case["steps"].append(step)
        return self


def scripts() -> Iterator[Case]:
    yield from link_scripts()
    yield from quiet_scripts()
    yield from ping_scripts()
    yield from ack_scripts()
    yield from twin_scripts()
    yield from call_scripts()
    yield from session_scripts()


def link_scripts() -> Iterator[Case]:
    script = Script("a pong goes before an answer", "WIRE-8").up().says("a", AskFile(7, bytes(32), "", 0, 1), Ping(5))
    yield script.hears("a", Pong(5)).hears("a", "CallRefused", Code.UNSUPPORTED).linked("a")
    script = Script("of two pings that come together one is answered", "WIRE-8").up().says("a", Ping(5), Ping(6))
    yield script.hears("a", Pong(6)).linked("a")
    script = Script("a pong goes before a goodbye", "WIRE-8").up().says("a", Ping(5), hello())
    yield script.hears("a", Pong(5)).hears("a", "Goodbye", Code.BAD_STATE).linked()
    script = Script("a pong of no ping", "WIRE-9").up().silent("a").says("a", Pong(77))
    yield script.hears("a", "Goodbye", Code.BAD_STATE).linked()
    script = Script("no pong to three pings", "WIRE-24").up().silent("a").waits(9.0)
    yield script.linked()
    yield Script("the last of three pings waits a PING_S, too", "WIRE-24").up().silent("a").waits(7.4).linked("a")
    yield Script("three pings, a PING_S apart", "WIRE-24").up().silent("a").waits(8.6).linked()
    yield Script("a pong to each ping", "WIRE-24").up().waits(120.0).linked("a")
    script = Script("a stream that ends without a goodbye", "WIRE-10").up().asks("a").hears("a", "AskContacts")
    yield script.closes("a").told("lost").linked()
    script = Script("a goodbye says why", "WIRE-10").up().asks("a").hears("a", "AskContacts")
    yield script.says("a", Goodbye(Code.LEAVING, "")).told("leaving").linked()
    script = Script("a goodbye with a code of a later version", "INF-29").up().asks("a").hears("a", "AskContacts")
    yield script.says("a", Goodbye(200, "")).told("unknown").linked()


def quiet_scripts() -> Iterator[Case]:
    """Peers that are gone after the first three pings, at 0, 2 and 4 s."""

    def gone(name: str) -> Script:
        return Script(name, "WIRE-30").up().waits(10.0).silent("a")

    yield gone("a quiet link is not pinged before QUIET_S").waits(29.0).linked("a")
    yield gone("a quiet link is pinged after QUIET_S").waits(31.0).linked()
    script = gone("a link that a session begins to use has three pings, too").runs("a").says("a", credit(1))
    yield script.takes("a", credit(1)).waits(5.4).linked("a")
    script = gone("a link that a session begins to use is pinged at once").runs("a").says("a", credit(1))
    yield script.takes("a", credit(1)).waits(6.6).linked()
    script = gone("a link has a PING_S for its ack").asks("a").hears("a", "AskContacts").waits(7.4)
    yield script.told("silent").linked("a")
    script = gone("a link is pinged where an ack does not come").asks("a").hears("a", "AskContacts").waits(8.6)
    yield script.told("silent").linked()


def ping_scripts() -> Iterator[Case]:
    """When pings come, to the second. Bytes that say nothing else are an empty announcement, which makes no Ack due."""
    nothing = Offers(0, (), ())

    def up(name: str) -> Script:
        return Script(name, "WIRE-30").up()

    def owed(name: str) -> Script:
        """Here answers a question at 10 s: an Ack is due."""
        return up(name).waits(10).says("a", AskContacts(9)).hears("a", Contacts(9, (), ()))

    yield up("nothing comes but pongs").waits(100).pings("a", 0, 2, 4, 34, 64, 94).linked("a")
    script = up("what comes meanwhile saves none of the first three").waits(1).says("a", nothing).waits(2)
    yield script.says("a", nothing).waits(32).pings("a", 0, 2, 4, 34).linked("a")
    script = up("quiet is since the last byte").waits(20).says("a", nothing).waits(29).pings("a", 0, 2, 4).waits(2)
    yield script.pings("a", 0, 2, 4, 50).linked("a")
    script = up("a ping whose pong does not come is followed by another").waits(30).silent("a").waits(5).answers("a")
    yield script.waits(40).pings("a", 0, 2, 4, 34, 36, 66).linked("a")
    script = up("three without a pong are the last").waits(33).silent("a").waits(6.5).pings("a", 0, 2, 4, 34, 36, 38)
    yield script.waits(1).linked()
    script = up("a session that is opened, until it is over").waits(11).runs("a").waits(8).ends().waits(40)
    yield script.pings("a", 0, 2, 4, 11, 13, 15, 17, 19, 49).linked("a")
    script = up("a session at rest has none").waits(11).runs("a").waits(4).rests().waits(20)
    yield script.pings("a", 0, 2, 4, 11, 13, 15).linked("a")
    script = up("a session that goes on after a rest, at the peer's word").waits(11).runs("a").rests().waits(20)
    script.rests(False).says("a", credit(5)).takes("a", credit(5)).waits(5)
    yield script.pings("a", 0, 2, 4, 11, 31, 33, 35).linked("a")
    script = up("a session that goes on after a rest, at the word of here").waits(11).runs("a").rests().waits(20)
    script.rests(False).sends("a", credit(5)).hears("a", credit(5)).acknowledges("a").waits(5)
    yield script.pings("a", 0, 2, 4, 11, 31, 33, 35).linked("a")
    script = owed("an Ack that does not come").waits(7).pings("a", 0, 2, 4, 12, 14, 16).acknowledges("a").waits(40)
    yield script.pings("a", 0, 2, 4, 12, 14, 16, 47).linked("a")
    script = owed("an Ack that comes in time").waits(1).acknowledges("a").waits(40).pings("a", 0, 2, 4, 41)
    yield script.linked("a")
    script = owed("other bytes are no Ack").waits(1).says("a", nothing).waits(2).pings("a", 0, 2, 4, 12)
    yield script.linked("a")
    script = up("an Ack that is owed when the first three are done").waits(5).says("a", AskContacts(9))
    yield script.hears("a", Contacts(9, (), ())).waits(4).pings("a", 0, 2, 4, 8).linked("a")


def ack_scripts() -> Iterator[Case]:
    """Acks are of bytes that the script has said, frames and Hellos, but for the Pongs between."""
    script = (
        Script("an ack of a message comes a little later", "WIRE-28").up().says("a", AskFile(7, bytes(32), "", 0, 1))
    )
    yield script.hears("a", "CallRefused").acks("a", 0).waits(0.2).acks("a", 1).linked("a")
    script = Script("an ack of many bytes comes at once", "WIRE-28").up().says("a", rows(0, 20_000))
    yield script.acks("a", 1).waits(0.2).acks("a", 1).linked("a")
    script = Script("offers make no ack due", "WIRE-28").up().says("a", Offers(0, (), ()), Offers(7, (), ())).waits(0.2)
    yield script.acks("a", 0).says("a", rows(0, 20_000)).acks("a", 1).linked("a")
    crowd = Offers(0, (RelayedOffer(0, bytes(500), bytes(64), bytes(200), bytes(64), ()),) * 20)
    script = Script("many announcements make one due, or their sender had to stop", "WIRE-28").up().says("a", crowd)
    yield script.acks("a", 1).linked("a")
    script = Script("pings and pongs make no ack due", "WIRE-28").up().waits(20.0).says("a", Ping(5))
    yield script.hears("a", Pong(5)).waits(20.0).acks("a", 0).linked("a")


def twin_scripts() -> Iterator[Case]:
    """Two streams of two peers."""
    script = Script("a second stream of one process", "WIRE-15").up()
    script.opens("again", "a").says("again", hello())
    yield script.hears("again", "Goodbye", Code.DUPLICATE).says("a", Ping(5)).hears("a", Pong(5)).linked("a")
    script = Script("a second stream, and the first is dead", "WIRE-15").up().silent("a")
    script.opens("again", "a").says("again", hello()).waits(1.1).hears("again", "Hello")
    yield script.hears("a", "Goodbye", Code.LOST).says("again", Ping(5)).hears("again", Pong(5)).linked("a")
    script = Script("a second stream, and the first has CHECK_S for its pong", "WIRE-15").up().silent("a")
    yield script.opens("again", "a").says("again", hello()).waits(0.9).linked("a")
    script = Script("a peer that started anew", "WIRE-15").up()
    script.opens("again", "a").says("again", hello(OTHER_BOOT)).hears("again", "Hello")
    yield script.hears("a", "Goodbye", Code.LOST).says("again", Ping(5)).hears("again", Pong(5)).linked("a")
    script = Script("both dial at once, and here has the smaller key", "WIRE-15", a=GREATER)
    script.dials("ours", "a").hears("ours", "Hello").opens("theirs", "a").says("theirs", hello())
    script.says("ours", hello()).hears("theirs", "Goodbye", Code.DUPLICATE)
    yield script.says("ours", Ping(5)).hears("ours", Pong(5)).linked("a")
    script = Script("both dial at once, and theirs says Hello when ours is the link", "WIRE-15", a=GREATER)
    script.dials("ours", "a").hears("ours", "Hello").opens("theirs", "a").says("ours", hello()).silent("ours")
    script.says("theirs", hello()).hears("theirs", "Goodbye", Code.DUPLICATE)
    yield script.says("ours", Ping(5)).hears("ours", Pong(5)).linked("a")
    script = Script("both dial at once, and here has the greater key", "WIRE-15", a=SMALLER)
    script.dials("ours", "a").hears("ours", "Hello").opens("theirs", "a").says("theirs", hello())
    script.hears("theirs", "Hello").says("ours", Goodbye(Code.DUPLICATE, ""))
    yield script.says("theirs", Ping(5)).hears("theirs", Pong(5)).linked("a")
    script = Script("both dial at once, and the dial of here fails", "WIRE-15", a=GREATER)
    script.dials("ours", "a").hears("ours", "Hello").opens("theirs", "a").says("theirs", hello())
    script.closes("ours").hears("theirs", "Hello")
    yield script.says("theirs", Ping(5)).hears("theirs", Pong(5)).linked("a")
    script = Script("a peer that has a link does not dial", "WIRE-16").up().dials("none", "a")
    yield script.says("a", Ping(5)).hears("a", Pong(5)).linked("a")


def call_scripts() -> Iterator[Case]:
    script = Script("a question is answered", "WIRE-11").up().says("a", AskContacts(9))
    yield script.hears("a", Contacts(9, (), ())).linked("a")
    script = Script("a question that nobody answers here", "WIRE-11").up().says("a", AskFile(9, bytes(32), "", 0, 1))
    yield script.hears("a", "CallRefused", Code.UNSUPPORTED).linked("a")
    script = Script("answers that nobody asked for", "WIRE-11").up()
    script.says("a", Contacts(3, (), ()), Offers(4, ()), FilePart(5, 0, b""), CallRefused(6, Code.BUSY, "", 0))
    yield script.says("a", CallRefused(0, Code.BUSY, "", 0), Ping(5)).hears("a", Pong(5)).linked("a")
    script = Script("an answer to another link's call", "WIRE-11", a=SMALLER, b=GREATER).up().up("b", "b")
    script.asks("a").hears("a", AskContacts(1)).says("b", Contacts(1, (), ())).says("a", CallRefused(1, 67, "", 0))
    yield script.told("busy").linked("a", "b")
    script = Script("an answer of another kind", "WIRE-11").up().asks("a").hears("a", AskContacts(1))
    yield script.says("a", Offers(1, ())).told("bad-state").linked("a")
    script = Script("a question that is not answered in time", "WIRE-11").up().asks("a").hears("a", "AskContacts")
    yield script.waits(5.1).told("silent").linked("a")
    script = Script("more questions than are answered at once", "WIRE-12").up().slow()
    script.says("a", *(AskContacts(call) for call in range(1, 18)))
    yield script.hears("a", "CallRefused", Code.BUSY).linked("a")
    script = Script("one peer's questions do not use up another's", "WIRE-12", a=SMALLER, b=GREATER).up().up("b", "b")
    script.says("b", AskFile(1, bytes(32), "", 0, 1)).hears("b", "CallRefused", Code.UNSUPPORTED).slow()
    script.says("a", *(AskContacts(call) for call in range(1, 17))).says("b", AskFile(2, bytes(32), "", 0, 1))
    yield script.hears("b", "CallRefused", Code.UNSUPPORTED).linked("a", "b")


def session_scripts() -> Iterator[Case]:
    def two(name: str, rule: str = "WIRE-13") -> Script:
        return Script(name, rule, a=SMALLER, stranger=STRANGER).up().up("stranger", "stranger").runs("a")

    for message in (credit(5), Close(SESSION, 0, Code.CANCELLED, 0, ""), Finish(SESSION, 0, 5, Code.END), rows(0)):
        script = two(f"a stranger's {type(message).__name__} in a session").says("stranger", message)
        script.hears("stranger", "Goodbye", Code.BAD_STATE).says("a", credit(6))
        yield script.takes("a", credit(6)).linked("a")
    script = two("a stranger's message to a session that has ended").ends().says("stranger", credit(5), Ping(5))
    yield script.hears("stranger", Pong(5)).linked("a", "stranger")
    script = Script("rows before their session", "WIRE-14").up().says("a", rows(0), rows(1)).waits(1.9).runs("a")
    yield script.takes("a", rows(0)).takes("a", rows(1)).linked("a")
    script = Script("rows too long before their session", "WIRE-14").up().says("a", rows(0)).waits(2.1).runs("a")
    yield script.says("a", credit(5)).takes("a", credit(5)).linked("a")
    script = Script("a stranger's rows before a session", "WIRE-14", a=SMALLER, stranger=STRANGER)
    script.up().up("stranger", "stranger").says("stranger", rows(0)).says("a", rows(1)).runs("a")
    yield script.takes("a", rows(1)).says("a", credit(5)).takes("a", credit(5)).linked("a", "stranger")
    script = Script("more rows than wait for a session, by their number", "WIRE-14").up()
    script.says("a", *(rows(at) for at in range(66))).runs("a")
    for at in range(64):
        script.takes("a", rows(at))
    yield script.says("a", credit(5)).takes("a", credit(5)).linked("a")
    script = Script("more rows than wait for a session, by their bytes", "WIRE-14").up()
    script.says("a", rows(0, 1 << 19), rows(1, 1 << 19), rows(2, 4), rows(3, 4)).runs("a")
    yield script.takes("a", rows(0, 1 << 19)).takes("a", rows(1, 1 << 19)).linked("a")
    late = (credit(5), Close(SESSION, 0, Code.CANCELLED, 0, ""), Accept(SESSION, 0, bytes(64)), Stored(SESSION, 1))
    script = Script("other messages do not wait for their session", "WIRE-14").up().says("a", *late).runs("a")
    yield script.says("a", credit(7)).takes("a", credit(7)).linked("a")
