"""The papers' tables and figures, the demo and its report, from the simulator's ground truth."""
