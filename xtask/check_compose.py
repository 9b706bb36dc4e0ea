"""A compose file, judged strictly by the Compose Specification.

In: a file on stdin with its variables already filled in, as `podman-compose config` prints it (which itself
lets unknown keys pass). Out: the names of its services, a line each; exit code 1 with the place of the fault.
"""

import sys

import yaml
from compose_spec import PyCompose

text = sys.stdin.read()
try:
    names = PyCompose.from_yaml(text).service_names()
except ValueError as fault:
    sys.exit(str(fault))

# What the reader above does not judge: a named volume must be declared.
document = yaml.safe_load(text)
declared = set(document.get("volumes") or {})
for name, service in document["services"].items():
    for volume in service.get("volumes") or []:
        source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
        if not source.startswith((".", "/", "~")) and source not in declared:
            sys.exit(f"services.{name}.volumes: {source} is not declared under volumes")
print("\n".join(names))
