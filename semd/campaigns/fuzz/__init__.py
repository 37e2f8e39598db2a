"""Fuzzing of everything that reads bytes from outside: seeded, resumable, under limits of time and memory."""
