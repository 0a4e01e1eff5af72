"""Exported graphs run operator by operator: one operator table, an adapter for each framework."""
