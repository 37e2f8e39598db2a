"""Recording and replay of frame sequences through the daemon's own pipeline."""
