"""Findings of an examination of this machine, with a verdict each, and what to do. Nothing is looked at here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Final

from p2pinfer.core.records.renewal import Standing, standing
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.shown import shown_line
from p2pinfer.core.values.units import Numerics
from p2pinfer.disk.identity import Seen
from p2pinfer.node.outlook import ANYWHERE, Sight, all_here
from p2pinfer.node.settings import NetworkSettings

SHOWN: Final = 4  # addresses


class Grade(Enum):
    GOOD = "good"
    ADVICE = "advice"  # it can serve, and something could be better
    WRONG = "wrong"  # it cannot serve


@dataclass(frozen=True, slots=True)
class Finding:
    """One subject, and the verdict on it. advice: what to do, where there is something to do."""

    subject: str
    verdict: Grade
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
        return all(finding.verdict is not Grade.WRONG for finding in self.findings)


def about_threads(threads: int, cores: int) -> Finding:
    """Hold the engine's threads to the cores of the machine."""
    if threads < cores:
        advice = f"serve.threads = {cores} computes faster, if nothing else needs this machine"
        return Finding("threads", Grade.ADVICE, f"{threads} of {cores} cores", advice)
    if threads > cores:
        advice = f"serve.threads = {cores}: threads that wait for a core make every step slower"
        return Finding("threads", Grade.ADVICE, f"{threads} on {cores} cores", advice)
    return Finding("threads", Grade.GOOD, f"{threads} of {cores} cores")


def about_network(network: NetworkSettings, local: Sequence[str], sight: Sight | None, now: int) -> Finding:
    """Tell which peers the node could meet and earn from; nobody is asked.

    local: where it could be dialled by what it listens at, as the interfaces stand
    sight: what a node saw here last, or None
    """
    told = network.announce or local
    listens = f"listens at {', '.join(network.listen)}" if network.listen else "does not listen"
    text = f"{listens}; told to others: {_some(told)}{_seen(sight, now)}"
    if network.listen and not told:
        advice = (
            "no interface of this machine is up: a node starts all the same, and tells its addresses when it has any"
        )
        return Finding("network", Grade.ADVICE, text, advice)
    if all_here(told):
        advice = f"network.listen = [{ANYWHERE!r}] (or --listen) lets other machines reach it, and pay"
        return Finding("network", Grade.ADVICE, f"{text}; nobody but this machine reaches it", advice)
    if not network.bootstrap and (all_here(local) or not network.mdns):
        advice = "network.bootstrap names a peer to meet first, as its line `ready MULTIADDR` says"
        return Finding("network", Grade.ADVICE, f"{text}; it knows nobody, and waits to be met", advice)
    if sight is not None and not sight.met:
        known = "check the addresses in network.bootstrap" if network.bootstrap else "network.bootstrap names a peer"
        advice = f"{known}; to be met, a firewall has to let the port in, and a router to forward it"
        return Finding("network", Grade.ADVICE, text, advice)
    if sight is not None and sight.is_behind_router and not sight.outside:
        advice = "a router stands before it: forward a port to it there, and name that in network.announce, to be met"
        return Finding("network", Grade.ADVICE, text, advice)
    met = f"{len(network.bootstrap)} to meet first" if network.bootstrap else "peers of the local network find it"
    return Finding("network", Grade.GOOD, f"{text}; {met}")


def about_files(network: NetworkSettings) -> Finding:
    """Tell what peers may have: a line may be paid by the byte."""
    limit = network.files_mb_per_day
    text = f"at most {limit} MB a day of models' files" if limit else "no files of models"
    return Finding("files", Grade.GOOD, f"peers of other machines get {text} (network.files_mb_per_day)")


def _some(addresses: Sequence[str]) -> str:
    shown = [one.removesuffix("/tcp/0") for one in addresses[:SHOWN]]
    return (", ".join(shown) or "nothing") + (f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else "")


def _seen(sight: Sight | None, now: int) -> str:
    """Return what the node that ran here last saw of others."""
    if sight is None:
        return ""
    age_h = max(0, now - sight.at) // 3_600
    when = f"{age_h} hours ago" if age_h > 1 else "lately"
    met = f"{sight.met} {'peer' if sight.met == 1 else 'peers'}"
    text = f"; a node here met {met}, as noted {when}, and {sight.came} of them dialled it"
    return text + (f"; peers see it at {', '.join(map(shown_line, sight.seen[:SHOWN]))}" if sight.seen else "")


def about_identity(folder: Path, seen: Seen, now: int) -> Finding:
    """Tell who the node is, and until when; `now` in Unix seconds."""
    if seen.certificate is None:
        verdict, advice = (Grade.GOOD, "") if seen.owner_here else (Grade.WRONG, "put owner.key there once")
        return Finding("data folder", verdict, f"{folder} has a node key but no certificate", advice)
    record = seen.certificate.record
    until = datetime.fromtimestamp(record.not_after, UTC).strftime("%Y-%m-%d")
    text = f"{folder}: node {peer_name(record.node)}, certified until {until}"
    stands = standing(record, now)
    if stands is Standing.EARLY:
        clock = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M")
        advice = "set the clock: contracts with a wrong date are refused by everybody"
        return Finding("data folder", Grade.WRONG, f"{text}, and not yet at {clock}, which the clock says", advice)
    if seen.owner_here:
        return Finding("data folder", Grade.GOOD, f"{text}; owner.key is here and renews that")
    if stands is Standing.OVER:
        advice = "put owner.key there once to renew it, or set the clock"
        return Finding("data folder", Grade.WRONG, f"{text}, which does not hold now", advice)
    if stands is not Standing.GOOD:
        advice = f"put owner.key there once before {until}: the node renews it, also while it runs"
        return Finding("data folder", Grade.ADVICE, text, advice)
    return Finding("data folder", Grade.GOOD, f"{text}; owner.key is kept elsewhere")
