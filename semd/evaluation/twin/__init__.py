"""Evaluation of the feature-level twin: its score errors, its agreement with rendered frames, and runs on it."""
