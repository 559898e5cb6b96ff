"""Vectors and scripts of sessions, replayed by the reference: names of cases become keys, steps become calls."""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.sessions.ending import Ending
from p2pinfer.core.sessions.generation import Generation
from p2pinfer.core.sessions.stage import Send, StageSession
from p2pinfer.core.sessions.stage_terms import StageTerms
from p2pinfer.core.sessions.step import Output
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError, Stranger
from p2pinfer.core.values.units import Codec, PeerKey, Roles, SessionId, Span
from p2pinfer.core.wire.message_codec import decode_message, encode_message
from p2pinfer.core.wire.session_messages import Accept, Close, SessionMessage, SessionRefused
from tests.vectors.ring_scripts import name_of, part_of, stage_terms

Case = dict[str, Any]

SESSION: Final = SessionId(b"session of rings")
CODECS: Final = {codec.label: codec for codec in Codec}
ROLES: Final = {"head": Roles.HEAD, "middle": Roles.MIDDLE, "tail": Roles.TAIL, "solo": Roles.HEAD | Roles.TAIL}


class Letters:
    """The text of id i is the letter number i mod 26."""

    rest = ""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stop: str | None = None
        self._text = ""
        self._stops = stops

    def add(self, id_: int) -> str:
        self._text += chr(97 + id_ % 26)
        self.stop = next((stop for stop in self._stops if stop in self._text), None)
        return self._text[-1]

    def finish(self) -> str:
        return ""


def message_of(step: Case) -> SessionMessage:
    """The message of a step."""
    message = decode_message(bytes.fromhex(step["message"]))
    assert isinstance(message, SessionMessage)
    return message


def key_of(name: str) -> PeerKey:
    return PeerKey(name.encode().ljust(32, b"."))


class StageReplay:
    """A session at one stage. A peer may have several parts; it goes by the first of them."""

    def __init__(self, terms: Case) -> None:
        roles = ROLES[terms["role"]]
        head, tail = Roles.HEAD in roles, Roles.TAIL in roles
        parts = ["client"]
        parts += [] if head else ["predecessor"]
        parts += [] if tail else ["successor"]
        parts += ["far end"] if head != tail else []
        keys = {part: key_of(part) for part in parts}
        if terms["stages"] == 2:
            keys["far end"] = keys["successor" if head else "predecessor"]
        self._keys = keys
        self._names = {key: part for part, key in reversed(keys.items())}
        sampling = SamplingRecord(max_tokens=terms["max_tokens"], stops=tuple(stop.encode() for stop in terms["stops"]))
        self.stage = StageSession(
            StageTerms(
                session=SESSION,
                epoch=terms["epoch"],
                client=keys["client"],
                predecessor=keys.get("predecessor"),
                successor=keys.get("successor"),
                far_end=keys.get("far end"),
                span=Span(0, 2),
                roles=roles,
                prompt=terms["prompt"],
                width=terms["width"],
                vocabulary=terms["vocabulary"],
                codec_in=CODECS[terms["codec_in"]],
                codec_out=CODECS[terms["codec_out"]],
                max_positions=terms["max_positions"],
                max_chunk=terms["max_chunk"],
                sampling=sampling if tail else None,
            ),
            Ending(terms["ends"], terms["max_tokens"], Letters(terms["stops"])) if tail else None,
        )

    def step(self, step: Case) -> Case:
        """Do a step; return what follows of it, as a case writes it."""
        if "ready" in step:
            return {"ready": self.stage.ready(self.stage.terms.max_positions)}
        if "compute" in step:
            taken = self.stage.take(step["compute"])
            ids = () if step.get("sampled") is None else (step["sampled"],)
            return self._sends(self.stage.done(taken, Output(bytes.fromhex(step.get("rows", "")), ids)))
        if "fail" in step:
            return self._sends(self.stage.fail(Code.read(code_of(step["fail"])), ""))
        if "loses" in step:
            self.stage.end(Code.LOST)
            return self._sends(())
        if "breaks" in step:
            self.stage.suspend()
            return self._sends(())
        return self.hear(step["from"], message_of(step))

    def hear(self, name: str, message: SessionMessage) -> Case:
        """As a node does: a fault ends the session, and a stranger's its link."""
        try:
            return self._sends(self.stage.receive(self._keys.get(name, key_of("stranger")), message))
        except Stranger as fault:
            return {"expect": fault.code.label, "ends": "link", "sends": []}
        except RemoteProtocolError as fault:
            told = self._sends(self.stage.fail(fault.code, str(fault)))
            return {"expect": fault.code.label, "ends": "session", **told}

    def left(self) -> Case:
        stage = self.stage
        return {
            "state": stage.state.name.lower(),
            "reason": stage.reason.label,
            "computed": stage.computed,
            "received": stage.received,
        }

    def _sends(self, sends: Iterable[Send]) -> Case:
        return {"sends": [{"to": self._names[send.to], "message": hex_of(send.message)} for send in sends]}


class ClientReplay:
    """A generation at its client."""

    def __init__(self, case: Case) -> None:
        route = [key_of(f"stage {place}") for place in range(case["route"])]
        ending = Ending(case["ends"], case["max_tokens"], Letters(case["stops"]))
        self.generation = Generation(SESSION, case["epoch"], case["prompt"], route, case["vocabulary"], ending)

    def step(self, step: Case) -> Case:
        """Do a step; return what follows of it, as a case writes it."""
        if "fail" in step:
            return self._sends(self.generation.fail("as the case says", Code.read(code_of(step["fail"]))))
        if "resumes" in step:
            return self._sends(self.generation.resume(key_of(step["resumes"])))
        return self.hear(step["from"], message_of(step))

    def hear(self, name: str, message: SessionMessage) -> Case:
        """As a client does: a fault fails the generation, and a stranger's ends its link."""
        try:
            return self._sends(self.generation.receive(key_of(name), message))
        except Stranger as fault:
            return {"expect": fault.code.label, "ends": "link", "sends": []}
        except RemoteProtocolError as fault:
            told = self._sends(self.generation.fail(str(fault), fault.code))
            return {"expect": fault.code.label, "ends": "generation", **told}

    def left(self) -> Case:
        generation = self.generation
        return {"state": generation.phase.name.lower(), "reason": generation.reason.label, "ids": generation.ids}

    @staticmethod
    def _sends(sends: Iterable[Send]) -> Case:
        return {
            "sends": [{"to": send.to.rstrip(b".").decode(), "message": hex_of(send.message)} for send in sends],
        }


class RingReplay:
    """A whole ring: each side takes what its script gives it, and must have sent what the script says, in order."""

    def __init__(self, case: Case) -> None:
        self._stages = [StageReplay(stage_terms(case, place)) for place in range(case["route"])]
        self._client = ClientReplay(case)
        self._sent: dict[tuple[str, str], deque[str]] = defaultdict(deque)  # by sender and receiver

    def step(self, step: Case) -> None:
        if "at" in step:
            self._send(step["at"], self._side(step["at"]).step(step))
            return
        sender, to = step["from"], step["to"]
        if not step.get("forged") and not isinstance(
            message_of(step), Accept
        ):  # what comes before a session is a node's
            assert self._sent[sender, to].popleft() == step["message"], step
        if step.get("lost"):
            return
        if to == "client":
            outcome = self._client.hear(sender, message_of(step))
        else:
            place = self._place(to)
            outcome = self._stages[place].hear(part_of(sender, place, len(self._stages)), message_of(step))
        assert outcome.get("expect") == step.get("expect"), step
        assert outcome.get("ends") == step.get("ends"), step
        self._send(to, outcome)

    def left(self) -> Case:
        """Where everybody is, once all that was sent is told."""
        assert {pair: sent for pair, sent in self._sent.items() if sent} == {}
        stages = {f"stage {place}": stage.left() for place, stage in enumerate(self._stages)}
        return {"client": self._client.left(), **stages}

    def _side(self, name: str) -> StageReplay | ClientReplay:
        return self._client if name == "client" else self._stages[self._place(name)]

    @staticmethod
    def _place(name: str) -> int:
        return int(name.removeprefix("stage "))

    def _send(self, sender: str, outcome: Case) -> None:
        for send in outcome["sends"]:
            to = send["to"]
            if sender != "client":
                to = name_of(to, self._place(sender), len(self._stages))
            self._sent[sender, to].append(send["message"])


def hex_of(message: SessionMessage) -> str:
    """A message as cases write it: texts are for people, and left out."""
    return encode_message(replace(message, text="") if isinstance(message, Close | SessionRefused) else message).hex()


def code_of(name: str) -> int:
    return next(code.value for code in Code if code.label == name)
