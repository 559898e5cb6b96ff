"""Cores that are ours."""

import os
from pathlib import Path

import pytest

from p2pinfer.node.cores import quotas, usable_cores


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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_limits_us() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
