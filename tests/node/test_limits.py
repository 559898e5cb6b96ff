"""Cores and memory that are ours."""

import os
from pathlib import Path

import pytest

from p2pinfer.node.limits import memory_limits, quotas, usable_cores, usable_memory


def groups(folder: Path, own: str, **limits: str) -> tuple[Path, Path]:
    """A tree of control groups with these `cpu.max`, "root" for the topmost, and the file that names our own."""
    for name, limit in limits.items():
        place = folder if name == "root" else folder / name.replace("_", "/")
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.max").write_text(limit)
    named = folder / "own"
    named.write_text(own)
    return folder, named


def test_a_group_and_those_above_it_limit_our_time(tmp_path: Path) -> None:
    found = groups(tmp_path, "0::/a/b\n", root="max 100000\n", a="150000 100000\n", a_b="50000 100000\n")
    assert list(quotas(*found)) == [0.5, 1.5]


@pytest.mark.parametrize("own", ["0::/\n", "0::/gone\n", "12:cpu:/a\n", ""])
def test_nothing_limits_us_where_nothing_says_so(tmp_path: Path, own: str) -> None:
    assert list(quotas(*groups(tmp_path, own, root="max 100000\n"))) == []


def test_no_control_groups_are_no_limit(tmp_path: Path) -> None:
    assert list(quotas(tmp_path, tmp_path / "none")) == []


def version_1(folder: Path, own: str, **limits: str) -> tuple[Path, Path]:
    """A tree of control groups of version 1, by file, and the file that names our own."""
    for name, limit in limits.items():
        controller, file = name.split("_", 1)
        (folder / controller / "a").mkdir(parents=True, exist_ok=True)
        (folder / controller / "a" / f"{controller}.{file}").write_text(limit)
    (folder / "own").write_text(own)
    return folder, folder / "own"


def test_groups_of_version_1_limit_us_too(tmp_path: Path) -> None:
    limits = {"cpu_cfs_quota_us": "150000\n", "cpu_cfs_period_us": "100000\n", "memory_limit_in_bytes": "4096\n"}
    found = version_1(tmp_path, "4:memory:/a\n1:cpu:/a\n0::/\n", **limits)
    assert (list(quotas(*found)), list(memory_limits(*found))) == ([1.5], [4096])


def test_a_quota_of_minus_one_is_none(tmp_path: Path) -> None:
    found = version_1(tmp_path, "1:cpu:/a\n", cpu_cfs_quota_us="-1\n", cpu_cfs_period_us="100000\n")
    assert list(quotas(*found)) == []


def test_the_memory_of_a_group_limits_us(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "memory.max").write_text("8192\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "own").write_text("0::/a\n")
    assert list(memory_limits(tmp_path, tmp_path / "own")) == [8192]
    assert usable_memory() > 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_limits_us() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
