"""The lab itself: what its lines do to datagrams, counted by who sends, by who receives, and by the switch."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import pytest

from .lab import Host, Lab, LabError, Line, open_lab

PROBE = [sys.executable, "-S", str(Path(__file__).parent / "probe.py")]
GROUP = "239.1.2.3"
HEADERS = 28  # of IPv4 and UDP
WAIT_S = 30.0
SLEEPER = ["sh", "-c", "echo asleep; exec sleep 1000"]


@dataclass(frozen=True)
class Replies:
    """The numbers of the datagrams that came back, and the seconds until each did."""

    came: list[int]
    after_s: list[float]


@contextmanager
def answering(lab: Lab, host: str, *words: str) -> Iterator[None]:
    with Popen([*lab.enter(host), *PROBE, "answer", *words], stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.kill()


def ask(lab: Lab, host: str, address: str, count: int = 1, size: int = 100) -> Replies:
    done = lab.run(host, [*PROBE, "ask", address, str(count), str(size)])
    assert done.returncode == 0, done.stderr
    return Replies(**json.loads(done.stdout))


@pytest.fixture
def lab(switch: Path) -> Iterator[Lab]:
    """Two hosts; b answers."""
    with open_lab(switch, [Host("a"), Host("b")], seed=1) as lab, answering(lab, "b"):
        yield lab


def test_hosts_hear_each_other_and_nothing_is_lost(lab: Lab) -> None:
    assert ask(lab, "a", lab.address("b"), 200).came == list(range(200))
    stats = lab.stats().hosts
    assert (stats["a"].sent, stats["b"].received, stats["a"].received) == (200, 200, 200)
    assert stats["a"].sent_bytes == 200 * (100 + HEADERS)


def test_a_packet_takes_the_delay_of_both_lines_each_way(lab: Lab) -> None:
    lab.set("a", delay_ms=20)
    lab.set("b", delay_ms=30)
    assert ask(lab, "a", lab.address("b")).after_s[0] > 0.099  # a packet may leave 20 us early, at each of its stages


def test_a_slow_line_takes_its_time_for_every_byte(lab: Lab) -> None:
    lab.set("a", up_mbit=1, queue_ms=1000)
    replies = ask(lab, "a", lab.address("b"), 50, 1000)
    assert replies.came == list(range(50))
    assert replies.after_s[-1] > 0.99 * 50 * (1000 + HEADERS) * 8 / 1e6


def test_the_other_direction_has_a_rate_of_its_own(lab: Lab) -> None:
    lab.set("a", down_mbit=1, queue_ms=1000)
    assert ask(lab, "a", lab.address("b"), 50, 1000).after_s[-1] > 0.99 * 50 * (1000 + HEADERS) * 8 / 1e6
    lab.set("a", down_mbit=0, up_mbit=1000)
    assert lab.stats().hosts["a"].full == 0


def test_what_does_not_fit_a_queue_is_dropped_and_counted(lab: Lab) -> None:
    lab.set("a", up_mbit=1, queue_ms=100)
    came = ask(lab, "a", lab.address("b"), 100, 1000).came
    full = lab.stats().hosts["a"].full
    assert len(came) == 100 - full
    assert came[:12] == list(range(12))  # 100 ms at 1 Mbit/s
    assert full > 50


def test_so_many_packets_are_lost_as_were_asked_for(lab: Lab) -> None:
    lab.set("b", loss=0.3)
    came = ask(lab, "a", lab.address("b"), 500).came
    stats = lab.stats().hosts
    assert 100 < stats["a"].lost < 200
    assert stats["b"].received == 500 - stats["a"].lost
    assert len(came) == stats["b"].sent - stats["b"].lost
    assert 50 < stats["b"].lost < 160


def test_jitter_delays_and_keeps_the_order(lab: Lab) -> None:
    lab.set("a", delay_ms=50, jitter_ms=50, up_mbit=1, queue_ms=1000)
    replies = ask(lab, "a", lab.address("b"), 50)
    assert replies.came == list(range(50))
    gaps = [after - before for before, after in zip(replies.after_s, replies.after_s[1:], strict=False)]
    assert max(gaps) > 0.005 > min(gaps)


def test_an_unplugged_host_is_silent_until_it_is_plugged_in(lab: Lab) -> None:
    lab.unplug("b")
    assert ask(lab, "a", lab.address("b"), 10).came == []
    assert lab.stats().hosts["b"].unplugged == 10
    lab.plug("b")
    assert ask(lab, "a", lab.address("b"), 10).came == list(range(10))


def test_a_host_moves_to_another_address(lab: Lab) -> None:
    before = lab.address("b")
    lab.take_addresses("b")
    lab.give_address("b", "11.99.0.7/24")
    assert lab.address("b") == "11.99.0.7"
    assert ask(lab, "a", "11.99.0.7", 3).came == [0, 1, 2]
    assert ask(lab, "a", before, 3).came == []
    assert lab.stats().hosts["a"].nowhere == 3


def test_multicast_stays_in_its_lan(switch: Path) -> None:
    hosts = [Host("a", lan="home"), Host("b", lan="home"), Host("stranger"), Host("other", lan="office")]
    with (
        open_lab(switch, hosts) as lab,
        answering(lab, "b", GROUP),
        answering(lab, "stranger", GROUP),
        answering(lab, "other", GROUP),
    ):
        assert ask(lab, "a", GROUP).came == [0]
        received = {name: counts.received for name, counts in lab.stats().hosts.items()}
        assert received["b"] > 0
        assert received["stranger"] == received["other"] == 0


def test_labs_at_once_do_not_meet(switch: Path) -> None:
    hosts = [Host("a"), Host("b")]
    with open_lab(switch, hosts) as one, open_lab(switch, hosts) as two, answering(one, "b"):
        assert one.address("b") == two.address("b")
        assert ask(one, "a", one.address("b")).came == [0]
        assert ask(two, "a", two.address("b")).came == []


def test_what_still_runs_on_a_host_ends_with_the_lab(switch: Path) -> None:
    with open_lab(switch, [Host("a")]) as lab:
        left = Popen([*lab.enter("a"), *SLEEPER], stdout=PIPE, text=True)
        assert left.stdout is not None
        assert left.stdout.readline() == "asleep\n"
    with left:
        assert left.wait(WAIT_S) == -signal.SIGKILL


OPENER = """
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from tests.lab.lab import Host, open_lab

with open_lab(Path(sys.argv[1]), [Host("a")]) as lab:
    sleeper = Popen([*lab.enter("a"), *sys.argv[2:]], stdout=PIPE)
    sleeper.stdout.readline()
    print(lab._switch.pid, sleeper.pid, flush=True)
    sys.stdin.read()
"""


def test_a_lab_whose_opener_is_killed_leaves_nothing(switch: Path) -> None:
    with Popen([sys.executable, "-c", OPENER, str(switch), *SLEEPER], stdin=PIPE, stdout=PIPE, text=True) as opener:
        assert opener.stdout is not None
        parts = [psutil.Process(int(word)) for word in opener.stdout.readline().split()]
        assert len(parts) == 2
        opener.kill()
    gone, left = psutil.wait_procs(parts, WAIT_S)
    assert len(gone) == 2
    assert left == []


def test_a_command_that_the_switch_cannot_follow_is_an_error(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"ip on a: .*nonsense"):
        lab.ip("a", "nonsense")
    with pytest.raises(LabError, match="not an address"):
        lab._say("address nonsense 1")


def test_a_switch_that_has_ended_is_told(switch: Path) -> None:
    with open_lab(switch, [Host("a")]) as lab:
        lab._switch.kill()
        lab._switch.wait(WAIT_S)
        with pytest.raises(LabError):
            lab.stats()


@pytest.mark.parametrize("changes", [{"loss": 1.5}, {"loss": -0.1}, {"delay_ms": -1.0}, {"up_mbit": -1.0}])
def test_a_line_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"loss|below 0"):
        Line(**changes)  # type: ignore[arg-type]
