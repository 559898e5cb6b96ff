"""CUDA graphs: a recorded step is one launch, whatever its operators.

All that needs a GPU to run is in this file; tests/engine/test_replay.py runs it where there is one.
"""

import torch
from torch import Tensor

from p2pinfer.engine.eager.replay import Compute


class Graphs:
    """Records steps of one device. They share memory for what lies between, as they never run at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, compute: Compute) -> Compute:
        """The step as a graph, which reads and writes where `compute` did when it was recorded."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            self._warm_up(compute)
            with torch.cuda.graph(graph, pool=self._pool):
                result = compute()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

    def _warm_up(self, compute: Compute) -> None:
        """Libraries choose kernels and take their memory at a first call, which cannot be recorded."""
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            compute()
        current.wait_stream(aside)
