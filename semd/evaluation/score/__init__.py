"""Evaluation of the scoring machine: the papers' tables, quality flags, Fig. 1 and real micrographs."""
