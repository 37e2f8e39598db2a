"""Box (b): the scoring machine."""
