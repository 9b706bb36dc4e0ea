"""aiosfpubsub against the simulator: SOAP login, topic and schema, a subscription, replay from a stored id.

In: SIMULATOR_ORIGIN, PUBSUB_PORT, USERNAME, PASSWORD; the trust in the simulator's certificate on PYTHONPATH.
Out: a line per check on stdout; exit code 1 with the reason at the first that does not hold. What must come is saved
over the simulator's control interface.
"""

import asyncio
import json
import os
import sys
import time

import httpx
from aiosfpubsub import Client

CONTROL = os.environ["SIMULATOR_ORIGIN"] + "/simulator"
TOPIC = "/data/ContactChangeEvent"
PATIENCE = 60


def held(what, condition, detail=""):
    if not condition:
        sys.exit(f"does not hold: {what} {detail}")
    print(f"  {what} {detail}".rstrip(), flush=True)


def control(path, body):
    answer = httpx.post(f"{CONTROL}/{path}", content=json.dumps(body), trust_env=False)
    answer.raise_for_status()
    return answer.json()


def save(*changes):
    return control("transactions", {"changes": list(changes)})[0]["ids"]


def positions(bitmap):
    number = int(bitmap, 16)
    return [bit for bit in range(number.bit_length()) if number >> bit & 1]


def changed(schema, header):
    """This script's own reading of the bitmaps: the client leaves them as they are."""
    fields = json.loads(schema)["fields"]
    named = {}

    def parts(kind):
        for branch in kind if isinstance(kind, list) else [kind]:
            if isinstance(branch, dict) and branch.get("type") == "record":
                named[branch["name"]] = [field["name"] for field in branch["fields"]]
                return named[branch["name"]]
            if branch in named:
                return named[branch]
        return []

    all_parts = [parts(field["type"]) for field in fields]
    names = []
    for bitmap in header["changedFields"]:
        if "-" in bitmap:
            at, bits = bitmap.split("-")
            names += [f"{fields[int(at)]['name']}.{all_parts[int(at)][bit]}" for bit in positions(bits)]
        else:
            names += [fields[bit]["name"] for bit in positions(bitmap)]
    return names


def client():
    made = Client(
        url=os.environ["SIMULATOR_ORIGIN"],
        username=os.environ["USERNAME"],
        password=os.environ["PASSWORD"],
        grpc_host="127.0.0.1",
        grpc_port=int(os.environ["PUBSUB_PORT"]),
    )
    made.auth()
    return made


async def collect(salesforce, replay_type, replay_id, count, once_standing=None):
    """The next `count` events, decoded, with their replay ids."""
    events = []
    done = asyncio.Event()

    def callback(response, client):
        for event in response.events:
            schema = client.get_schema_json(event.event.schema_id)
            events.append((event.replay_id, schema, client.decode(schema, event.event.payload)))
        if len(events) >= count:
            done.set()

    task = asyncio.create_task(salesforce.subscribe(TOPIC, replay_type, replay_id, 50, callback))
    if once_standing:
        deadline = time.monotonic() + PATIENCE
        while True:
            state = httpx.get(f"{CONTROL}/pubsub", trust_env=False).json()
            if state["openStreams"] == state["standing"] == 1:
                break
            if time.monotonic() > deadline:
                sys.exit(f"does not hold: the subscription stands {state}")
            await asyncio.sleep(0.01)
        once_standing()
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait([task, waiting], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    task.cancel()
    await asyncio.gather(task, waiting, return_exceptions=True)
    return events


salesforce = client()
held("SOAP login", bool(salesforce.session_id and salesforce.tenant_id), f"(org {salesforce.tenant_id})")

topic = salesforce.get_topic(TOPIC)
held("GetTopic", topic.can_subscribe and len(topic.schema_id) == 22, f"({topic.schema_id})")
schema = json.loads(salesforce.get_schema_json(topic.schema_id))
held("GetSchema", schema["name"] == "ContactChangeEvent", f"({len(schema['fields'])} fields)")

ids = []


def changes():
    ids.extend(save({"op": "insert", "object": "Contact", "fields": {"LastName": "Ng", "FirstName": "Ada", "MailingCity": "Ulm"}}))
    save({"op": "update", "object": "Contact", "id": ids[0], "fields": {"MailingCity": "Bonn", "Title": "Dr"}})
    save({"op": "delete", "object": "Contact", "id": ids[0]})


events = asyncio.run(collect(salesforce, "LATEST", None, 3, changes))
kinds = [event["ChangeEventHeader"]["changeType"] for _, _, event in events]
held("events of three transactions", kinds == ["CREATE", "UPDATE", "DELETE"], f"({', '.join(kinds)})")
created, updated = events[0][2], events[1][2]
held("a creation comes whole", created["Name"]["LastName"] == "Ng" and created["ChangeEventHeader"]["recordIds"] == ids)
names = changed(events[1][1], updated["ChangeEventHeader"])
wanted = {"Title", "LastModifiedDate", "MailingAddress.City"}
held("an update names its changed fields", set(names) == wanted, f"({', '.join(names)})")
held("and carries them", updated["MailingAddress"]["City"] == "Bonn" and updated["Name"] is None)

# The client asks anew every five seconds, with the preset and the id it began with.
again = asyncio.run(collect(client(), "CUSTOM", events[0][0], 2))
held("replay from a stored id", [event for _, _, event in again] == [event for _, _, event in events[1:]], f"({len(again)} events)")
