"""Two points measured in turn: passes of both alternate, and both are started anew several times."""
