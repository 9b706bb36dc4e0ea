"""Airbyte's Salesforce connector against the simulator: check, discover, read; every row compared.

In: SIMULATOR_ORIGIN, OBJECTS (JSON list), CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, START_DATE; the redirect on
PYTHONPATH; the connector's program as first argument. Out: a line per check on stdout; exit code 1 with the
reason at the first that does not hold. The connector itself decides which stream goes over Bulk and which over
REST, and reads deleted records too. What must be there is asked of the simulator's control interface.
"""

import atexit
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

PROGRAM = sys.argv[1]
CONTROL = os.environ["SIMULATOR_ORIGIN"] + "/simulator"
OBJECTS = json.loads(os.environ["OBJECTS"])
# Compound fields cannot go over Bulk: the connector reads an object that has any over REST.
OVER_REST = {"Account", "Contact", "Lead", "User"}


def held(what, condition, detail=""):
    if not condition:
        sys.exit(f"does not hold: {what} {detail}")
    print(f"  {what} {detail}".rstrip(), flush=True)


def control(path, order=None):
    """Straight to the simulator, whatever proxy the environment names; posted if there is something to order."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = None if order is None else json.dumps(order).encode()
    with opener.open(f"{CONTROL}/{path}", data=body, timeout=60) as response:
        return response.read()


def calls(kind):
    return json.loads(control("counters"))["byKind"].get(kind, 0)


def connector(*arguments):
    """The connector's messages by type. Its log lines are kept for the case that it fails."""
    run = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=600)
    messages, log = collections.defaultdict(list), []
    for line in run.stdout.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            log.append(line)
            continue
        if message["type"] == "LOG":
            log.append(message["log"]["message"])
        messages[message["type"]].append(message)
    errors = [trace for trace in messages["TRACE"] if trace["trace"]["type"] == "ERROR"]
    if run.returncode != 0 or errors:
        told = [f"{error['trace']['error'][part]}" for error in errors for part in ("message", "internal_message")]
        tail = "\n".join(log[-15:] + run.stderr.splitlines()[-15:] + told)
        sys.exit(f"the connector failed at {arguments[0]} (exit code {run.returncode})\n{tail}")
    return messages, log


def write(folder, name, content):
    path = pathlib.Path(folder) / name
    path.write_text(json.dumps(content))
    return str(path)


def catalog_of(streams, mode):
    return {
        "streams": [
            {
                "stream": stream,
                "sync_mode": mode,
                "destination_sync_mode": "append",
                **({"cursor_field": stream["default_cursor_field"]} if mode == "incremental" else {}),
            }
            for stream in streams
        ]
    }


with tempfile.TemporaryDirectory() as folder:
    config = write(
        folder,
        "config.json",
        {
            "auth_type": "Client",
            "client_id": os.environ["CLIENT_ID"],
            "client_secret": os.environ["CLIENT_SECRET"],
            "refresh_token": os.environ["REFRESH_TOKEN"],
            "is_sandbox": False,
            "start_date": os.environ["START_DATE"],
            # One slice: the default makes a job for every month since the start.
            "stream_slice_step": "P10000D",
        },
    )

    messages, _ = connector("check", "--config", config)
    status = messages["CONNECTION_STATUS"][0]["connectionStatus"]
    held("check", status["status"] == "SUCCEEDED", str(status.get("message", "")))

    messages, _ = connector("discover", "--config", config)
    streams = {stream["name"]: stream for stream in messages["CATALOG"][0]["catalog"]["streams"]}
    held("discover names the objects", streams.keys() >= set(OBJECTS), f"({len(streams)} streams)")
    chosen = [streams[name] for name in OBJECTS]

    # Several pages for each Bulk job: the connector finds the next by the answer's headers, letter by letter.
    atexit.register(control, "settings", {"bulkPageCap": 100_000})
    control("settings", {"bulkPageCap": 1000})
    for mode in ("full_refresh", "incremental"):
        bulk_before, more_before = calls("bulk"), calls("query-more")
        catalog = write(folder, "catalog.json", catalog_of(chosen, mode))
        messages, log = connector("read", "--config", config, "--catalog", catalog)
        records = collections.defaultdict(list)
        for message in messages["RECORD"]:
            records[message["record"]["stream"]].append(message["record"]["data"])
        for name in OBJECTS:
            live = {json.loads(row)["Id"] for row in control(f"truth/{name}").splitlines() if row}
            gone = set(json.loads(control(f"deleted/{name}")))
            rows = records[name]
            ids = {row["Id"] for row in rows}
            deleted = {row["Id"] for row in rows if row["IsDeleted"] in (True, "true")}
            held(
                f"read of {name}, {mode}, over {'REST' if name in OVER_REST else 'Bulk'}",
                len(rows) == len(ids) and ids - deleted == live and deleted <= gone,
                f"({len(rows)} rows, {len(ids)} ids, {len(deleted)} of them deleted; {len(live)} live)",
            )
        bulk, more = calls("bulk") - bulk_before, calls("query-more") - more_before
        held("it went over both APIs, in pages", bulk >= 6 and more >= 2, f"({bulk} Bulk calls, {more} next pages)")
