"""A GPU's memory: how much it is, and how fast it is read.

Torch is asked in a process of its own (`eager/gpu_facts.py`): it ends, so whoever asks holds neither torch nor the GPU.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.values.errors import UsageError

SCRIPT: Final = "p2pinfer.engine.eager.gpu_facts"


@dataclass(frozen=True, slots=True)
class Gpu:
    """memory, free: bytes; read_gb_s: gigabytes a second, 0 if that was not asked for, or its buffer does not fit"""

    name: str
    memory: int
    free: int
    read_gb_s: float


def look_at_gpu(device: str, size: int = 0) -> Gpu:
    """Ask what a device has; it takes some seconds, for torch is loaded.

    device: as torch writes it: "cuda", "cuda:1"
    size:   bytes of a buffer to time the reading of; 0: none

    Raises UsageError for a device that cannot be used, saying why.
    """
    ran = subprocess.run(
        [sys.executable, "-P", "-m", SCRIPT, device, str(size)], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        why = ran.stderr.strip().rpartition("\n")[2] or f"torch ended with {ran.returncode}"
        raise UsageError(f"the device {device} cannot be used: {why}")
    return Gpu(**json.loads(ran.stdout))
