"""Datasets of labelled frames: their form on disk, simulated ones and imported ones."""
