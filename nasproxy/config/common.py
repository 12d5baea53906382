"""Every default, written once: frozen settings of each stage, the training recipes, and the three budgets.

Nothing here imports torch, so the command line derives its options and ``--help`` from this file at no cost.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021. [DSA] Zhao, Bilen,
"Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021. [IDC] Kim et al., ICML 2022. [Acc-DD] Zhang
et al., CVPR 2023. [DREAM] Liu et al., ICCV 2023.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from nasproxy.core.errors import NasproxyError


def at_least(minimum: float, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value >= minimum:
            raise NasproxyError(f"`{name} >= {minimum:g}` must hold, but got {name}={value:g}.")


def config_hash(*parts: Any) -> str:
    """SHA-256 hex digest of ``parts``, which must be JSON values; equal settings give equal digests."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
