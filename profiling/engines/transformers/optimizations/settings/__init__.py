"""Rules for the settings of optimizations, one file each, known before torch is imported."""
