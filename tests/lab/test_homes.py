"""The product between homes: slow lines, plugs that are pulled, networks that come late, addresses that change.

A tiny model, real processes, real libp2p; a host of the lab each. Whoever asks asks once, and the first answer comes.
"""

from pathlib import Path
from threading import Thread, Timer

import pytest

from .homes import FIRST_S, HOME, LISTEN_IPV6, bootstrap, open_homes
from .lab import Host, Line

OTHER_ADDRESS = "11.88.0.2/24"
NAMES = ("boot", "head", "tail", "client")
HALVES = {"head": "0:2", "tail": "2:3"}
SILENT = "/ip4/11.200.0.1/tcp/4001"  # nobody has this address: what is sent there is lost
OUTAGE_S = 2.0
TOKENS = 100  # at least 50 ms each
ROUND_TRIPS = 30  # over a slow line, to the end of an answer


def hosts(line: Line, *names: str) -> list[Host]:
    return [Host(name, line) for name in names]


def test_two_homes_answer_a_third(switch: Path, tmp_path: Path, tiny_store: Path) -> None:
    with open_homes(switch, tmp_path, tiny_store, hosts(HOME, *NAMES)) as homes:
        known = bootstrap(homes.start("boot"))
        homes.serve(HALVES, *known)
        answer = homes.answer("client", *known)
        assert [stage["layers"] for stage in answer["stages"]] == [[0, 2], [2, 3]]  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("rtt_s", [0.7, 1.0, 2.0])
def test_a_slow_line_is_slower_and_works(switch: Path, tmp_path: Path, tiny_store: Path, rtt_s: float) -> None:
    """Some twenty round trips: to who was named, to the nodes, for what the client has to know, for eight tokens."""
    with open_homes(switch, tmp_path, tiny_store, hosts(Line(delay_ms=250 * rtt_s), *NAMES)) as homes:
        known = bootstrap(homes.start("boot"))
        homes.serve(HALVES, *known)
        homes.answer("client", *known, within_s=FIRST_S + ROUND_TRIPS * rtt_s)
        assert '"layers": [2, 3]' in homes.command("client", "swarm", "--json", *known).stdout


@pytest.mark.slow
def test_a_plug_pulled_for_two_seconds_in_the_middle_of_an_answer(
    switch: Path, tmp_path: Path, tiny_store: Path
) -> None:
    with open_homes(switch, tmp_path, tiny_store, hosts(HOME, *NAMES)) as homes:
        known = bootstrap(homes.start("boot"))
        homes.serve(HALVES, *known)
        homes.answer("client", *known)
        whole = homes.command("client", "ask", "hello", "--max-tokens", TOKENS, *known).stdout
        with homes.asking("client", TOKENS, *known) as (process, first):
            homes.lab.unplug("tail")
            Timer(OUTAGE_S, homes.lab.plug, ["tail"]).start()
            rest, words = process.communicate()
        assert process.returncode == 0, words
        assert homes.lab.stats().hosts["tail"].unplugged > 0
        assert (first + rest).decode() == whole


@pytest.mark.slow
def test_a_node_whose_address_changes_is_found_at_the_new_one(switch: Path, tmp_path: Path, tiny_store: Path) -> None:
    with open_homes(switch, tmp_path, tiny_store, hosts(HOME, "boot", "car", "client")) as homes:
        known = bootstrap(homes.start("boot"))
        homes.serve({"car": "0:3"}, *known)
        homes.answer("client", *known)
        homes.lab.take_addresses("car")
        homes.lab.give_address("car", OTHER_ADDRESS)
        homes.answer("client", *known, "--wait", 20)  # who moves is away for four seconds, on a machine that has time


@pytest.mark.slow
def test_a_node_started_before_its_network_is_found_once_it_has_one(
    switch: Path, tmp_path: Path, tiny_store: Path
) -> None:
    with open_homes(switch, tmp_path, tiny_store, hosts(HOME, "boot", "car", "client")) as homes:
        known = bootstrap(homes.start("boot"))
        homes.lab.take_addresses("car")
        starting = Thread(target=homes.serve, args=({"car": "0:3"}, *known))
        starting.start()
        homes.wait_listening("car")
        homes.lab.give_address("car", OTHER_ADDRESS)
        starting.join()
        homes.answer("client", *known)


def test_neighbours_find_each_other_without_being_told(switch: Path, tmp_path: Path, tiny_store: Path) -> None:
    neighbours = [Host(name, lan="home") for name in ("head", "tail")]
    with open_homes(switch, tmp_path, tiny_store, neighbours) as homes:
        head, _ = homes.serve(HALVES)
        homes.answer("tail", *bootstrap(head))


@pytest.mark.parametrize("silent_is_first", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_node_with_a_silent_address_is_found_at_its_other(
    switch: Path, tmp_path: Path, tiny_store: Path, silent_is_first: bool
) -> None:
    with open_homes(switch, tmp_path, tiny_store, hosts(HOME, "boot", "car", "client")) as homes:
        known = bootstrap(homes.start("boot"))
        places = [SILENT, f"/ip4/{homes.lab.address('car')}/tcp/4001"]
        settings = tmp_path / "car.toml"
        settings.write_text(f"[network]\nannounce = {places if silent_is_first else places[::-1]}\n")
        homes.serve({"car": "0:3"}, "--config", str(settings), *known)
        homes.answer("client", *known)


@pytest.mark.slow
def test_homes_that_have_ipv6_alone_answer(switch: Path, tmp_path: Path, tiny_store: Path) -> None:
    with open_homes(switch, tmp_path, tiny_store, hosts(HOME, *NAMES)) as homes:
        for number, name in enumerate(NAMES, 1):
            homes.lab.take_addresses(name)
            homes.lab.give_address(name, f"2a00:77:{number}::1/64")
        known = bootstrap(homes.start("boot", listen=LISTEN_IPV6))
        homes.serve(HALVES, *known, listen=LISTEN_IPV6)
        answer = homes.answer("client", *known)
        assert len(answer["stages"]) == len(HALVES)  # type: ignore[arg-type]
