"""Simulators, comparisons, benchmarks and the builder of the demo dataset."""
