"""Programs in which people look at their runs; each takes finished records, and only shows them."""
