"""Action files out, exactly one for each frame: the ledger, the spool and what a crash leaves to be done."""
