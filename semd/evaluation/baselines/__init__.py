"""Baselines: other autofocus methods on the same virtual microscope, judged by the same ground truth as semd."""
