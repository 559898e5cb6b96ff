"""An examination of this machine: everything that a start of the node would meet, and what would make it faster.

Nothing is made, renewed or loaded, and nobody on the network is asked.
"""

import ctypes
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from typing import Final

import psutil

from p2pinfer.core.models.manifest import CONFIG, EMBEDDING, HEAD, TOKENIZER, Manifest, layer_file
from p2pinfer.core.values.errors import EngineError, JournalError, ModelError, UsageError
from p2pinfer.core.values.units import Numerics
from p2pinfer.diagnosis.findings import (
    Examination,
    Finding,
    Grade,
    about_files,
    about_identity,
    about_network,
    about_threads,
)
from p2pinfer.disk.data_folder import is_open_to_others, try_folder
from p2pinfer.disk.identity import see_identity
from p2pinfer.disk.journal_file import prove_journal
from p2pinfer.disk.places import client_journal, is_there, node_journal, node_network
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.choice import EVERY_ENGINE, NATIVE, engine_of, missing_words, obstacles
from p2pinfer.engine.gpu import Gpu, look_at_gpu
from p2pinfer.engine.messages import CPU
from p2pinfer.engine.native.library import instruction_sets, open_library, read_gb_s
from p2pinfer.node.addresses import check_network, local_addresses
from p2pinfer.node.defaults import missing_files, usual_model
from p2pinfer.node.limits import usable_cores, usable_memory
from p2pinfer.node.outlook import last_sight
from p2pinfer.node.settings import AUTO, Serve, Settings, numerics_of, span_of
from p2pinfer.node.shard import FILE_BYTES, MB, WEIGHT_BYTES, default_threads, layers_that_fit, memory_of

COMPILERS: Final = ("cc", "gcc", "clang")
PACKAGES: Final = ("numpy", "torch")
BUFFER: Final = 256 * MB  # bytes to read where no model says how many; more than most caches hold
PORTABLE: Final = "portable"


def examine(settings: Settings, data: Path, store: Store, now: int) -> Examination:
    """Look at this machine; it takes a few seconds at most. `now` is the wall clock in Unix seconds."""
    return _Examiner(settings, data, store, now).examine()


class _Examiner:
    """Looks at one thing after the other; what it found of the first ones is needed for the later ones."""

    def __init__(self, settings: Settings, data: Path, store: Store, now: int) -> None:
        self._serve = settings.serve
        self._network = settings.network
        self._data = data
        self._store = store
        self._now = now
        self._library, self._why_no_library = _library()
        self._sets = tuple(instruction_sets(self._library)) if self._library else ()
        self._threads = self._serve.threads or default_threads()
        self._packages = {name: _version(name) for name in PACKAGES}
        self._compiler = next((path for name in COMPILERS if (path := which(name))), "")
        self._model: StoredModel | None = None
        self._models: tuple[str, ...] = ()
        self._numerics: Numerics | None = None
        self._why = self._why_no_library
        self._bandwidth: float | None = None
        self._floor: float | None = None
        self._gpu: Gpu | None = None
        self._until: int | None = None

    def examine(self) -> Examination:
        parts: tuple[Callable[[], Iterator[Finding]], ...] = (
            *(self._look_at_store, self._look_at_packages, self._look_at_engine, self._look_at_threads),
            *(self._look_at_speed, self._look_at_memory, self._look_at_network, self._look_at_data),
        )
        findings = tuple(finding for part in parts for finding in part())
        return Examination(
            findings=findings,
            engine="" if self._numerics is None else engine_of(self._numerics),
            numerics=self._numerics,
            why_not_native=self._why,
            instruction_sets=self._sets,
            threads=self._threads,
            cores=usable_cores(),
            bandwidth_gb_s=self._bandwidth,
            floor=self._floor,
            packages=self._packages,
            compiler=self._compiler,
            memory_bytes=self._memory(),
            model=self._model.name if self._model else "",
            models=self._models,
            certificate_until=self._until,
        )

    def _look_at_store(self) -> Iterator[Finding]:
        """Look for the model that would be served."""
        try:
            models = self._store.models()
            for folder in self._store.damaged():
                yield Finding("store", Grade.ADVICE, f"{folder} is damaged", "delete it and import the model again")
        except ModelError as error:
            yield Finding("store", Grade.WRONG, str(error))
            return
        self._models = tuple(model.name for model in models if not missing_files(self._store, model))
        try:
            self._model = usual_model(self._store, self._serve.model)
        except ModelError as error:
            if self._models and not self._serve.model:
                text = f"{', '.join(self._models)} in {self._store.root}; `p2pinfer node --model NAME` says which"
                yield Finding("model", Grade.GOOD, text)
            else:
                yield Finding("model", Grade.WRONG, str(error))
            return
        others = f", beside {len(self._models) - 1} more" if len(self._models) > 1 else ""
        text = f"{self._model.name}, {self._model.manifest.layers} layers, in {self._store.root}{others}"
        if missing := self._missing(self._model):
            advice = f"import it again: {', '.join(missing[:3])}{'...' if len(missing) > 3 else ''} must be there"
            count = "1 file is" if len(missing) == 1 else f"{len(missing)} files are"
            yield Finding("model", Grade.WRONG, f"{text}: {count} missing", advice)
            self._model = None
        else:
            yield Finding("model", Grade.GOOD, text)

    def _missing(self, model: StoredModel) -> tuple[str, ...]:
        """Files that are not there, of those the node needs."""
        manifest = model.manifest
        span = span_of(self._serve.layers)
        if span is None or span.last > manifest.layers:
            return missing_files(self._store, model)
        files = [file.name for file in manifest.files_of(span, manifest.roles_of(span))]
        return self._store.missing(model.id, {*files, CONFIG, TOKENIZER})

    def _look_at_packages(self) -> Iterator[Finding]:
        there = [f"{name} {found}" for name, found in self._packages.items() if found]
        missing = [name for name, found in self._packages.items() if not found]
        text = ", ".join([*there, *(f"no {name}" for name in missing)])
        if why := missing_words(EVERY_ENGINE):
            yield Finding("packages", Grade.WRONG, text, why)
        elif missing:
            advice = "pip install 'p2pinfer[node]': the native engine needs no torch, models that it cannot compute do"
            yield Finding("packages", Grade.ADVICE, text, advice)
        else:
            yield Finding("packages", Grade.GOOD, text)

    def _look_at_engine(self) -> Iterator[Finding]:
        """Look for the engine that would compute; where it is not the native kernel, say why."""
        try:
            config = self._store.path(self._model.id, CONFIG) if self._model else None
            why = obstacles(config, self._serve.device)
        except ModelError as error:
            yield Finding("engine", Grade.WRONG, str(error))
            return
        self._why = why[Numerics.I8G32_1]
        asked = None if self._serve.numerics == AUTO else numerics_of(self._serve.numerics)
        numerics = asked or (Numerics.BF16_1 if self._why else Numerics.I8G32_1)
        if self._serve.device != CPU:
            yield self._on_gpu(numerics, why[numerics])
            return
        if why[numerics]:
            advice = 'serve.numerics = "auto" takes what there is' if asked else ""
            yield Finding("engine", Grade.WRONG, f"{numerics.label} cannot be computed: {why[numerics]}", advice)
            return
        self._numerics = numerics
        text = f"{engine_of(numerics)}, class {numerics.label}"
        if numerics in NATIVE:
            yield self._native(text)
        elif not self._why:
            advice = 'serve.numerics = "auto": the native engine is several times faster'
            self._why = f"serve.numerics is {numerics.label}"
            yield Finding("engine", Grade.ADVICE, f"{text}, because {self._why}", advice)
        else:
            yield Finding("engine", Grade.ADVICE, f"{text}, not the native engine: {self._why}", self._remedy())

    def _on_gpu(self, numerics: Numerics, why: str) -> Finding:
        """A GPU would compute."""
        size = _read_bytes(self._model.manifest, numerics) if self._model else BUFFER
        try:
            if why:
                raise UsageError(f"{numerics.label} cannot be computed: {why}")
            self._gpu = look_at_gpu(self._serve.device, size)
        except UsageError as error:
            return Finding("engine", Grade.WRONG, str(error), 'serve.device = "cpu" computes without a GPU')
        self._numerics = numerics
        return Finding("engine", Grade.GOOD, f"torch, class {numerics.label}, on {self._gpu.name}")

    def _native(self, text: str) -> Finding:
        """The native engine would compute."""
        sets = f"{text}, with {self._sets[0]}; this CPU can run {', '.join(self._sets)}"
        if self._sets[0] == PORTABLE:
            advice = "none to have here: the kernel is made for AVX2, AVX-512 VNNI, AMX and NEON"
            return Finding("engine", Grade.ADVICE, f"{text}, in portable C, which is slow", advice)
        return Finding("engine", Grade.GOOD, sets)

    def _remedy(self) -> str:
        """The way to the native engine, where there is one."""
        if not self._why_no_library:
            return ""
        if self._compiler:
            return f"a C compiler is here ({self._compiler}): install p2pinfer once more, and the kernel is built"
        return "install a C compiler (Debian: apt-get install gcc) and p2pinfer once more: several times faster"

    def _look_at_threads(self) -> Iterator[Finding]:
        if self._serve.device == CPU:
            yield about_threads(self._threads, usable_cores())

    def _look_at_speed(self) -> Iterator[Finding]:
        """Measure how fast memory is read, which bounds how fast ids come."""
        size = BUFFER
        if self._model is not None and self._numerics is not None:
            size = _read_bytes(self._model.manifest, self._numerics)
        if self._gpu and not self._gpu.read_gb_s:
            yield Finding(
                "memory speed", Grade.ADVICE, f"not measured: {self._gpu.name} is full", "close what fills it"
            )
            return
        if self._gpu:
            self._bandwidth, reader = self._gpu.read_gb_s, self._gpu.name
        elif self._serve.device != CPU or self._library is None:
            return
        else:
            try:
                self._bandwidth = read_gb_s(self._library, size, self._threads)
            except EngineError as error:
                yield Finding("memory speed", Grade.ADVICE, str(error), "close what takes so much memory")
                return
            reader = f"{self._threads} {'thread' if self._threads == 1 else 'threads'}"
        text = f"{self._bandwidth:.1f} GB/s with {reader}"
        if self._model is not None and self._numerics is not None:
            self._floor = self._bandwidth * 1e9 / size
            text += f": no more than {self._floor:,.0f} tokens/s for one session of the whole {self._model.name}"
        yield Finding("memory speed", Grade.GOOD, f"{text}; `p2pinfer bench engine` measures the engines")

    def _look_at_memory(self) -> Iterator[Finding]:
        if (memory := self._memory()) is None:
            return
        free = self._gpu.free if self._gpu else min(psutil.virtual_memory().available, usable_memory())
        text = f"{memory // MB:,} MB for weights and KV cache, {free // MB:,} MB are free now"
        if memory > free:
            advice = f"set serve.memory_mb to less than {free // MB}, or close what takes so much memory"
            yield Finding("memory", Grade.ADVICE, text, advice)
            return
        if self._model is None or self._numerics is None:
            yield Finding("memory", Grade.GOOD, text)
            return
        manifest = self._model.manifest
        serve = Serve(memory_mb=memory // MB, numerics=self._numerics.label)
        try:
            count = layers_that_fit(manifest, serve)
        except UsageError as error:
            yield Finding("memory", Grade.WRONG, text, str(error))
            return
        if count == manifest.layers:
            yield Finding("memory", Grade.GOOD, f"{text}: all {count} layers fit")
        else:
            advice = "more memory holds more layers: serve.memory_mb"
            yield Finding("memory", Grade.ADVICE, f"{text}: {count} of {manifest.layers} layers fit", advice)

    def _memory(self) -> int | None:
        """Bytes that the node would take; None of a GPU that nobody could look at."""
        if self._serve.device == CPU or self._serve.memory_mb:
            return memory_of(self._serve)
        return self._gpu.memory // 2 if self._gpu else None

    def _look_at_network(self) -> Iterator[Finding]:
        """Look at the addresses in the settings."""
        try:
            check_network(self._network)
        except UsageError as error:
            yield Finding("network", Grade.WRONG, str(error))
        else:
            sight = last_sight(node_network(self._data))
            yield about_network(self._network, local_addresses(self._network), sight, self._now)
            yield about_files(self._network)

    def _look_at_data(self) -> Iterator[Finding]:
        """Identity and certificate, and what their file system can do."""
        try:
            seen = see_identity(self._data)
            try_folder(self._data)
            for journal in (node_journal(self._data), client_journal(self._data)):
                if is_there(journal):
                    prove_journal(journal)
        except (UsageError, JournalError) as error:
            yield Finding("data folder", Grade.WRONG, str(error))
            return
        if seen is None:
            yield Finding("data folder", Grade.GOOD, f"{self._data} is new: the first start makes an identity there")
        else:
            if is_open_to_others(self._data):
                text = f"other users of this machine can write to {self._data}, and replace what is in it"
                yield Finding("data folder", Grade.ADVICE, text, f"chmod go-w {self._data}")
            self._until = seen.certificate.record.not_after if seen.certificate else None
            yield about_identity(self._data, seen, self._now)


def _library() -> tuple[ctypes.CDLL | None, str]:
    """The native kernel, or why there is none."""
    try:
        return open_library(), ""
    except EngineError as error:
        return None, str(error)


def _version(package: str) -> str:
    """Of an installed package, which is not imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read_bytes(manifest: Manifest, numerics: Numerics) -> int:
    """Bytes of weights that a token reads: all layers and the output head."""
    names = [layer_file(layer) for layer in range(manifest.layers)] + [HEAD, *([EMBEDDING] if manifest.tied else [])]
    size = sum(file.size for name in names if (file := manifest.file(name)))
    return int(size / FILE_BYTES * WEIGHT_BYTES[numerics])
