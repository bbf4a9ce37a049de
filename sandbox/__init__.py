"""Datasets, isolation, training, collection and scoring: what touches untrusted work."""
