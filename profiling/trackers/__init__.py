"""Experiment trackers: each receives finished records and only shows them."""
