"""Parts of a model as exported graphs: export, check, rewrite, cache; shared by all engines."""
