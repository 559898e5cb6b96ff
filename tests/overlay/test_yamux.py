"""yamux for one stream, both ends back to back without a connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.overlay.libp2p.multistream import Dialler, encode_line
from p2pinfer.overlay.libp2p.yamux import FIRST_WINDOW, MAX_DATA, WINDOW, Flag, Type, Yamux, encode_header
from p2pinfer.overlay.limits import MAX_REPLIES

PROTOCOL = "/p2pinfer/link/1"
OPENING = Dialler(PROTOCOL).opening


def carry(near: Yamux, far: Yamux) -> None:
    """Take what both have to say to the other until both are silent."""
    while near.replies or far.replies:
        far.receive(near.take_replies())
        near.receive(far.take_replies())


def agreed_pair() -> tuple[Yamux, Yamux]:
    near, far = Yamux(PROTOCOL, dialled=True), Yamux(PROTOCOL, dialled=False)
    carry(near, far)
    assert near.agreed
    assert far.agreed
    return near, far


def stream_data(stream: int, data: bytes, flags: int = Flag.NONE) -> bytes:
    return encode_header(Type.DATA, flags, stream, len(data)) + data


def test_both_ends_agree_on_the_protocol_and_open_their_windows() -> None:
    near, far = agreed_pair()
    assert near.send_window >= WINDOW - 100
    assert far.send_window >= WINDOW - 100


@given(st.lists(st.binary(min_size=1, max_size=200_000), max_size=5), st.integers(1, 70_000))
def test_data_arrives_in_order_in_whatever_portions(sent: list[bytes], portion: int) -> None:
    near, far = agreed_pair()
    wire = b"".join(near.encode_data(data) for data in sent)
    for at in range(0, len(wire), portion):
        far.receive(wire[at : at + portion])
    assert b"".join(far.data) == b"".join(sent)


def test_a_window_that_was_used_is_opened_again() -> None:
    near, far = agreed_pair()
    before = near.send_window
    far.receive(near.encode_data(bytes(WINDOW // 2)))
    carry(near, far)
    assert near.send_window == pytest.approx(before, abs=WINDOW // 4)


def test_no_frame_is_longer_than_others_take() -> None:
    near, _ = agreed_pair()
    wire = near.encode_data(bytes(3 * MAX_DATA))
    assert len(wire) == 3 * (MAX_DATA + 12)


def test_a_ping_is_answered() -> None:
    near, _ = agreed_pair()
    near.receive(encode_header(Type.PING, Flag.SYN, 0, 77))
    assert near.take_replies() == encode_header(Type.PING, Flag.ACK, 0, 77)


def test_a_peer_that_asks_and_does_not_read_is_ended() -> None:
    near, _ = agreed_pair()
    ping = encode_header(Type.PING, Flag.SYN, 0, 77)
    near.receive(ping * (MAX_REPLIES // len(ping)))
    with pytest.raises(RemoteProtocolError, match="does not read"):
        near.receive(ping)


def test_streams_that_come_and_go_leave_nothing() -> None:
    far = Yamux(PROTOCOL, dialled=False)
    for stream in range(1, 2001, 2):
        far.receive(encode_header(Type.WINDOW_UPDATE, Flag.SYN, stream, 0))
        far.receive(encode_header(Type.WINDOW_UPDATE, Flag.RST, stream, 0))
        far.take_replies()
    assert not far._asking


def test_a_dialler_refuses_streams_the_other_side_opens() -> None:
    """WIRE-2"""
    near, _ = agreed_pair()
    near.receive(encode_header(Type.WINDOW_UPDATE, Flag.SYN, 2, 0) + stream_data(2, b"\x13/multistream/1.0.0\n"))
    assert near.take_replies() == encode_header(Type.WINDOW_UPDATE, Flag.RST, 2, 0)
    assert not near.data


def test_the_stream_that_asks_for_our_protocol_is_ours_and_the_others_are_reset() -> None:
    far = Yamux(PROTOCOL, dialled=False)
    for stream in (1, 3):
        far.receive(encode_header(Type.WINDOW_UPDATE, Flag.SYN, stream, 0))
    far.receive(stream_data(1, encode_line("/multistream/1.0.0") + encode_line("/ipfs/id/1.0.0")))
    assert not far.agreed
    far.receive(stream_data(3, OPENING + b"data"))
    assert far.agreed
    assert list(far.data) == [b"data"]
    assert encode_header(Type.WINDOW_UPDATE, Flag.RST, 1, 0) in far.take_replies()


def test_a_window_opened_before_the_protocol_was_agreed_counts() -> None:
    far = Yamux(PROTOCOL, dialled=False)
    far.receive(encode_header(Type.WINDOW_UPDATE, Flag.SYN, 1, 1000))
    far.receive(encode_header(Type.WINDOW_UPDATE, Flag.NONE, 1, 500) + stream_data(1, OPENING))
    assert far.send_window == FIRST_WINDOW + 1500 - len(OPENING)


@pytest.mark.parametrize(
    "data",
    [
        encode_header(Type.GO_AWAY, Flag.NONE, 0, 0),
        encode_header(Type.WINDOW_UPDATE, Flag.FIN, 1, 0),
        encode_header(Type.WINDOW_UPDATE, Flag.RST, 1, 0),
        encode_header(Type.DATA, Flag.FIN, 1, 0),
    ],
    ids=["go away", "end", "reset", "end with data"],
)
def test_the_stream_ends_when_the_peer_says_so(data: bytes) -> None:
    _, far = agreed_pair()
    far.receive(data)
    assert far.ended


def test_data_that_comes_with_the_end_is_not_lost() -> None:
    _, far = agreed_pair()
    far.receive(stream_data(1, b"last words", Flag.FIN))
    assert list(far.data) == [b"last words"]
    assert far.ended


@pytest.mark.parametrize(
    "data",
    [
        b"\x01" + bytes(11),
        encode_header(Type.DATA, Flag.NONE, 1, 0)[:1] + b"\x04" + bytes(10),
        encode_header(Type.DATA, Flag.NONE, 1, WINDOW + 1),
        encode_header(Type.DATA, Flag.NONE, 5, 2**32 - 1),
    ],
    ids=["another version", "an unknown type", "more than the window", "more than the window on another stream"],
)
def test_what_breaks_the_spec_is_the_peers_fault(data: bytes) -> None:
    _, far = agreed_pair()
    with pytest.raises(RemoteProtocolError):
        far.receive(data)


@given(st.booleans(), st.lists(st.binary(max_size=64)))
def test_any_bytes_are_frames_or_the_peers_fault(dialled: bool, portions: list[bytes]) -> None:
    yamux = Yamux(PROTOCOL, dialled=dialled)
    try:
        for portion in portions:
            yamux.receive(portion)
    except RemoteProtocolError:
        return


@given(
    st.lists(
        st.builds(
            encode_header,
            st.sampled_from(Type),
            st.sampled_from([Flag.NONE, Flag.SYN, Flag.ACK, Flag.FIN, Flag.RST]),
            st.sampled_from([0, 1, 2, 3]),
            st.integers(0, 40),
        )
    )
)
def test_any_frames_are_taken_or_the_peers_fault(frames: list[bytes]) -> None:
    for yamux in agreed_pair():
        try:
            yamux.receive(b"".join(frames))
        except RemoteProtocolError:
            continue
