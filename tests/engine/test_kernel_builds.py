"""The kernel built otherwise: with sanitizers, with emulated tiles, and for another processor.

Each build runs `native/exercise.c`: random shapes and steps, held to the portable reference by every instruction set.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import p2pinfer.engine.native

pytestmark = pytest.mark.slow  # a compiler takes a minute for each build

NATIVE = Path(p2pinfer.engine.native.__file__).parent
HERE = Path(__file__).parent / "native"
FLAGS = ("-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror", "-pthread")
SEED = "7"


def build(folder: Path, compiler: str, *flags: str) -> Path:
    program = folder / "exercise"
    sources = [str(HERE / "exercise.c"), *map(str, sorted(NATIVE.glob("*.c")))]
    command = [compiler, *FLAGS, *flags, f"-I{NATIVE}", f"-I{HERE}", "-o", str(program), *sources, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def exercised(command: Sequence[str], count: int) -> list[tuple[str, list[str]]]:
    """Of each span, the checksum and the instruction sets that came to it."""
    done = subprocess.run([*command, SEED, str(count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == count
    return [(row[0], row[1:]) for row in rows]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("emulated"), "cc", "-O2", "-DTILES_EMULATED")


def test_all_instruction_sets_give_the_same_bits_tiles_included(emulated: Path) -> None:
    rows = exercised([str(emulated)], 12)
    assert all(sets[-1] == "portable" for _, sets in rows)
    assert len({checksum for checksum, _ in rows}) == len(rows)


def test_addresses_and_arithmetic_are_in_order(tmp_path: Path) -> None:
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-var-tracking-assignments")
    exercised([str(build(tmp_path, "cc", "-O1", "-g", "-DTILES_EMULATED", *checks))], 3)


def test_threads_do_not_race(tmp_path: Path) -> None:
    program = build(tmp_path, "cc", "-O1", "-g", "-fsanitize=thread", "-Wno-tsan", "-fno-var-tracking-assignments")
    # addresses in random places are more than this sanitizer bears on some kernels
    exercised(["setarch", "-R", str(program)], 3)


@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64-static")),
    reason="no cross compiler for ARM, or no qemu (Debian: gcc-aarch64-linux-gnu qemu-user-static)",
)
def test_arm_gives_the_bits_of_this_machine(tmp_path: Path, emulated: Path) -> None:
    program = build(tmp_path, "aarch64-linux-gnu-gcc", "-O2", "-static")
    arm, here = exercised(["qemu-aarch64-static", str(program)], 4), exercised([str(emulated)], 4)
    assert [checksum for checksum, _ in arm] == [checksum for checksum, _ in here]
    assert all(sets == ["neon-dotprod", "portable"] for _, sets in arm)
