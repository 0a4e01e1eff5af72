"""This machine: what it is, its peaks, its counters, and whether it is quiet."""
