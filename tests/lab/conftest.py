"""The lab, where this machine can have one."""

import os
from pathlib import Path

import pytest

from .lab import LabError, build_switch

REQUIRED = "P2PINFER_LAB_REQUIRED"  # set, there must be a lab: CI would not notice that its tests are skipped


@pytest.fixture(scope="session")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that `open_lab` needs; tests that want it are skipped with the reason where there can be no lab."""
    try:
        return build_switch(tmp_path_factory.mktemp("lab"))
    except LabError as error:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, and there is no lab: {error}")
        pytest.skip(str(error))
