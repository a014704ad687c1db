"""Mask models for others: exported, served, called."""
