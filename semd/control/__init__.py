"""Box (d): the control machine."""
