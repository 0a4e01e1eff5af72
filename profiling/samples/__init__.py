"""Samples: pictures with questions and references, from folders and from the hub."""
