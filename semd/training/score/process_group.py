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
from semd.training.score.score_checkpoint import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Team:
    """This process' place among those that train together.

    Attributes:
        rank: number of this process; 0 leads: it alone validates and writes.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """True where this process validates and writes."""
        return self.rank == 0

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process' share of the frames; all shares have the same length, a remainder is left out."""
        return rows[self.rank : len(rows) - len(rows) % self.size : self.size]

    def average_weights(self, network: torch.nn.Module) -> None:
        """Replace the weights and running statistics by their mean over all processes; waits for the slowest.

        Raises:
            TrainingError: another process of the team has ended.
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

    def lead(self, progress: Progress) -> Progress:
        """Tell the others how far the training is; returns it."""
        if self.size > 1:
            dist.broadcast(torch.tensor(astuple(progress), dtype=torch.float64), src=0)
        return progress

    def follow(self) -> Progress:
        """Hear from the leader how far the training is."""
        heard = torch.zeros(3, dtype=torch.float64)
        dist.broadcast(heard, src=0)
        epoch, best_rmse, epochs_without_gain = heard.tolist()
        return Progress(int(epoch), best_rmse, int(epochs_without_gain))


ALONE = Team()


def launched_team() -> Team | None:
    """The place of this process among those that torchrun has started; None without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size < 2:
        return None
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return Team(dist.get_rank(), size)


def gather_team(
    size: int, meeting_file: Path, work: Callable[..., object], arguments: tuple[Any, ...]
) -> tuple[Team, list[BaseProcess]]:
    """Start `size - 1` processes that each call `work(*arguments, team)`, and meet them; returns this one's place.

    Args:
        size: number of processes, this one included.
        meeting_file: a path all processes can reach; created for the meeting, must not exist.
        work: an importable function.
        arguments: its arguments, without the team.
    """
    context = multiprocessing.get_context("spawn")
    mates: list[BaseProcess] = []
    for rank in range(1, size):
        # Daemonic: they end with this process, however it ends in order.
        mate = context.Process(target=_join, args=(Team(rank, size), meeting_file, work, arguments), daemon=True)
        mate.start()
        mates.append(mate)
    return _meet(Team(0, size), meeting_file), mates


def dissolve_team(mates: list[BaseProcess]) -> None:
    """End the other processes and leave the group."""
    for mate in mates:
        mate.terminate()
        mate.join()
    dist.destroy_process_group()


def _meet(team: Team, meeting_file: Path) -> Team:
    dist.init_process_group("gloo", init_method=meeting_file.absolute().as_uri(), rank=team.rank, world_size=team.size)
    return team


def _join(team: Team, meeting_file: Path, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    _meet(team, meeting_file)
    work(*arguments, team)
