"""Writes exported parts in the formats of frameworks: one file for each."""
