"""Speed: the scoring machine's runtimes side by side, and the daemon around the network."""
