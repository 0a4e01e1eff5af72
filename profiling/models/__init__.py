"""The model families, one file each, and where their weights come from."""

from __future__ import annotations

import logging

# Where torchao is installed the library imports it whether it is asked for or not, and it warns of
# kernels that this machine has no use for and of how it registers its own types.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
