"""A checkpoint cut into parts, and parts read back."""
