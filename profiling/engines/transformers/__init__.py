"""The engine `torch`: the library's network and its own `generate`, with optimizations."""
