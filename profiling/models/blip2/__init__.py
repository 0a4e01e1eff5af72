"""Shared by the BLIP-2 families: a vision transformer, a Q-Former and a projection. No family."""
