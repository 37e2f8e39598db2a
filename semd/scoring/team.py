"""Several processes training one network: each takes a part of every batch, gradients are averaged.

On cores that other programs use too, processes with one thread each are several times faster than one process with as
many threads, whose threads wait for each other at every operation.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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
        """Whether this process validates and writes."""
        return self.rank == 0

    def part(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process' part of a batch."""
        return rows[self.rank :: self.size]

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradients by their mean over all processes; waits for the slowest."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()


ALONE = Team()


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
