"""`semd calibrate`: the scoring machine gets used to a lab's own instrument by a focus sweep."""
