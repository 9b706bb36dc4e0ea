"""Loaded by Python itself at start, because this folder is on PYTHONPATH.

In: SIMULATOR_CA, a file. Out: clients that trust the authorities of `certifi` trust that one alone: the simulator, and
nothing else in the world. The clients' own code stays as published.
"""

import os

CA = os.environ.get("SIMULATOR_CA")

if CA:
    import certifi

    certifi.where = lambda: CA
