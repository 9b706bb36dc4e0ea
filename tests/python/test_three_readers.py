"""The readers judged: each rule that three_readers.py holds is broken once, and it must say so.

Run by `cargo xtask test`; needs no broker and no registry.
"""

import io
import json
import types
import unittest

import fastavro
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from three_readers import Judge

TOPIC = "crm.A"


def schema(*fields):
    """`fields`: names with their types; all of them may be null but the Id."""
    known = [{"name": "Id", "type": "string"}]
    known += [{"name": name, "type": ["null", kind], "default": None} for name, kind in fields]
    return json.dumps({"type": "record", "name": "A", "namespace": "crm", "fields": known})


class Registry:
    """Versions of one subject, kept in this process; takes everything for compatible but what it was told."""

    def __init__(self, *schemas, refused=()):
        self.client = SchemaRegistryClient.new_client({"url": "mock://three-readers"})
        self.ids = [self.client.register_schema(f"{TOPIC}-value", Schema(text, "AVRO")) for text in schemas]
        self.schemas, self.refused = schemas, refused

    def versions(self, _):
        numbered = enumerate(zip(self.ids, self.schemas), start=1)
        return [(number, {"id": own, "schema": text}) for number, (own, text) in numbered]

    def is_compatible(self, _, number, __):
        return number not in self.refused


def judged(registry, *records):
    """`records`: the version that each is written by, and its value."""
    judge = Judge(types.SimpleNamespace(name=TOPIC, registry=registry.client), registry)
    for offset, (version, value) in enumerate(records):
        out = io.BytesIO(b"\0" + registry.ids[version - 1].to_bytes(4, "big"))
        out.seek(5)
        fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(registry.schemas[version - 1])), value)
        data = out.getvalue()
        message = types.SimpleNamespace(value=lambda data=data: data, partition=lambda: 0, offset=lambda at=offset: at)
        judge.take(message)
    judge.judge_versions(registry)
    return judge.report()


class Readers(unittest.TestCase):
    def test_versions_that_only_grow_are_read_by_all(self):
        registry = Registry(schema(("X", "int")), schema(("X", "int"), ("Y", "double")))
        report = judged(registry, (1, {"Id": "a", "X": 1}), (2, {"Id": "b", "X": None, "Y": 0.5}))
        self.assertEqual(report["faults"], {})
        self.assertEqual(report["readers"], {"old": 2, "new": 2, "generic": 2})
        self.assertEqual(report["read_by_apache_avro"], 2)

    def test_a_wider_type_is_not_read_by_the_old_reader(self):
        registry = Registry(schema(("X", "int")), schema(("X", "double")))
        report = judged(registry, (1, {"Id": "a", "X": 1}), (2, {"Id": "b", "X": 0.5}))
        self.assertEqual(report["faults"], {"old_fails": 1})
        self.assertEqual(report["readers"]["old"], 1)

    def test_places_that_move_are_told(self):
        registry = Registry(schema(("X", "int"), ("Y", "int")), schema(("Y", "int"), ("X", "int")))
        self.assertEqual(judged(registry)["faults"], {"places_moved": 1})

    def test_what_the_registry_refuses_is_told(self):
        registry = Registry(schema(), schema(("X", "int")), refused=(1,))
        self.assertEqual(judged(registry)["faults"], {"registry_finds_it_incompatible": 1})

    def test_a_record_that_nobody_can_read_is_told(self):
        registry = Registry(schema(("X", "int")))
        judge = Judge(types.SimpleNamespace(name=TOPIC, registry=registry.client), registry)
        data = b"\0" + registry.ids[0].to_bytes(4, "big") + b"\x08a"
        judge.take(types.SimpleNamespace(value=lambda: data, partition=lambda: 0, offset=lambda: 0))
        self.assertEqual(judge.report()["faults"], {"generic_fails": 1})


if __name__ == "__main__":
    unittest.main()
