"""The lab, where this machine can have one."""

from pathlib import Path

import pytest

from .lab import LabError, build_switch


@pytest.fixture(scope="session")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that `open_lab` needs; tests that want it are skipped with the reason where there can be no lab."""
    try:
        return build_switch(tmp_path_factory.mktemp("lab"))
    except LabError as error:
        pytest.skip(str(error))
