"""The learning core: arrays, tensors and labels in; what to label next out."""

import os

# ONNX Runtime's wheels report to Microsoft from their first import on, and keep a device's number in the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
