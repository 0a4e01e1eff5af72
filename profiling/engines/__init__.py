"""What runs a point: one folder an engine, behind one interface."""
