"""The attacks of the escape suite, by threat; `sandbox/escape.py` runs and judges them."""
