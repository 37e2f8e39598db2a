"""Evaluation of the feature-level twin: its errors, its likeness to rendered frames, and whole runs on it."""
