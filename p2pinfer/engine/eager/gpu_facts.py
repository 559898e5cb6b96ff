"""The process that looks at a GPU (`engine/gpu.py`): arguments device and size, one JSON object on stdout."""

import json
import sys
from statistics import median
from typing import Final

import torch

MOST_BYTES: Final = 1 << 31  # of the buffer; far beyond every cache, more changes nothing
PASSES: Final = 21


def obstacle(device: torch.device) -> str:
    """Return why the device cannot be used, in words that help more than torch's; empty if nothing is known."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} was built for CPUs only; a build for GPUs is needed"
    if not (count := torch.cuda.device_count()):
        return "torch finds no GPU, or no driver for it"
    return f"torch finds {count} GPUs, the first is cuda:0" if (device.index or 0) >= count else ""


def look(device: torch.device, size: int) -> dict[str, object]:
    """The fields of `Gpu`. Raises what torch raises for a device that it cannot use."""
    free, memory = torch.cuda.mem_get_info(device)
    try:
        speed = read_gb_s(device, min(size, MOST_BYTES)) if size else 0.0
    except torch.OutOfMemoryError:
        speed = 0.0  # others have the memory, which is no reason not to say how much there is
    return {"name": torch.cuda.get_device_name(device), "memory": memory, "free": free, "read_gb_s": speed}


def read_gb_s(device: torch.device, size: int) -> float:
    """Gigabytes a second at which a buffer of `size` bytes is read, by a sum of all of it; a median."""
    buffer = torch.randn(size // 4, device=device)
    times_ms = []
    with torch.cuda.device(device):
        for _ in range(PASSES):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            buffer.sum()
            end.record()
            end.synchronize()
            times_ms.append(start.elapsed_time(end))
    return float(buffer.nbytes / median(times_ms) / 1e6)


if __name__ == "__main__":
    asked = torch.device(sys.argv[1])
    if why := obstacle(asked):
        sys.exit(why)
    try:
        print(json.dumps(look(asked, int(sys.argv[2]))))  # noqa: T201
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error).strip().partition("\n")[0])
