"""What the programs share: errors in one line, flags, limits."""
