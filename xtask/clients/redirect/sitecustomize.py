"""Loaded by Python itself at start, because this folder is on PYTHONPATH.

In: SIMULATOR_ORIGIN. Out: every request of the `requests` library that is meant for a Salesforce host, or for
the simulator by https, goes to the simulator by http. The clients' own code stays as published. Any other
address is refused, so that a client under test cannot reach the world.
"""

import os
from urllib.parse import urlsplit, urlunsplit

ORIGIN = os.environ.get("SIMULATOR_ORIGIN")

if ORIGIN:
    import requests.adapters

    SIMULATOR = urlsplit(ORIGIN)
    SALESFORCE = (".salesforce.com", ".force.com")
    send_as_published = requests.adapters.HTTPAdapter.send

    def send(self, request, *args, **kwargs):
        url = urlsplit(request.url)
        if url.netloc != SIMULATOR.netloc and not (url.hostname or "").endswith(SALESFORCE):
            raise requests.exceptions.ConnectionError(f"not the simulator: {url.netloc}", request=request)
        request.url = urlunsplit(url._replace(scheme=SIMULATOR.scheme, netloc=SIMULATOR.netloc))
        return send_as_published(self, request, *args, **kwargs)

    requests.adapters.HTTPAdapter.send = send
