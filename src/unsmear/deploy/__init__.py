"""Deployment: 8-bit quantization, export, benchmarks of speed."""
