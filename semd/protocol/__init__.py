"""The outside contract: parameter texts, pairs of files, actions, addresses and instrument profiles. Pure."""
