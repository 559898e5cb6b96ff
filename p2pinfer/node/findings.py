"""What an examination of this machine says: findings with a verdict each, and what to do. Nothing is looked at here."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from p2pinfer.core.keys import peer_name
from p2pinfer.core.units import Numerics
from p2pinfer.disk.identity import RENEW_CERTIFICATE_S, Seen


class Verdict(Enum):
    GOOD = "good"
    ADVICE = "advice"  # it can serve, and something could be better
    WRONG = "wrong"  # it cannot serve


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one subject. advice: what to do, where there is something to do."""

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, for people in `findings`, for programs in the rest.

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
    """Whether the engine has as many threads as helps it."""
    if threads < cores:
        advice = f"serve.threads = {cores} computes faster, if nothing else needs this machine"
        return Finding("threads", Verdict.ADVICE, f"{threads} of {cores} cores", advice)
    if threads > cores:
        advice = f"serve.threads = {cores}: threads that wait for a core make every step slower"
        return Finding("threads", Verdict.ADVICE, f"{threads} on {cores} cores", advice)
    return Finding("threads", Verdict.GOOD, f"{threads} of {cores} cores")


def about_identity(folder: Path, seen: Seen, now: int) -> Finding:
    """Who the node is, and until when; `now` in Unix seconds."""
    if seen.certificate is None:
        verdict, advice = (Verdict.GOOD, "") if seen.owner_here else (Verdict.WRONG, "put owner.key there once")
        return Finding("data folder", verdict, f"{folder} has a node key but no certificate", advice)
    record = seen.certificate.record
    until = datetime.fromtimestamp(record.not_after, UTC).strftime("%Y-%m-%d")
    text = f"{folder}: node {peer_name(record.node)}, certified until {until}"
    if seen.owner_here:
        return Finding("data folder", Verdict.GOOD, f"{text}; owner.key is here and renews that")
    if not record.not_before <= now < record.not_after:
        advice = "set the clock, or put owner.key there once to renew it"
        return Finding("data folder", Verdict.WRONG, f"{text}, which does not hold now", advice)
    if record.not_after - now < RENEW_CERTIFICATE_S:
        advice = f"put owner.key there once before {until}: a start renews it"
        return Finding("data folder", Verdict.ADVICE, text, advice)
    return Finding("data folder", Verdict.GOOD, f"{text}; owner.key is kept elsewhere")
