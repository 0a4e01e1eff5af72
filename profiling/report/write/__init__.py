"""From runs to files: markdown, HTML, CSV, JSON, Parquet."""
