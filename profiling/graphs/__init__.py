"""Parts of a model as exported graphs: export, check, rewrite, keep; shared by every engine."""
