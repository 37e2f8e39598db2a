"""Training of the control machine: DDPG, Algorithm 1, equations (7) to (15)."""
