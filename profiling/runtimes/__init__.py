"""What runs one exported graph: one file for each runtime."""
