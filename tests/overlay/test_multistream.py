"""multistream-select, both sides, without a connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.overlay.libp2p.multistream import MAX_TRIES, Acceptor, Dialler, encode_line

LINE = "/p2pinfer/link/1"
GREETING = encode_line("/multistream/1.0.0")


def test_a_line_has_its_length_before_it_and_a_newline_at_its_end() -> None:
    assert GREETING == b"\x13/multistream/1.0.0\n"


@given(st.integers(1, 30))
def test_both_sides_agree_in_whatever_portions_the_lines_come(portion: int) -> None:
    said = bytearray()
    dialler, acceptor = Dialler(LINE), Acceptor(LINE, said.extend)
    opening = dialler.opening + b"and more"
    agreed = [acceptor.receive(opening[at : at + portion]) for at in range(0, len(opening), portion) if not said[20:]]
    assert agreed[-1]
    answers = [dialler.receive(bytes(said[at : at + portion])) for at in range(0, len(said), portion)]
    assert answers == [False] * (len(answers) - 1) + [True]


def test_what_comes_after_the_lines_belongs_to_the_protocol() -> None:
    acceptor = Acceptor(LINE, lambda line: None)
    assert acceptor.receive(Dialler(LINE).opening + b"\0\0\0\x05hello")
    assert acceptor.rest == b"\0\0\0\x05hello"


def test_other_protocols_are_refused_and_ours_is_still_to_be_had() -> None:
    said = bytearray()
    acceptor = Acceptor(LINE, said.extend)
    assert not acceptor.receive(GREETING + encode_line("/ipfs/id/1.0.0"))
    assert acceptor.receive(encode_line(LINE))
    assert said == GREETING + encode_line("na") + encode_line(LINE)


def test_a_peer_that_never_asks_for_ours_is_given_up() -> None:
    acceptor = Acceptor(LINE, lambda line: None)
    with pytest.raises(RemoteProtocolError, match="asked for 17 protocols"):
        acceptor.receive(GREETING + encode_line("/other/1") * (MAX_TRIES + 1))


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n" * 8, b"\x00", b"\xff\xff", encode_line(LINE), b"\x03abc"],
    ids=["HTTP", "no length", "a long line", "no greeting", "no newline"],
)
def test_what_is_no_multistream_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Acceptor(LINE, lambda line: None).receive(data)


@pytest.mark.parametrize("answer", [encode_line("na"), encode_line(LINE), GREETING + encode_line("na")])
def test_a_dialler_that_is_refused_says_so(answer: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="the peer says"):
        Dialler(LINE).receive(answer)


@given(st.lists(st.binary(max_size=32)))
def test_any_bytes_are_lines_or_the_peers_fault(portions: list[bytes]) -> None:
    for side in (Dialler(LINE), Acceptor(LINE, lambda line: None)):
        try:
            for portion in portions:
                side.receive(portion)
        except RemoteProtocolError:
            continue
