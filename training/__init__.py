"""How the embedded pictures are drawn and the embedded checkpoints are trained."""
