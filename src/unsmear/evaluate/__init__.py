"""Evaluation: metrics, named protocols, benchmarks on data sets, validation, and reports."""
