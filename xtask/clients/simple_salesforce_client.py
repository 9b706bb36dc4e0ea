"""simple-salesforce against the simulator: login, describe, query_all, Bulk 2.0 query; every row compared.

In: SIMULATOR_ORIGIN, OBJECTS (JSON list), CLIENT_ID, CLIENT_SECRET, API_VERSION; the redirect on PYTHONPATH.
Out: a line per check on stdout; exit code 1 with the reason at the first that does not hold. What must be there
is asked of the simulator's control interface, not of what is tested.
"""

import csv
import io
import json
import os
import sys
import tempfile

import requests
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceMalformedRequest

CONTROL = os.environ["SIMULATOR_ORIGIN"] + "/simulator"
OBJECTS = json.loads(os.environ["OBJECTS"])


def held(what, condition, detail=""):
    if not condition:
        sys.exit(f"does not hold: {what} {detail}")
    print(f"  {what} {detail}".rstrip(), flush=True)


def true_ids(name):
    rows = requests.get(f"{CONTROL}/truth/{name}").iter_lines()
    return {json.loads(row)["Id"] for row in rows if row}


salesforce = Salesforce(
    consumer_key=os.environ["CLIENT_ID"],
    consumer_secret=os.environ["CLIENT_SECRET"],
    domain="acme.my",
    version=os.environ["API_VERSION"],
)
held("login by client credentials", bool(salesforce.session_id))

names = {described["name"] for described in salesforce.describe()["sobjects"]}
held("describe of the org names the objects", names.issuperset(OBJECTS), f"({len(names)} objects)")

for name in OBJECTS:
    truth = true_ids(name)
    fields = getattr(salesforce, name).describe()["fields"]
    plain = [f["name"] for f in fields if f["type"] not in ("address", "location", "base64")]
    held(f"describe of {name}", "Id" in plain and "SystemModstamp" in plain, f"({len(fields)} fields)")
    soql = f"SELECT {', '.join(plain)} FROM {name}"

    found = salesforce.query_all(soql)
    ids = {record["Id"] for record in found["records"]}
    held(
        f"query_all of {name}",
        found["totalSize"] == len(found["records"]) == len(truth) and ids == truth,
        f"({len(ids)} of {len(truth)} rows)",
    )
    lazily = {record["Id"] for record in salesforce.query_all_iter(f"SELECT Id FROM {name}")}
    held(f"query_all_iter of {name} gives the same rows", lazily == ids)

    by_bulk, row_count = {}, 0
    for page in getattr(salesforce.bulk2, name).query(soql, max_records=1000):
        for row in csv.DictReader(io.StringIO(page)):
            by_bulk[row["Id"]] = row
            row_count += 1
    held(f"bulk2 query of {name} gives the same rows", by_bulk.keys() == ids and row_count == len(ids), f"({row_count} rows)")

    strings = [f["name"] for f in fields if f["type"] in ("string", "picklist", "email", "phone", "url")]
    different = sum(
        (record[field] or "") != by_bulk[record["Id"]][field]
        for record in found["records"]
        for field in strings
    )
    held(f"REST and Bulk agree on the text fields of {name}", different == 0, f"({len(strings)} fields)")

with tempfile.TemporaryDirectory() as folder:
    name = OBJECTS[0]
    files = getattr(salesforce.bulk2, name).download(f"SELECT Id FROM {name}", path=folder, max_records=1000)
    rows = sum(result["number_of_records"] for result in files)
    held(f"bulk2 download of {name}", rows == len(true_ids(name)), f"({len(files)} files, {rows} rows)")

try:
    salesforce.query("SELECT Nonsense__c FROM Account")
    sys.exit("does not hold: a field that is not there is refused")
except SalesforceMalformedRequest as refusal:
    code = refusal.content[0]["errorCode"]
    held("a field that is not there is refused", code == "INVALID_FIELD", f"({code})")
