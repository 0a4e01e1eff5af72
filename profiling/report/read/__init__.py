"""From records to runs."""
