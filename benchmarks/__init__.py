"""Programs that print a ratio or a comparison against a peer, measured in one run."""
