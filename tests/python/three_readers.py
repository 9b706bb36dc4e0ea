"""Three consumers of one topic, from its first record to its last: do all of them see every record? Knows nothing of
sf2kafka's code.

OLD was made against the first schema version of the topic's subject, NEW against the newest, GENERIC takes each record by
the schema that it was written with. All find the writer's schema by the id in the record, as registry-aware
consumers do. OLD and NEW resolve by two libraries: fastavro, within confluent-kafka's deserializer, for every record, and
Apache Avro for the first records of each schema.

In: broker, registry, topic. Out: one JSON object on stdout; exit code 0 if every rule holds, 3 if one does not, 1 if the topic
cannot be read to its end. The rules:
- no reader fails on a record;
- whatever OLD and NEW both know of a field is what GENERIC sees, and a field that the writer did not know is null;
- every field of the first version is in the newest, at the same place;
- each version of the subject reads what the one before it wrote, as the registry itself judges it (BACKWARD).
"""

import argparse
import collections
import io
import json
import sys
import urllib.error
import urllib.request

import avro.io
import avro.schema
from confluent_kafka import KafkaException
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from verify_topic import EXAMPLES, SILENCE_SECONDS, Topic, Unreadable, canonical

# Apache Avro for Python resolves some hundred records a second.
STRICT_RECORDS = 100


class Registry:
    """The registry's REST interface, as far as versions and compatibility go."""

    def __init__(self, url):
        self.url = url

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as response:
            return json.load(response)

    def versions(self, subject):
        numbers = sorted(self.ask(f"/subjects/{subject}/versions"))
        return [(number, self.ask(f"/subjects/{subject}/versions/{number}")) for number in numbers]

    def is_compatible(self, subject, number, schema):
        """Whether the registry takes the schema for compatible with a version of the subject, by the subject's rule."""
        path = f"/compatibility/subjects/{subject}/versions/{number}?verbose=true"
        return self.ask(path, {"schema": schema, "schemaType": "AVRO"})["is_compatible"]


class Reader:
    """A consumer that was made against one schema; none: it takes the writer's."""

    def __init__(self, name, topic, schema):
        self.name = name
        self.deserializer = AvroDeserializer(topic.registry, schema)
        self.context = SerializationContext(topic.name, MessageField.VALUE)
        self.names = schema and [field["name"] for field in json.loads(schema)["fields"]]
        self.strict = schema and avro.schema.parse(schema)
        self.records = 0

    def read(self, data):
        value = self.deserializer(data, self.context)
        self.records += 1
        return value

    def read_strictly(self, data, writer):
        return avro.io.DatumReader(writer, self.strict).read(avro.io.BinaryDecoder(io.BytesIO(data[5:])))


class Judge:
    def __init__(self, topic, registry):
        self.topic = topic
        self.versions = registry.versions(f"{topic.name}-value")
        old, new = self.versions[0][1]["schema"], self.versions[-1][1]["schema"]
        self.generic = Reader("generic", topic, None)
        self.readers = [Reader("old", topic, old), Reader("new", topic, new)]
        self.writers = {version["id"]: avro.schema.parse(version["schema"]) for _, version in self.versions}
        self.strict = collections.Counter()
        self.by_schema = collections.Counter()
        self.faults = collections.Counter()
        self.examples = []

    def fault(self, kind, message, what):
        self.faults[kind] += 1
        if len(self.examples) < EXAMPLES:
            place = None if message is None else [message.partition(), message.offset()]
            self.examples.append({"fault": kind, "at": place, "what": str(what)[:500]})

    def take(self, message):
        data = message.value()
        if data is None:
            return
        try:
            whole = self.generic.read(data)
        except Exception as error:
            return self.fault("generic_fails", message, error)
        schema = int.from_bytes(data[1:5], "big")
        strictly = self.strict[schema] < STRICT_RECORDS
        self.strict[schema] += strictly
        self.by_schema[schema] += 1
        for reader in self.readers:
            try:
                seen = reader.read(data)
                again = reader.read_strictly(data, self.writers[schema]) if strictly else seen
            except Exception as error:
                self.fault(f"{reader.name}_fails", message, f"{type(error).__name__}: {error}")
                continue
            self.compare(reader, message, whole, seen, again)

    def compare(self, reader, message, whole, seen, again):
        if sorted(seen) != sorted(reader.names):
            self.fault(f"{reader.name}_has_other_fields", message, sorted(set(seen) ^ set(reader.names)))
        for name, cell in seen.items():
            if canonical(cell) != canonical(whole.get(name)) or canonical(again[name]) != canonical(cell):
                self.fault(f"{reader.name}_sees_another_value", message, name)

    def judge_versions(self, registry):
        subject = f"{self.topic.name}-value"
        for (old, before), (number, after) in zip(self.versions, self.versions[1:]):
            names = [[field["name"] for field in json.loads(v["schema"])["fields"]] for v in (before, after)]
            if names[1][: len(names[0])] != names[0]:
                self.fault("places_moved", None, f"version {number}")
            if not registry.is_compatible(subject, old, after["schema"]):
                self.fault("registry_finds_it_incompatible", None, f"version {number}")

    def report(self):
        return {
            "records": self.generic.records,
            "readers": {reader.name: reader.records for reader in [*self.readers, self.generic]},
            "read_by_apache_avro": sum(self.strict.values()),
            "versions": len(self.versions),
            "by_schema": dict(self.by_schema),
            "faults": dict(self.faults),
            "fault_examples": self.examples,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True, help="broker, host:port")
    parser.add_argument("--registry", required=True, help="base URL of the schema registry")
    parser.add_argument("--topic", required=True)
    given = parser.parse_args()
    try:
        topic = Topic(given.bootstrap, given.registry, given.topic)
        registry = Registry(given.registry)
        judge = Judge(topic, registry)
        for message in topic.messages():
            judge.take(message)
        judge.judge_versions(registry)
    except (Unreadable, KafkaException, urllib.error.URLError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = {"topic": given.topic, **judge.report()}
    report["holds"] = not judge.faults and judge.generic.records > 0
    json.dump(report, sys.stdout, indent=1, ensure_ascii=False)
    print()
    return 0 if report["holds"] else 3


if __name__ == "__main__":
    sys.exit(main())
