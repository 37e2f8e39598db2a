"""Training of the scoring machine and of the control machine, and the export of trained networks."""
