"""Settings that every test runs under: one thread, no hub, no chatter."""

from __future__ import annotations

import os

# before torch and transformers are imported, by this process or by one that a test starts
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"
