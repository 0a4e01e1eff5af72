"""The model families, one file each, and where their weights come from."""
