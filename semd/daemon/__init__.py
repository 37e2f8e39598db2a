"""Box (a) to (d) as a long-running process: wiring, loop, supervision, health."""
