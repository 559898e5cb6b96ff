"""Answers of real nodes over libp2p, with the real model."""

import json
import socket
import struct
import threading
from functools import partial
from pathlib import Path

import pytest
import trio

from p2pinfer.core.models.manifest import TOKENIZER
from p2pinfer.core.models.text import Texts
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.settings import Serve
from p2pinfer.node.whole import greedy_ids

from .conftest import LiveSwarm
from .processes import command, failed

PROMPT = "The history of computing is"


def ask(swarm: LiveSwarm, data: Path, *options: object) -> dict[str, object]:
    result = command(
        "ask",
        PROMPT,
        "--json",
        "--data",
        data,
        "--store",
        swarm.store,
        "--bootstrap",
        swarm.bootstrap.address,
        *options,
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def test_greedy_ids_of_three_processes_equal_those_of_the_whole_model(
    demo_swarm: LiveSwarm, demo_model: tuple[Store, StoredModel], tmp_path: Path
) -> None:
    answer = ask(demo_swarm, tmp_path, "--codec", "f32", "--max-tokens", 64)
    store, model = demo_model
    texts = Texts(store.read(model.id, TOKENIZER), model.manifest)
    whole = partial(greedy_ids, store, model, Serve(numerics="f32-1", threads=1), texts.encode(PROMPT), 64)
    assert answer["ids"] == trio.run(whole)
    assert answer["reason"] == "length"
    assert answer["tokens"] == 64
    assert [stage["layers"] for stage in answer["stages"]] == [[0, 10], [10, 20], [20, 30]]  # type: ignore


def test_the_model_ends_its_own_answer(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    result = command(
        *("ask", "Say hello.", "--chat", "--json", "--data", tmp_path, "--store", tmp_path / "store"),
        *("--bootstrap", demo_swarm.bootstrap.address),
    )
    answer = json.loads(result.stdout)
    assert answer["reason"] == "end"
    assert answer["tokens"] < 256
    assert "<|im_end|>" not in answer["text"]


def test_the_answer_streams_to_stdout_and_nothing_else_does(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    options = ("--data", tmp_path, "--store", demo_swarm.store, "--bootstrap", demo_swarm.bootstrap.address)
    spoken = command("ask", PROMPT, "--max-tokens", 8, *options)
    told = command("ask", "-", "--json", "--max-tokens", 8, *options, text=PROMPT)
    assert spoken.stdout == json.loads(told.stdout)["text"] + "\n"
    assert told.stderr == ""
    assert spoken.stderr.startswith("(8 tokens, ")
    assert spoken.stderr.count("\n") == 1


def test_the_cost_of_an_answer_is_what_is_owed_for_it(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    answer = ask(demo_swarm, tmp_path, "--max-tokens", 8)
    owed = json.loads(command("owed", "--json", "--data", tmp_path).stdout)["total"]
    assert answer["cost"] == owed["owed_ncr"] > 0
    assert answer["cost"] == sum(stage["cost"] for stage in answer["stages"])  # type: ignore[attr-defined]


def test_two_commands_of_one_data_folder_answer_at_once(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    answers: list[dict[str, object]] = []

    def one() -> None:
        answers.append(ask(demo_swarm, tmp_path, "--max-tokens", 32))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer["tokens"] for answer in answers] == [32, 32]


def test_the_swarm_is_shown(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    options = ("--data", tmp_path, "--store", demo_swarm.store, "--bootstrap", demo_swarm.bootstrap.address)
    rows = json.loads(command("swarm", "--json", *options).stdout)
    assert [row["layers"] for row in rows] == [[0, 10], [10, 20], [20, 30]]
    assert {row["state"] for row in rows} == {"serving"}
    table = command("swarm", *options)
    assert table.returncode == 0
    assert "10:20" in table.stdout


# What is not answered


def test_without_a_bootstrap_peer_one_is_asked_for(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    words = failed(command("ask", "hello", "--wait", 0, "--data", tmp_path, "--store", demo_swarm.store), 2)
    assert "--bootstrap" in words


@pytest.mark.parametrize("address", ["nonsense", "/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWbad"])
def test_an_address_that_is_none_is_named(demo_swarm: LiveSwarm, tmp_path: Path, address: str) -> None:
    result = command("ask", "hello", "--data", tmp_path, "--store", demo_swarm.store, "--bootstrap", address)
    assert failed(result, 2)


def test_an_address_where_nobody_is_leads_to_no_model(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        peer = demo_swarm.bootstrap.address.rpartition("/")[2]
        address = f"/ip4/127.0.0.1/tcp/{held.getsockname()[1]}/p2p/{peer}"
        options = ("--data", tmp_path, "--store", demo_swarm.store, "--bootstrap", address)
        result = command("ask", "hello", "--wait", 5, *options)
    assert "waiting for a peer that answers" in result.stderr
    assert "no peer serves any model" in failed(result, 2)


def test_an_unknown_model_is_told_with_what_there_is(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    options = ("--data", tmp_path, "--store", demo_swarm.store, "--bootstrap", demo_swarm.bootstrap.address)
    words = failed(command("ask", "hello", "--model", "gpt-9", *options), 2)
    assert words == "nobody serves a model 'gpt-9'; on offer: smollm2-135m-instruct"


def test_a_prompt_longer_than_the_context_is_told_in_numbers(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    options = ("--data", tmp_path, "--store", demo_swarm.store, "--bootstrap", demo_swarm.bootstrap.address)
    words = failed(command("ask", "-", *options, text="hello " * 9000), 2)
    assert "the prompt has" in words
    assert "8192 together" in words


def test_a_class_that_nobody_serves_is_told(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    options = ("--data", tmp_path, "--store", demo_swarm.store, "--bootstrap", demo_swarm.bootstrap.address)
    words = failed(command("ask", "hello", "--numerics", "bf16-1", "--wait", 0, *options))
    assert "nobody serves layers 0:30" in words


# Strangers


def test_sockets_that_talk_garbage_lie_or_stay_silent_harm_nobody(demo_swarm: LiveSwarm, tmp_path: Path) -> None:
    sockets = []
    for node in (demo_swarm.bootstrap, *demo_swarm.nodes):
        port = int(node.address.split("/")[4])
        for words in (
            b"",  # silent
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(range(256)) * 64,
            b"\x13/multistream/1.0.0\n" + struct.pack(">I", 0xFFFFFFFF),
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(100),  # a length of 2^63
            b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\xff\xff" + bytes(1000),
        ):
            stranger = socket.create_connection(("127.0.0.1", port))
            stranger.sendall(words)
            sockets.append(stranger)
    answer = ask(demo_swarm, tmp_path, "--max-tokens", 8)
    for stranger in sockets:
        stranger.close()
    assert answer["tokens"] == 8
    assert ask(demo_swarm, tmp_path, "--max-tokens", 8)["ids"] == answer["ids"]
    for node in (demo_swarm.bootstrap, *demo_swarm.nodes):
        assert node.process.poll() is None
        assert "Traceback" not in node.words
