"""From checked points to finished records."""
