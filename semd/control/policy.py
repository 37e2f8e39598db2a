"""The trained actor as a policy: one state in, one step out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from semd.control.actor_weights import load_actor
from semd.control.networks import Actor
from semd.domain.state import Actions, States


class ActorPolicy:
    """The trained actor as a `domain.run.Policy`.

    Attributes:
        n_frames: N of (3), from the weights.
        rho: bound of (5) as a fraction of U - L, from the weights.
    """

    def __init__(self, actor: Actor) -> None:
        """Wrap an actor; torch should run on one thread, a batch of one gains nothing from more."""
        self._actor = actor
        self.n_frames = int(actor.n_frames)
        self.rho = round(float(actor.bound[0]) / 2.0, 6)

    @classmethod
    def load(cls, weights: bytes) -> ActorPolicy:
        """Read the weights.

        Raises:
            ModelError: they are not an actor's, or have the wrong shapes.
        """
        return cls(load_actor(weights))

    def __call__(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """State float32 (10 N,) to the steps of WD, brightness and contrast on the networks' scale, (3,)."""
        steps: NDArray[np.float32] = self.batch(state[None])[0]
        return steps

    def batch(self, states: States) -> Actions:
        """States float32 (B, 10 N) to steps float32 (B, 3)."""
        with torch.inference_mode():
            steps: Actions = self._actor(torch.from_numpy(np.ascontiguousarray(states))).numpy()
        return steps
