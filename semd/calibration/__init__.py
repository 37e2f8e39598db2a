"""`semd calibrate`: adaptation of the scoring machine to an instrument by a focus sweep."""
