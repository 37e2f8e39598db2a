"""DDPG, Algorithm 1, from top to bottom.

The paper's text was not at hand, only its numbers; this is our reading of which equation is which:

    (7)  y = r + gamma (1 - terminated) Q'(s', mu'(s'))        the target, by the target networks
    (8)  L = mean (y - Q(s, a))^2                              the critic's loss
    (9)  grad J = mean grad_a Q(s, a)|a=mu(s) grad mu(s)       the deterministic policy gradient
    (10) a = mu(s) with probability epsilon, else mu(s) + noise, noise ~ N(0, (sigma bound)^2), clipped to (5)
    (11) P(i) = p_i^kappa / sum_k p_k^kappa, p = |y - Q|       the probability of being drawn
    (12) w_i = (n P(i))^-zeta / max_j w_j                      the importance weight
    (13) theta_Q <- theta_Q - lr grad mean w (y - Q)^2         (8) weighted by (12), by Adam
    (14) theta_mu <- theta_mu + lr grad J                      (9), by Adam
    (15) theta' <- tau theta + (1 - tau) theta'                both target networks
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semd.control.networks import Actor, Critic
from semd.domain.state import Actions, States
from semd.errors import TrainingError
from semd.training.control.control_settings import ControlTrainingConfig
from semd.training.control.replay_buffer import ReplayBatch

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Update:
    """Figures of one update.

    Attributes:
        td_errors: float32 (K,), y - Q of the batch, for (11).
        critic_loss: (8) weighted by (12).
        value: mean Q(s, mu(s)) over the batch.
    """

    td_errors: NDArray[np.float32]
    critic_loss: float
    value: float


class Ddpg:
    """Actor, critic and their targets."""

    def __init__(self, config: ControlTrainingConfig, generator: torch.Generator) -> None:
        """Build the four networks; weights come from `generator` alone."""
        self._config = config
        self.actor = Actor(config.n_frames, config.rho, generator)
        self.critic = Critic(config.n_frames, config.rho, generator)
        self.target_actor = _frozen(self.actor)
        self.target_critic = _frozen(self.critic)
        self._start: Actor | None = None
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=config.lr_actor, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=config.lr_critic, fused=True)

    def start_from(self, actor: Actor) -> None:
        """Take over the weights of an actor that has learned before.

        Raises:
            TrainingError: its N or its bound differ.
        """
        if int(actor.n_frames) != self._config.n_frames or not torch.allclose(actor.bound, self.actor.bound):
            raise TrainingError(
                f"the actor to start from has N = {int(actor.n_frames)} and rho = {float(actor.bound[0]) / 2.0:g}; "
                f"the settings say {self._config.n_frames} and {self._config.rho:g}"
            )
        self.actor.load_state_dict(actor.state_dict())
        self.target_actor.load_state_dict(actor.state_dict())
        self._start = _frozen(actor)

    def act(self, states: States) -> Actions:
        """mu(s): states float32 (B, 10 N) to steps float32 (B, 3)."""
        with torch.inference_mode():
            actions: Actions = self.actor(torch.from_numpy(states)).numpy()
        return actions

    def explore(self, states: States, epsilon: float, rng: np.random.Generator) -> Actions:
        """Equation (10): greedy with probability `epsilon`, else noisy; each microscope by itself."""
        actions = self.act(states)
        bound = self.actor.bound.numpy()
        noise = rng.standard_normal(actions.shape, dtype=np.float32) * (self._config.sigma * bound)
        noisy = rng.random((len(actions), 1)) >= epsilon
        return np.clip(actions + noise * noisy, -bound, bound).astype(np.float32)

    def anneal(self, progress: float) -> None:
        """Set both learning rates for `progress` in 0..1 of the training."""
        end = self._config.lr_end_factor
        factor = end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
        self.actor_optimiser.param_groups[0]["lr"] = self._config.lr_actor * factor
        self.critic_optimiser.param_groups[0]["lr"] = self._config.lr_critic * factor

    def update(self, batch: ReplayBatch, *, critic_only: bool = False) -> Update:
        """One update of all networks from one batch; with `critic_only` the actor stays as it is.

        Raises:
            TrainingError: the loss is not finite.
        """
        states, actions = torch.from_numpy(batch.states), torch.from_numpy(batch.actions)
        rewards, weights = torch.from_numpy(batch.rewards), torch.from_numpy(batch.weights)
        next_states, terminated = torch.from_numpy(batch.next_states), torch.from_numpy(batch.terminated)

        with torch.no_grad():
            next_values = self.target_critic(next_states, self.target_actor(next_states))
            y = rewards + self._config.gamma * (1.0 - terminated) * next_values  # (7)

        td_errors = y - self.critic(states, actions)
        critic_loss = (weights * td_errors.square()).mean()  # (8), (12)
        self.critic_optimiser.zero_grad()
        torch.autograd.backward(critic_loss)
        self.critic_optimiser.step()  # (13)

        # The critic is only looked through here: its own gradients would be thrown away.
        self.critic.requires_grad_(False)
        own_actions = self.actor(states)
        value: Tensor = self.critic(states, own_actions).mean()
        if not critic_only:
            self.actor_optimiser.zero_grad()
            torch.autograd.backward(self._anchor_penalty(states, own_actions) - value)  # (9)
            self.actor_optimiser.step()  # (14)
        self.critic.requires_grad_(True)

        with torch.no_grad():
            _polyak_update(self.target_critic, self.critic, self._config.tau)  # (15)
            _polyak_update(self.target_actor, self.actor, self._config.tau)

        update = Update(td_errors.detach().numpy(), float(critic_loss.detach()), float(value.detach()))
        if not math.isfinite(update.critic_loss + update.value):
            raise TrainingError("the loss is not finite; lower the learning rates")
        return update

    def _anchor_penalty(self, states: Tensor, own_actions: Tensor) -> Tensor:
        """Penalty for leaving the actor that the training started from; 0 without one."""
        if self._start is None:
            return torch.zeros(())
        away = (own_actions - self._start(states)) / self.actor.bound
        cost: Tensor = self._config.anchor * away.square().mean()
        return cost


def _frozen(network: _Network) -> _Network:
    return copy.deepcopy(network).requires_grad_(False)


def _polyak_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
