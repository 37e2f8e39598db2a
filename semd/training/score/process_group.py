"""Several processes training one network: each trains on its share of the frames, weights are averaged often.

On cores that other programs use too, processes with one thread each are several times faster than one process with as
many threads, whose threads wait for each other at every operation. Averaging weights every few steps instead of
gradients at each costs a tenth and learns as well (local stochastic gradient descent).
"""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from semd.errors import TrainingError
from semd.training.score.score_checkpoint import TrainingProgress

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Rank and world size of this process.

    Attributes:
        rank: rank of this process; rank 0 alone validates and writes.
        size: world size, the number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """True where this process validates and writes: rank 0."""
        return self.rank == 0

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process' share of the frames; all shares have the same length, a remainder is left out."""
        return rows[self.rank : len(rows) - len(rows) % self.size : self.size]

    def average_weights(self, network: torch.nn.Module) -> None:
        """Replace the weights and running statistics by their mean over all processes; waits for the slowest.

        Raises:
            TrainingError: another process of the group has ended.
        """
        if self.size == 1:
            return
        values = [value for value in network.state_dict().values() if value.is_floating_point()]
        flat = torch.cat([value.flatten() for value in values])
        try:
            dist.all_reduce(flat)
        except RuntimeError as error:
            raise TrainingError(f"another process of the training has ended: {error}") from error
        flat /= self.size
        start = 0
        for value in values:
            value.copy_(flat[start : start + value.numel()].view_as(value))
            start += value.numel()

    def broadcast(self, progress: TrainingProgress) -> TrainingProgress:
        """Broadcast the progress from rank 0 to all ranks; returns it."""
        if self.size > 1:
            dist.broadcast(torch.tensor(astuple(progress), dtype=torch.float64), src=0)
        return progress

    def receive(self) -> TrainingProgress:
        """Receive the progress that rank 0 broadcasts."""
        received = torch.zeros(3, dtype=torch.float64)
        dist.broadcast(received, src=0)
        epoch, best_rmse, epochs_without_gain = received.tolist()
        return TrainingProgress(int(epoch), best_rmse, int(epochs_without_gain))


SINGLE_PROCESS = ProcessGroup()


def torchrun_process_group() -> ProcessGroup | None:
    """Return the process group that torchrun has started; None without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size < 2:
        return None
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return ProcessGroup(dist.get_rank(), size)


def start_process_group(
    size: int, rendezvous_file: Path, work: Callable[..., object], arguments: tuple[Any, ...]
) -> tuple[ProcessGroup, list[BaseProcess]]:
    """Start `size - 1` processes that each call `work(*arguments, group)`, and join them as rank 0.

    Args:
        size: number of processes, this one included.
        rendezvous_file: a path that all processes can reach; created to exchange addresses, must not exist.
        work: an importable function.
        arguments: its arguments, without the group.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = []
    for rank in range(1, size):
        # Daemonic: they end with this process, however it ends in order.
        worker = context.Process(
            target=_run_worker, args=(ProcessGroup(rank, size), rendezvous_file, work, arguments), daemon=True
        )
        worker.start()
        workers.append(worker)
    return _connect(ProcessGroup(0, size), rendezvous_file), workers


def stop_process_group(workers: list[BaseProcess]) -> None:
    """End the other processes and leave the group."""
    for worker in workers:
        worker.terminate()
        worker.join()
    dist.destroy_process_group()


def _connect(group: ProcessGroup, rendezvous_file: Path) -> ProcessGroup:
    dist.init_process_group(
        "gloo", init_method=rendezvous_file.absolute().as_uri(), rank=group.rank, world_size=group.size
    )
    return group


def _run_worker(
    group: ProcessGroup, rendezvous_file: Path, work: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    _connect(group, rendezvous_file)
    work(*arguments, group)
