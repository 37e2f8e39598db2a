"""Endurance campaigns against real processes: fuzzing, crashes at every failpoint, and long soaks."""
