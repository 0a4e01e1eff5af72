"""From a command line to checked points."""
