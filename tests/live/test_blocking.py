"""The client in the hands of scripts, notebooks and asyncio: errors, threads, interrupts, streams, and its end."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from subprocess import PIPE, Popen
from threading import Event, Thread

import pytest

import p2pinfer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, ModelError, UsageError
from p2pinfer.disk.journal_reader import read_journal

from .processes import COMMAND_S, ENVIRONMENT, SERVING, NodeProcess, run_node

LONG = 4000  # tokens: an answer that nobody waits for


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[NodeProcess]:
    with run_node(tmp_path_factory.mktemp("blocking") / "node", tiny_store, *SERVING) as node:
        yield node


@pytest.fixture
def swarm(node: NodeProcess, tmp_path: Path) -> Iterator[p2pinfer.Swarm]:
    with p2pinfer.connect(tmp_path / "data", tmp_path / "store", [node.address], mdns=False) as swarm:
        yield swarm


def test_a_text_is_the_answers_text(swarm: p2pinfer.Swarm) -> None:
    answer = swarm.answer("hello", max_tokens=5)
    assert answer.tokens == 5
    assert swarm.generate("hello", max_tokens=5) == answer.text


def test_many_answers_come_in_the_order_of_their_prompts(swarm: p2pinfer.Swarm) -> None:
    answers = swarm.answers(["x" * length for length in (3, 1, 2)], max_tokens=2)
    assert [answer.prompt_tokens for answer in answers if isinstance(answer, p2pinfer.Answer)] == [3, 1, 2]


def test_a_prompt_that_fails_costs_no_other_answer(swarm: p2pinfer.Swarm) -> None:
    first, failed, last = swarm.answers(["hello", "", "hello"], max_tokens=3)
    assert isinstance(failed, UsageError)
    assert isinstance(first, p2pinfer.Answer)
    assert isinstance(last, p2pinfer.Answer)


def test_errors_are_plain_and_the_client_lives_on(swarm: p2pinfer.Swarm) -> None:
    with pytest.raises(UsageError, match="the prompt is empty"):
        swarm.answer("")
    with pytest.raises(UsageError, match="together: shorten the prompt"):
        swarm.generate("hello", max_tokens=5000)
    with pytest.raises(ModelError, match="nobody serves a model 'gpt-9'"):
        swarm.answer("hello", model="gpt-9")
    with pytest.raises(UsageError, match="no option 'max_token'; do you mean max_tokens"):
        swarm.answers(["hello"], max_token=5)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"stop is a list of texts, not 'x': write \['x'\]"):
        swarm.answer("hello", stop="x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"prompts are a list, and not one text: write \['hello'\]"):
        swarm.answers("hello")
    assert swarm.answer("hello", max_tokens=3).tokens == 3


def test_an_address_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="nonsense"),
        p2pinfer.connect(tmp_path, tmp_path, ["nonsense"]) as swarm,
    ):
        swarm.answer("hello")


def test_what_a_script_raises_inside_the_block_comes_out_of_it(node: NodeProcess, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), p2pinfer.connect(tmp_path, tmp_path, [node.address], mdns=False):
        _ = 1 // 0


def test_after_the_block_nothing_is_asked(node: NodeProcess, tmp_path: Path) -> None:
    with p2pinfer.connect(tmp_path, tmp_path, [node.address], mdns=False) as swarm:
        pass
    with pytest.raises(UsageError, match="the swarm is closed: connect again"):
        swarm.answer("hello")
    swarm.close()


def test_a_swarm_closed_within_the_block_answers_nothing_more(swarm: p2pinfer.Swarm) -> None:
    swarm.close()
    with pytest.raises(UsageError, match="the swarm is closed"):
        swarm.answer("hello")
    swarm.close()


def test_a_stream_is_the_answer_in_pieces(swarm: p2pinfer.Swarm) -> None:
    stream = swarm.stream("hello", max_tokens=5)
    assert "".join(stream) == stream.answer.text == swarm.generate("hello", max_tokens=5)
    assert list(stream) == []
    assert stream.answer.tokens == 5


def test_a_stream_that_is_left_is_given_up(swarm: p2pinfer.Swarm, node: NodeProcess) -> None:
    stream = swarm.stream("hello", max_tokens=LONG)
    for _ in stream:
        break
    stream.close()
    assert len(list(stream)) < LONG - 1  # what had come by then
    with pytest.raises(GenerationFailed, match="was given up"):
        _ = stream.answer


def test_a_timeout_gives_the_answer_up_and_says_what_it_cost(swarm: p2pinfer.Swarm) -> None:
    swarm.answer("hello", max_tokens=1)
    with pytest.raises(GenerationFailed, match="timeout") as failure:
        swarm.answer("hello", max_tokens=LONG, timeout=0.3)
    assert failure.value.code is Code.CANCELLED
    assert swarm.answer("hello", max_tokens=2, timeout=60).tokens == 2


def test_asyncio_asks_streams_and_gives_up(node: NodeProcess, tmp_path: Path) -> None:
    async def ask() -> tuple[str, str, int]:
        async with p2pinfer.aconnect(tmp_path / "data", tmp_path / "store", [node.address], mdns=False) as swarm:
            stream = swarm.stream("hello", max_tokens=5)
            pieces = [piece async for piece in stream]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(swarm.answer("hello", max_tokens=LONG), 0.3)
            both = await asyncio.gather(*(swarm.generate("hello", max_tokens=5) for _ in range(2)))
            assert both[0] == both[1]
            return "".join(pieces), both[0], (await stream.answer()).tokens

    streamed, text, tokens = asyncio.run(ask())
    assert (streamed, tokens) == (text, 5)
    with read_journal(tmp_path / "data" / "client.sqlite") as journal:
        assert journal.count_unstored() == 0


def test_two_threads_ask_at_once(swarm: p2pinfer.Swarm) -> None:
    texts: dict[int, str] = {}

    def ask(number: int) -> None:
        texts[number] = swarm.generate("hello", max_tokens=60)

    threads = [Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {0: texts[0], 1: texts[0]}


def test_a_thread_whose_swarm_is_closed_hears_it_and_what_it_got_is_paid(node: NodeProcess, tmp_path: Path) -> None:
    asking, failures = Event(), SimpleQueue[UsageError]()

    def ask(swarm: p2pinfer.Swarm) -> None:
        asking.set()
        with pytest.raises(UsageError, match="for all answers") as failure:
            swarm.answer("hello", max_tokens=LONG)
        failures.put(failure.value)

    with p2pinfer.connect(tmp_path / "data", tmp_path / "store", [node.address], mdns=False) as swarm:
        swarm.answer("hello", max_tokens=1)
        thread = Thread(target=ask, args=(swarm,))
        thread.start()
        asking.wait()
    thread.join()
    assert failures.get_nowait()
    with read_journal(tmp_path / "data" / "client.sqlite") as journal:
        assert journal.count_unstored() == 0


def test_a_peer_that_vanishes_is_a_failed_generation(
    tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pinfer.core.sessions.suspension.RETURN_S", 0.5)  # nobody comes back
    with (
        run_node(tmp_path / "node", tiny_store, *SERVING) as node,
        p2pinfer.connect(tmp_path / "data", tmp_path / "store", [node.address], mdns=False) as swarm,
    ):
        swarm.answer("hello", max_tokens=1)
        killer = Thread(target=node.end, args=(signal.SIGKILL,))
        killer.start()
        with pytest.raises(p2pinfer.P2pinferError):
            while True:
                swarm.answer("hello", max_tokens=LONG)
        killer.join()


INTERRUPTED = """
import sys
from pathlib import Path
import p2pinfer
data, address = sys.argv[1:]
with p2pinfer.connect(Path(data), Path(data), [address], mdns=False) as swarm:
    swarm.answer("hello", max_tokens=1)
    try:
        print("asking", flush=True)
        while True:
            swarm.answer("hello", max_tokens=4000)
    except KeyboardInterrupt:
        print(swarm.answer("hello", max_tokens=2).tokens)
"""


def test_an_interrupt_gives_up_one_answer_and_not_the_client(node: NodeProcess, tmp_path: Path) -> None:
    """As the stop button of a notebook does."""
    words = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "data"), node.address]
    with Popen(words, stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "asking\n"
        script.send_signal(signal.SIGINT)
        told, errors = script.communicate(timeout=COMMAND_S)
    assert (told, errors, script.returncode) == ("2\n", "", 0)
    with read_journal(tmp_path / "data" / "client.sqlite") as journal:
        assert journal.count_unstored() == 0


FORGOTTEN = """
import sys
from pathlib import Path
import p2pinfer
data, address = sys.argv[1:]
swarm = p2pinfer.connect(Path(data), data, [address], mdns=False)
stream = swarm.stream("hello", max_tokens=4000)
print(bool(next(stream)))
"""


def test_a_script_that_closes_nothing_ends_and_pays(node: NodeProcess, tmp_path: Path) -> None:
    words = [sys.executable, "-c", FORGOTTEN, str(tmp_path / "data"), node.address]
    with Popen(words, stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT) as script:
        told, errors = script.communicate(timeout=COMMAND_S)
    assert (told, errors, script.returncode) == ("True\n", "", 0)
    with read_journal(tmp_path / "data" / "client.sqlite") as journal:
        assert journal.count_unstored() == 0
