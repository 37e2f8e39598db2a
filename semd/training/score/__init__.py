"""Training of the scoring machine, loss (1)."""
