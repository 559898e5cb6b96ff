"""The contract every network keeps, in memory and over libp2p alike (protocols/wire.md)."""

from dataclasses import replace

import pytest
import trio
import trio.testing

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, RemoteProtocolError, UsageError
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.wire.frames import FrameDecoder, encode_frame
from p2pinfer.core.wire.messages import MAX_PART, Ack, AskContacts, FilePart, Goodbye, Hello, Ping, Pong
from p2pinfer.overlay.network import Priority
from p2pinfer.overlay.pipe import Pipe

from .conftest import HELLO, KEYS, OpenPeer, OpenRaw, hear_goodbye, say

BIG = FilePart(1, MAX_PART, bytes(range(256)) * (MAX_PART // 256))


async def test_what_is_sent_arrives_in_order(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    link = await near.dial(far)
    asks = [AskContacts(call) for call in range(1, 201)]
    for ask in asks:
        await link.send(ask)
    assert [await far.came.next() for _ in asks] == asks


async def test_the_one_who_was_dialled_may_send_first(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    await near.dial(far)
    await far.came.wait_links(1)
    far.came.links[0].send_nowait(AskContacts(7))
    assert await near.came.next() == AskContacts(7)


async def test_the_greatest_messages_arrive_whole_both_ways(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    link = await near.dial(far)
    await far.came.wait_links(1)
    for _ in range(5):
        await link.send(BIG, Priority.BULK)
        await far.came.links[0].send(BIG, Priority.BULK)
    assert [await far.came.next() for _ in range(5)] == [BIG] * 5
    assert [await near.came.next() for _ in range(5)] == [BIG] * 5


async def test_a_second_dial_returns_the_same_link(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    assert await near.dial(far) is await near.dial(far)
    assert near.network.links() == tuple(near.came.links)


async def test_two_callers_that_dial_at_once_get_the_same_link(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    links = []

    async def dial() -> None:
        links.append(await near.dial(far))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(dial)
    assert links[0] is links[1]
    assert len(far.came.links) == 1


async def test_a_peer_uses_the_link_the_other_side_dialled(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    await near.dial(far)
    await far.came.wait_links(1)
    assert await far.dial(near) is far.came.links[0]


@pytest.mark.parametrize("first", [0, 1])
async def test_two_peers_that_dial_each_other_at_once_share_one_link(open_peer: OpenPeer, first: int) -> None:
    """WIRE-15, WIRE-16"""
    peers = [await open_peer(0), await open_peer(1)]
    links = {}

    async def dial(number: int) -> None:
        links[number] = await peers[number].dial(peers[1 - number])
        await links[number].send(AskContacts(1 + number))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial, first)
        nursery.start_soon(dial, 1 - first)
    assert await peers[0].came.next() == AskContacts(2)
    assert await peers[1].came.next() == AskContacts(1)
    for peer in peers:
        assert len(peer.came.links) == 1
        assert peer.came.closed == []


async def test_a_peer_has_links_to_many_at_once(open_peer: OpenPeer) -> None:
    peers = [await open_peer(number) for number in range(5)]
    async with trio.open_nursery() as nursery:
        for peer in peers:
            for other in peers:
                if peer is not other:
                    nursery.start_soon(peer.dial, other)
    for peer in peers:
        assert {link.peer for link in peer.network.links()} == {other.key for other in peers} - {peer.key}
        assert peer.came.closed == []


async def test_cancelled_senders_do_not_harm_the_link(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    link = await near.dial(far)
    sent = []

    async def send(number: int) -> None:
        await link.send(replace(BIG, call=number), Priority.BULK)
        sent.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(send, number)
        await far.came.next()
        nursery.cancel_scope.cancel()
    await link.send(AskContacts(99), Priority.BULK)
    came = [await far.came.next() for _ in range(len(sent))]
    assert came[-1] == AskContacts(99)


async def test_a_cancelled_dial_leaves_the_link_to_whoever_comes_next(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await near.dial(far)
    await (await near.dial(far)).send(AskContacts(1))
    assert await far.came.next() == AskContacts(1)
    assert len(far.came.links) == 1


async def test_an_address_where_nobody_answers_is_unreachable(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    far.leave()
    await trio.testing.wait_all_tasks_blocked(0.05)
    with pytest.raises(LinkDead) as caught:
        await near.dial(far)
    assert caught.value.code is Code.UNREACHABLE


async def test_an_address_where_another_peer_answers_is_unreachable(open_peer: OpenPeer) -> None:
    """WIRE-1"""
    near, far = await open_peer(0), await open_peer(1)
    place = far.address.rpartition("/p2p/")[0]
    with pytest.raises(LinkDead) as caught:
        await near.network.dial(f"{place}/p2p/{peer_name(KEYS[2].public)}")
    assert caught.value.code is Code.UNREACHABLE
    assert far.came.links == []


@pytest.mark.parametrize("address", ["", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/p2p/12D3KooNothing"])
async def test_an_address_without_a_peer_is_the_callers_mistake(open_peer: OpenPeer, address: str) -> None:
    near = await open_peer(0)
    with pytest.raises(UsageError):
        await near.network.dial(address)


async def test_a_peer_cannot_dial_itself(open_peer: OpenPeer) -> None:
    near = await open_peer(0)
    with pytest.raises(LinkDead, match="our own"):
        await near.dial(near)


async def test_a_goodbye_tells_the_other_side_why(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    (await near.dial(far)).close(Code.IDLE, "five minutes of nothing")
    why = await far.came.wait_closed()
    assert why.code is Code.IDLE
    assert "five minutes of nothing" in str(why)
    assert near.network.link(far.key) is None
    assert far.network.link(near.key) is None


async def test_control_frames_leave_before_the_goodbye(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    link = await near.dial(far)
    for number in range(1, 51):
        link.send_nowait(AskContacts(number))
    link.close(Code.IDLE)
    await far.came.wait_closed()
    assert far.came.waiting() == 50


async def test_a_network_that_closes_says_that_it_leaves(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    await near.dial(far)
    near.leave()
    assert (await far.came.wait_closed()).code is Code.LEAVING


async def test_a_closed_link_takes_nothing_more(open_peer: OpenPeer) -> None:
    near, far = await open_peer(0), await open_peer(1)
    link = await near.dial(far)
    link.close(Code.IDLE)
    with pytest.raises(LinkDead):
        await link.send(AskContacts(1))
    with pytest.raises(LinkDead):
        link.send_nowait(AskContacts(1))
    assert await near.dial(far) is not link


async def test_a_receiver_that_finds_a_fault_ends_that_link_alone(open_peer: OpenPeer) -> None:
    near, far, third = [await open_peer(number) for number in range(3)]
    link = await near.dial(far)
    await third.dial(far)
    far.came.refusal = RemoteProtocolError("not now", Code.OVER_CREDIT)
    await link.send(AskContacts(1))
    assert (await near.came.wait_closed()).code is Code.OVER_CREDIT
    far.came.refusal = None
    await third.network.links()[0].send(AskContacts(2))
    assert await far.came.next() == AskContacts(2)


async def test_the_hellos_compare_clocks(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await say(pipe, replace(HELLO, clock_ms=3_600_000))
    await peer.came.wait_links(1)
    assert peer.came.links[0].clock_offset_s < -1_000_000_000  # the raw peer lives in 1970


async def test_another_version_is_told_so(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await say(pipe, replace(HELLO, version=2))
    assert await hear_goodbye(pipe) is Code.BAD_VERSION
    assert peer.came.links == []


async def test_a_message_before_the_hello_is_refused(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await say(pipe, AskContacts(1))
    assert await hear_goodbye(pipe) is Code.BAD_STATE
    assert peer.came.links == []


@pytest.mark.parametrize(
    "data",
    [bytes.fromhex("ffffffff"), bytes.fromhex("00000000"), (1025).to_bytes(4, "big"), b"GET / HTTP/1.1\r\n"],
    ids=["the longest length", "no length", "longer than a Hello may be", "another protocol"],
)
async def test_a_first_frame_that_lies_about_its_length_is_refused(
    open_peer: OpenPeer, open_raw: OpenRaw, data: bytes
) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await pipe.write(data)
    assert await hear_goodbye(pipe) is Code.BAD_FRAME
    assert peer.came.links == []


async def test_a_frame_that_lies_about_its_length_ends_the_link(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await say(pipe, HELLO)
    await pipe.write((70_000_000).to_bytes(4, "big"))
    assert await hear_goodbye(pipe) is Code.BAD_FRAME
    assert "70000000" in str(await peer.came.wait_closed())


@pytest.mark.parametrize(
    "message",
    [HELLO, Ack(10**9, 0), Pong(2**53 - 1)],
    ids=["a second Hello", "an ack of what was never sent", "a pong of no ping"],
)
async def test_a_message_that_cannot_be_now_ends_the_link(
    open_peer: OpenPeer, open_raw: OpenRaw, message: Hello | Ack | Pong
) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await say(pipe, HELLO, message)
    assert await hear_goodbye(pipe) is Code.BAD_STATE
    await peer.came.wait_closed()


async def test_acks_that_go_back_end_the_link(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    pipe = await open_raw(await open_peer(0))
    await say(pipe, HELLO, Ack(20, 0), Ack(19, 0))
    assert await hear_goodbye(pipe) is Code.BAD_STATE


async def test_a_goodbye_with_a_code_from_the_future_closes_the_link_all_the_same(
    open_peer: OpenPeer, open_raw: OpenRaw
) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await say(pipe, HELLO, Goodbye(250, "who knows"))
    why = await peer.came.wait_closed()
    assert why.code is Code.UNKNOWN
    assert "who knows" in str(why)


async def test_a_connection_that_ends_without_a_goodbye_is_lost(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    """WIRE-10"""
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await say(pipe, HELLO)
    await peer.came.wait_links(1)
    await pipe.abort()
    assert (await peer.came.wait_closed()).code is Code.LOST
    assert peer.network.links() == ()


async def test_messages_that_come_with_the_hello_are_not_lost(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await say(pipe, HELLO, AskContacts(1), AskContacts(2))
    assert [await peer.came.next(), await peer.came.next()] == [AskContacts(1), AskContacts(2)]


async def test_messages_may_come_byte_by_byte(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    for byte in encode_frame(HELLO) + encode_frame(AskContacts(70_000)):
        await pipe.write(bytes([byte]))
    assert await peer.came.next() == AskContacts(70_000)


async def test_a_peer_that_started_anew_replaces_its_old_link(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    peer = await open_peer(0)
    old, new = await open_raw(peer), await open_raw(peer)
    await say(old, HELLO)
    await peer.came.wait_links(1)
    await say(new, replace(HELLO, boot=bytes([1]) * 16))
    await peer.came.wait_links(2)
    assert peer.network.links() == (peer.came.links[1],)
    assert await hear_goodbye(old) is Code.LOST


async def test_a_second_stream_of_a_peer_whose_link_lives_is_a_duplicate(
    open_peer: OpenPeer, open_raw: OpenRaw, nursery: trio.Nursery
) -> None:
    peer = await open_peer(0)
    first, second = await open_raw(peer), await open_raw(peer)
    await say(first, HELLO)
    await peer.came.wait_links(1)
    nursery.start_soon(answer_pings, first)
    await say(second, HELLO)
    assert await hear_goodbye(second) is Code.DUPLICATE
    assert peer.network.links() == tuple(peer.came.links)


async def test_a_second_stream_of_a_peer_whose_link_is_dead_replaces_it(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    peer = await open_peer(0)
    await say(await open_raw(peer), HELLO)
    await peer.came.wait_links(1)
    second = await open_raw(peer)
    await say(second, HELLO)  # the first never answers the ping that asks whether it lives
    await peer.came.wait_links(2)
    assert peer.network.links() == (peer.came.links[1],)


async def test_of_two_streams_opened_at_once_the_second_to_speak_is_a_duplicate(
    open_peer: OpenPeer, open_raw: OpenRaw
) -> None:
    """WIRE-15: a link whose Hello has just come need not prove that it lives; a loaded machine could not in time."""
    peer = await open_peer(0)
    first, second = await open_raw(peer), await open_raw(peer)
    await trio.testing.wait_all_tasks_blocked(0.05)
    await say(first, HELLO)
    await peer.came.wait_links(1)
    await say(second, HELLO)
    assert await hear_goodbye(second) is Code.DUPLICATE
    assert peer.network.links() == tuple(peer.came.links)


async def test_a_peer_that_is_turned_away_hears_why(open_peer: OpenPeer, open_raw: OpenRaw) -> None:
    peer = await open_peer(0)
    pipe = await open_raw(peer)
    await say(pipe, Goodbye(Code.IDLE, ""))
    assert await hear_goodbye(pipe) is Code.BAD_STATE


async def answer_pings(pipe: Pipe) -> None:
    decoder = FrameDecoder()
    while data := await pipe.read():
        decoder.feed(data)
        for message in iter(decoder.next_message, None):
            if isinstance(message, Ping):
                await say(pipe, Pong(message.at_us))
