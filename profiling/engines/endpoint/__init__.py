"""The engine `endpoint`: a server with an OpenAI-compatible interface."""
