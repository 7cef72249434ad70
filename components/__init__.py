"""The steps: one folder each, with its KFP interface, its code and its locked requirements."""

import os

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # onnxruntime reports to its maker otherwise, and complains where it cannot
