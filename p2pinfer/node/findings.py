"""Findings of an examination of this machine, with a verdict each, and what to do. Nothing is looked at here."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Final

from p2pinfer.core.keys import peer_name
from p2pinfer.core.renewal import Standing, standing
from p2pinfer.core.units import Numerics
from p2pinfer.disk.identity import Seen
from p2pinfer.node.settings import Network

LOOPBACK: Final = ("/ip4/127.", "/ip6/::1/")
ANYWHERE: Final = "/ip4/0.0.0.0/tcp/4001"


class Verdict(Enum):
    GOOD = "good"
    ADVICE = "advice"  # it can serve, and something could be better
    WRONG = "wrong"  # it cannot serve


@dataclass(frozen=True, slots=True)
class Finding:
    """One subject, and the verdict on it. advice: what to do, where there is something to do."""

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """All that was found, for people in `findings`, for programs in the rest.

    engine:           "native", "torch", or "" where none can compute
    why_not_native:   empty where the native engine would compute
    floor:            tokens a second that one session of the model cannot go beyond; None where it is not known
    packages:         versions; "" for one that is not installed
    models:           names of complete models
    certificate_until: Unix seconds; None before the first start
    """

    findings: tuple[Finding, ...]
    engine: str
    numerics: Numerics | None
    why_not_native: str
    instruction_sets: tuple[str, ...]
    threads: int
    cores: int
    bandwidth_gb_s: float | None
    floor: float | None
    packages: dict[str, str]
    compiler: str
    memory_bytes: int | None
    model: str
    models: tuple[str, ...]
    certificate_until: int | None

    @property
    def can_serve(self) -> bool:
        return all(finding.verdict is not Verdict.WRONG for finding in self.findings)


def about_threads(threads: int, cores: int) -> Finding:
    """Hold the engine's threads to the cores of the machine."""
    if threads < cores:
        advice = f"serve.threads = {cores} computes faster, if nothing else needs this machine"
        return Finding("threads", Verdict.ADVICE, f"{threads} of {cores} cores", advice)
    if threads > cores:
        advice = f"serve.threads = {cores}: threads that wait for a core make every step slower"
        return Finding("threads", Verdict.ADVICE, f"{threads} on {cores} cores", advice)
    return Finding("threads", Verdict.GOOD, f"{threads} of {cores} cores")


def about_network(network: Network) -> Finding:
    """Whom the node could meet and earn from, as far as its settings say it; nobody is asked."""
    here = all(address.startswith(LOOPBACK) for address in network.listen)
    text = f"listens at {', '.join(network.listen)}" if network.listen else "does not listen"
    if here and not network.announce:
        advice = f"network.listen = [{ANYWHERE!r}] (or --listen) lets other machines reach it, and pay"
        return Finding("network", Verdict.ADVICE, f"{text}: nobody but this machine reaches it", advice)
    if not network.bootstrap and (here or not network.mdns):
        advice = "network.bootstrap names a peer to meet first, as its line `ready MULTIADDR` says"
        return Finding("network", Verdict.ADVICE, f"{text}: it knows nobody, and waits to be met", advice)
    met = f"{len(network.bootstrap)} to meet first" if network.bootstrap else "peers of the local network find it"
    return Finding("network", Verdict.GOOD, f"{text}; {met}")


def about_identity(folder: Path, seen: Seen, now: int) -> Finding:
    """Tell who the node is, and until when; `now` in Unix seconds."""
    if seen.certificate is None:
        verdict, advice = (Verdict.GOOD, "") if seen.owner_here else (Verdict.WRONG, "put owner.key there once")
        return Finding("data folder", verdict, f"{folder} has a node key but no certificate", advice)
    record = seen.certificate.record
    until = datetime.fromtimestamp(record.not_after, UTC).strftime("%Y-%m-%d")
    text = f"{folder}: node {peer_name(record.node)}, certified until {until}"
    stands = standing(record, now)
    if stands is Standing.EARLY:
        clock = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M")
        advice = "set the clock: contracts with a wrong date are refused by everybody"
        return Finding("data folder", Verdict.WRONG, f"{text}, and not yet at {clock}, which the clock says", advice)
    if seen.owner_here:
        return Finding("data folder", Verdict.GOOD, f"{text}; owner.key is here and renews that")
    if stands is Standing.OVER:
        advice = "put owner.key there once to renew it, or set the clock"
        return Finding("data folder", Verdict.WRONG, f"{text}, which does not hold now", advice)
    if stands is not Standing.GOOD:
        advice = f"put owner.key there once before {until}: the node renews it, also while it runs"
        return Finding("data folder", Verdict.ADVICE, text, advice)
    return Finding("data folder", Verdict.GOOD, f"{text}; owner.key is kept elsewhere")
