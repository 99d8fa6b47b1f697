"""Evaluation: metrics, named protocols, benchmarks on data sets, validation, and reports."""

from typing import Literal

Pairing = Literal["name", "order"]
"""How restored images find their counterparts: by their names, or in sorted order."""
