"""Shared test harness: what the tests of several rooms are built from."""
