"""Simulated tabletop SEM: samples, optics, detector, ground truth, frame files and link; and its feature-level twin."""
