"""Evaluation of whole runs on the image simulator: Table I, Fig. 8 and the reward's landscape."""
