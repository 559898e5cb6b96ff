"""`p2pinfer doctor`: what it says of this machine, and what to do where it is not well."""

import errno
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.records.renewal import RENEW_CERTIFICATE_S
from p2pinfer.core.values.errors import EngineError, UsageError
from p2pinfer.diagnosis import examination as examining
from p2pinfer.diagnosis.findings import Grade, about_identity, about_network, about_threads
from p2pinfer.disk.identity import Seen, load_identity
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.journal_file import connect_writer
from p2pinfer.disk.store import Store
from p2pinfer.engine import choice
from p2pinfer.engine.gpu import Gpu
from p2pinfer.node.outlook import Sight
from p2pinfer.node.settings import NetworkSettings
from tests.cli.books import CERTIFICATE, Ran, Shell
from tests.disk.tiny import tiny_folder

NATIVE = {"hidden_size": 64, "intermediate_size": 96}  # sizes that the native kernel can compute
NOW = CERTIFICATE.record.not_before


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one model; the data folder of the platform is empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    import_model(str(tiny_folder(tmp_path / "Tiny", **NATIVE)), Store(tmp_path / "store"))
    return tmp_path / "store"


def told(ran: Ran) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(ran.out)
    return plain


def of(plain: dict[str, Any], subject: str) -> tuple[str, str, str]:
    """Verdict, text and advice of a subject."""
    (finding,) = [finding for finding in plain["findings"] if finding["subject"] == subject]
    return finding["verdict"], finding["text"], finding["advice"] or ""


def no_kernel() -> None:
    raise EngineError("the native kernel is not built")


def test_a_machine_that_can_serve(p2pinfer: Shell, store: Path) -> None:
    ran = p2pinfer("doctor", "--store", store, "--json")
    plain = told(ran)
    assert (ran.code, plain["can_serve"], plain["model"], plain["models"]) == (0, True, "tiny", ["tiny"])
    assert (plain["engine"], plain["class"], plain["why_not_native"]) == ("native", "i8g32-1", None)
    assert plain["instruction_sets"][-1] == "portable"
    assert plain["bandwidth_gb_s"] > 0
    assert [finding["subject"] for finding in plain["findings"]] == [
        *("model", "packages", "engine", "threads", "memory speed", "memory", "network", "files", "data folder")
    ]
    assert {"good", "advice"} >= {finding["verdict"] for finding in plain["findings"]}


def test_people_get_a_table_and_what_to_type_next(p2pinfer: Shell, store: Path) -> None:
    ran = p2pinfer("doctor", "--store", store)
    assert ran.code == 0
    assert ran.out.startswith("model         ok      tiny, 2 layers, in ")
    assert ran.out.endswith("It can serve: p2pinfer node --model tiny\n")


def test_looking_changes_nothing(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    p2pinfer("doctor", "--store", store, "--data", tmp_path / "data")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_machine_without_a_model_cannot_serve(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    ran = p2pinfer("doctor", "--store", tmp_path / "empty")
    assert (ran.code, ran.err) == (1, "")
    assert "p2pinfer model import demo" in " ".join(ran.out.split())
    assert ran.out.endswith("It cannot serve yet: 1 thing to mend.\n")


def test_a_model_in_part_is_named_with_what_is_missing(p2pinfer: Shell, store: Path) -> None:
    (path,) = store.rglob("layer-001.safetensors")
    path.unlink()
    plain = told(p2pinfer("doctor", "--store", store, "--model", "tiny", "--json"))
    verdict, text, advice = of(plain, "model")
    assert (plain["can_serve"], verdict) == (False, "wrong")
    assert text.endswith("1 file is missing")
    assert "layer-001.safetensors" in advice


def test_a_stage_needs_the_files_of_its_layers_alone(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    (path,) = store.rglob("layer-001.safetensors")
    path.unlink()
    (tmp_path / "node.toml").write_text('[serve]\nmodel = "tiny"\nlayers = "0:1"')
    plain = told(p2pinfer("doctor", "--store", store, "--config", tmp_path / "node.toml", "--json"))
    assert (plain["can_serve"], of(plain, "model")[0]) == (True, "good")


def test_memory_that_is_given_wins_over_the_files(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[serve]\nmemory_mb = 200")
    words = ("doctor", "--store", store, "--config", tmp_path / "node.toml", "--json")
    assert told(p2pinfer(*words))["memory_bytes"] == 200_000_000
    assert told(p2pinfer(*words, "--memory-mb", "300"))["memory_bytes"] == 300_000_000


@pytest.mark.parametrize(
    ("compiler", "advice"),
    [
        ("/usr/bin/cc", "a C compiler is here (/usr/bin/cc): install p2pinfer once more, and the kernel is built"),
        (None, "install a C compiler (Debian: apt-get install gcc) and p2pinfer once more: several times faster"),
    ],
)
def test_without_a_kernel_torch_computes_and_the_way_to_it_is_told(
    p2pinfer: Shell, store: Path, monkeypatch: pytest.MonkeyPatch, compiler: str | None, advice: str
) -> None:
    monkeypatch.setattr(choice, "open_library", no_kernel)
    monkeypatch.setattr(examining, "open_library", no_kernel)
    monkeypatch.setattr(examining, "which", lambda name: compiler)
    plain = told(p2pinfer("doctor", "--store", store, "--json"))
    assert (plain["can_serve"], plain["engine"], plain["class"]) == (True, "torch", "bf16-1")
    assert (plain["bandwidth_gb_s"], plain["instruction_sets"], plain["compiler"]) == (None, [], compiler)
    assert of(plain, "engine") == (
        "advice",
        "torch, class bf16-1, not the native engine: the native kernel is not built",
        advice,
    )


def test_a_model_that_the_kernel_cannot_compute_is_torchs(p2pinfer: Shell, tmp_path: Path) -> None:
    import_model(str(tiny_folder(tmp_path / "Tiny")), Store(tmp_path / "store"))
    plain = told(p2pinfer("doctor", "--store", tmp_path / "store", "--data", tmp_path / "data", "--json"))
    assert (plain["can_serve"], plain["engine"]) == (True, "torch")
    assert plain["why_not_native"] == "its hidden size is 16, no multiple of 32"


def test_a_slower_engine_than_there_could_be_is_told(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('[serve]\nnumerics = "bf16-1"')
    plain = told(p2pinfer("doctor", "--store", store, "--config", tmp_path / "node.toml", "--json"))
    assert of(plain, "engine") == (
        "advice",
        "torch, class bf16-1, because serve.numerics is bf16-1",
        'serve.numerics = "auto": the native engine is several times faster',
    )


def test_a_cache_in_int8_is_the_native_engines(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('[serve]\nnumerics = "i8g32k8-1"')
    plain = told(p2pinfer("doctor", "--store", store, "--config", tmp_path / "node.toml", "--json"))
    assert (plain["engine"], plain["class"], plain["why_not_native"]) == ("native", "i8g32k8-1", None)


def test_missing_packages_are_told(p2pinfer: Shell, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "EVERY_ENGINE", ("numpy", "no_such_package"))
    monkeypatch.setattr(examining, "PACKAGES", ("numpy", "no_such_package"))
    ran = p2pinfer("doctor", "--store", store, "--json")
    verdict, text, advice = of(told(ran), "packages")
    assert (ran.code, verdict, advice) == (1, "wrong", "it needs no_such_package: pip install 'p2pinfer[node]'")
    assert text.endswith("no no_such_package")


def test_without_torch_the_native_engine_serves(p2pinfer: Shell, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "PACKAGES", ("numpy", "no_such_package"))
    plain = told(p2pinfer("doctor", "--store", store, "--json"))
    verdict, _, advice = of(plain, "packages")
    assert (plain["can_serve"], verdict) == (True, "advice")
    assert "the native engine needs no torch" in advice


def test_a_gpu_that_cannot_be_used_is_told(p2pinfer: Shell, store: Path) -> None:
    def look(device: str, size: int = 0) -> Gpu:
        raise UsageError(f"the device {device} cannot be used: there is none")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examining, "look_at_gpu", look)
        ran = p2pinfer("doctor", "--store", store, "--device", "cuda:9", "--json")
    assert (ran.code, told(ran)["can_serve"]) == (1, False)
    assert of(told(ran), "engine") == (
        "wrong",
        "the device cuda:9 cannot be used: there is none",
        'serve.device = "cpu" computes without a GPU',
    )
    assert told(ran)["memory_bytes"] is None  # of the machine's nobody asked
    assert {"memory", "threads"}.isdisjoint(finding["subject"] for finding in told(ran)["findings"])


def test_a_full_gpu_is_told(p2pinfer: Shell, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu("Card", memory=8_000_000_000, free=1_000_000, read_gb_s=0.0)
    monkeypatch.setattr(examining, "look_at_gpu", lambda device, size: gpu)
    plain = told(p2pinfer("doctor", "--store", store, "--device", "cuda", "--json"))
    assert (plain["can_serve"], plain["bandwidth_gb_s"]) == (True, None)
    assert of(plain, "memory speed") == ("advice", "not measured: Card is full", "close what fills it")
    assert of(plain, "memory")[0] == "advice"


def test_of_a_gpu_half_the_memory_is_taken(
    p2pinfer: Shell, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu("Card", memory=8_000_000_000, free=7_000_000_000, read_gb_s=300.0)
    monkeypatch.setattr(examining, "look_at_gpu", lambda device, size: gpu)
    (tmp_path / "node.toml").write_text('[serve]\ndevice = "cuda"')
    plain = told(p2pinfer("doctor", "--store", store, "--config", tmp_path / "node.toml", "--json"))
    assert (plain["can_serve"], plain["class"], plain["memory_bytes"]) == (True, "bf16-1", 4_000_000_000)
    assert plain["bandwidth_gb_s"] == 300.0
    assert of(plain, "engine") == ("good", "torch, class bf16-1, on Card", "")
    assert of(plain, "memory")[1] == "4,000 MB for weights and KV cache, 7,000 MB are free now: all 2 layers fit"


def test_memory_that_holds_no_layer_is_told(p2pinfer: Shell, tmp_path: Path) -> None:
    import_model(str(tiny_folder(tmp_path / "Tiny", vocab_size=260, intermediate_size=9600)), Store(tmp_path / "store"))
    (tmp_path / "node.toml").write_text("[serve]\nmemory_mb = 1")
    words = ("--store", tmp_path / "store", "--data", tmp_path / "data", "--config", tmp_path / "node.toml")
    ran = p2pinfer("doctor", *words, "--json")
    verdict, _, advice = of(told(ran), "memory")
    assert (ran.code, verdict) == (1, "wrong")
    assert "set serve.memory_mb to" in advice


@pytest.mark.parametrize("words", [["--config", "nowhere.toml"], ["--config", "/"], ["--data", __file__]], ids=str)
def test_wrong_words_are_told(p2pinfer: Shell, store: Path, words: list[str]) -> None:
    ran = p2pinfer("doctor", "--store", store, *words)
    assert (ran.code, ran.out, "Error: " in ran.err) == (2, "", True)


def test_a_data_folder_that_is_no_folder_is_told(p2pinfer: Shell, store: Path) -> None:
    ran = p2pinfer("doctor", "--store", store, "--data", "/dev/null/data", "--json")
    assert (ran.code, of(told(ran), "data folder")[0]) == (1, "wrong")


def test_the_identity_of_a_data_folder_is_told(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    identity = load_identity(tmp_path / "data", NOW)
    plain = told(p2pinfer("doctor", "--store", store, "--data", tmp_path / "data", "--json"))
    assert plain["certificate_until"] == identity.certificate.record.not_after
    verdict, text, _ = of(plain, "data folder")
    assert verdict == "good"
    assert text.endswith("owner.key is here and renews that")


def test_a_damaged_key_is_told(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    load_identity(tmp_path / "data", NOW)
    (tmp_path / "data" / "node.key").write_text("hello")
    ran = p2pinfer("doctor", "--store", store, "--data", tmp_path / "data", "--json")
    verdict, text, _ = of(told(ran), "data folder")
    assert (ran.code, verdict, "is not a key" in text) == (1, "wrong", True)


@pytest.mark.parametrize(
    ("certificate", "owner_here", "after_s", "verdict"),
    [
        (CERTIFICATE, True, 0, Grade.GOOD),
        (CERTIFICATE, False, 0, Grade.GOOD),
        (CERTIFICATE, False, CERTIFICATE.record.not_after - NOW - RENEW_CERTIFICATE_S + 1, Grade.ADVICE),
        (CERTIFICATE, False, CERTIFICATE.record.not_after - NOW, Grade.WRONG),
        (CERTIFICATE, False, -1, Grade.WRONG),
        (CERTIFICATE, True, CERTIFICATE.record.not_after - NOW, Grade.GOOD),
        (CERTIFICATE, True, -1, Grade.WRONG),
        (None, False, 0, Grade.WRONG),
        (None, True, 0, Grade.GOOD),
    ],
)
def test_a_certificate_is_told_before_it_is_over(
    certificate: SignedRecord[Any] | None, owner_here: bool, after_s: int, verdict: Grade
) -> None:
    finding = about_identity(Path("data"), Seen(certificate, owner_here), NOW + after_s)
    assert finding.verdict is verdict
    assert bool(finding.advice) is (verdict is not Grade.GOOD)


def test_cores_are_those_that_this_process_may_use(
    p2pinfer: Shell, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More threads than a container leaves us would be slower, whatever the machine has."""
    monkeypatch.setattr("p2pinfer.diagnosis.examination.usable_cores", lambda: 77)
    assert told(p2pinfer("doctor", "--store", store, "--data", tmp_path / "data", "--json"))["cores"] == 77


@pytest.mark.parametrize(
    ("threads", "cores", "verdict"), [(2, 2, Grade.GOOD), (1, 2, Grade.ADVICE), (4, 2, Grade.ADVICE)]
)
def test_threads_are_held_to_the_cores(threads: int, cores: int, verdict: Grade) -> None:
    finding = about_threads(threads, cores)
    assert finding.verdict is verdict
    assert ("serve.threads = 2" in finding.advice) is (verdict is not Grade.GOOD)


@pytest.mark.parametrize(
    ("network", "verdict", "words"),
    [
        (NetworkSettings(), Grade.ADVICE, "nobody but this machine reaches it"),
        (NetworkSettings(listen=("/ip4/0.0.0.0/tcp/4001",)), Grade.GOOD, "peers of the local network find it"),
        (NetworkSettings(listen=("/ip4/0.0.0.0/tcp/4001",), mdns=False), Grade.ADVICE, "it knows nobody"),
        (
            NetworkSettings(listen=("/ip4/0.0.0.0/tcp/4001",), mdns=False, bootstrap=("/ip4/..",)),
            Grade.GOOD,
            "1 to meet first",
        ),
        (NetworkSettings(announce=("/ip4/198.51.100.7/tcp/4001",)), Grade.ADVICE, "it knows nobody"),
    ],
    ids=str,
)
def test_who_could_reach_the_node_is_told(network: NetworkSettings, verdict: Grade, words: str) -> None:
    local = tuple(one.replace("0.0.0.0", "192.168.1.20") for one in network.listen)
    finding = about_network(network, local, None, NOW)
    assert (finding.verdict, words in finding.text) == (verdict, True)
    assert bool(finding.advice) is (verdict is not Grade.GOOD)


def test_what_the_last_node_saw_is_told() -> None:
    network = NetworkSettings(listen=("/ip4/0.0.0.0/tcp/4001",), bootstrap=("/ip4/..",))
    local = ("/ip4/192.168.1.20/tcp/4001",)
    good = about_network(network, local, Sight(local, 12, 3, (), NOW - 60), NOW)
    assert good.verdict is Grade.GOOD
    assert "told to others: /ip4/192.168.1.20/tcp/4001; a node here met 12 peers, as noted lately, and 3" in good.text
    lonely = about_network(network, local, Sight(local, 0, 0, (), NOW - 20_000), NOW)
    assert (lonely.verdict, "5 hours ago" in lonely.text) == (Grade.ADVICE, True)
    assert "firewall" in lonely.advice


def test_a_router_before_the_node_is_told() -> None:
    network = NetworkSettings(listen=("/ip4/0.0.0.0/tcp/4001",), bootstrap=("/ip4/..",))
    local = ("/ip4/192.168.1.20/tcp/4001",)
    finding = about_network(network, local, Sight(local, 3, 0, ("198.41.0.4",), NOW), NOW)
    assert (finding.verdict, "peers see it at 198.41.0.4" in finding.text) == (Grade.ADVICE, True)
    assert "forward a port" in finding.advice


def test_a_machine_without_a_network_is_told() -> None:
    finding = about_network(NetworkSettings(listen=("/ip4/0.0.0.0/tcp/4001",)), (), None, NOW)
    assert (finding.verdict, "told to others: nothing" in finding.text) == (Grade.ADVICE, True)
    assert "no interface of this machine is up" in finding.advice


def test_an_address_that_is_none_is_told(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('[network]\nbootstrap = ["foo"]')
    ran = p2pinfer("doctor", "--config", tmp_path / "node.toml", "--store", store, "--json")
    assert (ran.code, of(told(ran), "network")[:1]) == (1, ("wrong",))


def test_a_file_system_without_locks_is_told(
    p2pinfer: Shell, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    ran = p2pinfer("doctor", "--data", tmp_path / "data", "--store", store, "--json")
    verdict, text, _ = of(told(ran), "data folder")
    assert (ran.code, verdict) == (1, "wrong")
    assert f"cannot lock {tmp_path / 'data'}/node.lock: No locks available" in text


def test_a_folder_that_others_can_write_to_is_told(p2pinfer: Shell, store: Path, tmp_path: Path) -> None:
    load_identity(tmp_path / "data", int(time.time()))
    (tmp_path / "data").chmod(0o770)
    plain = told(p2pinfer("doctor", "--data", tmp_path / "data", "--store", store, "--json"))
    first, second = (finding for finding in plain["findings"] if finding["subject"] == "data folder")
    assert (first["verdict"], first["advice"]) == ("advice", f"chmod go-w {tmp_path / 'data'}")
    assert second["verdict"] == "good"


@pytest.mark.parametrize("name", ["journal.sqlite", "client.sqlite"])
def test_a_damaged_journal_is_told(p2pinfer: Shell, store: Path, tmp_path: Path, name: str) -> None:
    load_identity(tmp_path / "data", int(time.time()))
    connect_writer(tmp_path / "data" / name).close()
    with (tmp_path / "data" / name).open("r+b") as file:
        file.truncate(8192)
    verdict, text, _ = of(
        told(p2pinfer("doctor", "--data", tmp_path / "data", "--store", store, "--json")), "data folder"
    )
    assert (verdict, f"{name} is damaged" in text) == ("wrong", True)
