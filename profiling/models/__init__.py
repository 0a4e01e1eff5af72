"""The model families, a folder each, the bases they share, and where weights come from."""

from __future__ import annotations

import logging

# Where torchao is installed, the library imports it whether or not it is used, and it warns about
# kernels that this machine does not need and about how it registers its types.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
