"""What the machine gives: files, locks, imports, a quiet start."""
