"""Looking at a GPU; where there is none, what is said of it."""

import pytest
import torch

from p2pinfer.core.values.errors import UsageError
from p2pinfer.engine.gpu import look_at_gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"the device cuda cannot be used: torch (finds no GPU|.* for CPUs only)"):
        look_at_gpu("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
def test_a_gpu_has_memory_that_can_be_read() -> None:
    with pytest.raises(UsageError, match=r"torch finds \d+ GPUs, the first is cuda:0"):
        look_at_gpu("cuda:99")
    gpu = look_at_gpu("cuda", 1 << 28)
    assert gpu.name
    assert 0 < gpu.free <= gpu.memory
    assert gpu.read_gb_s > 0
    assert look_at_gpu("cuda").read_gb_s == 0
