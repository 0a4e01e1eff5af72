"""Two points measured in turn: passes of both alternate, in several fresh pairs of processes."""
