"""Reads a topic as any consumer would and judges it. Knows nothing of sf2kafka's code.

In: broker, registry, topic; optionally the simulator's truth (rows as NDJSON over HTTP). Out: one JSON object on
stdout; exit code 0 if every rule holds, 3 if one does not, 1 if the topic cannot be read to its end.

It reads read_committed to the end, decodes every key and value with the writer's schema from the registry, and
holds each record to the rules of the change-table envelope:
- header__change_seq rises strictly within a partition and never comes twice (a before image shares its update's);
- no record comes twice, by id and header__change_seq, and no change event, by transaction, place in it and id;
- the SystemModstamp of an id never falls;
- an id stays in one partition.
Folded by id (the latest record wins, a delete removes), the topic must equal the truth in every field, as far as a
configuration lets it show (`configured.py`). With the org's log of changes (`match_log.py`) every change of it must be there once, or have been repaired.

Memory grows with the number of records (640 MB for a million), not with their width: rows are compared by
digest, and only those that differ are read a second time to tell the fields.
"""

import argparse
import collections
import datetime
import decimal
import hashlib
import json
import re
import resource
import sys
import time
import urllib.request
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from configured import Configured, add_options
from match_log import LogMatch, entries

HEADER = "header__"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
EPOCH_DAY = EPOCH.date()
MILLISECOND = datetime.timedelta(milliseconds=1)
EXAMPLES = 20
SILENCE_SECONDS = 60


class Unreadable(Exception):
    """The topic cannot be judged."""


class Topic:
    """Every committed record of a topic, decoded, partition by partition in the order of offsets."""

    def __init__(self, bootstrap, registry, name):
        self.name = name
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"verify-{uuid.uuid4()}",
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "check.crcs": True,
                "queued.max.messages.kbytes": 65536,
                "fetch.message.max.bytes": 4 << 20,
            }
        )
        self.registry = SchemaRegistryClient({"url": registry})
        decode = AvroDeserializer(self.registry)
        key_context = SerializationContext(name, MessageField.KEY)
        value_context = SerializationContext(name, MessageField.VALUE)
        self.decode_key = lambda data: decode(data, key_context)
        self.decode_value = lambda data: decode(data, value_context)
        self.schema_ids = {"key": collections.Counter(), "value": collections.Counter()}

    def partitions(self):
        topics = self.consumer.list_topics(self.name, timeout=30).topics
        found = topics[self.name]
        if found.error is not None:
            raise Unreadable(f"topic {self.name}: {found.error}")
        return sorted(found.partitions)

    def messages(self):
        """Undecoded messages up to the last stable offset of every partition."""
        open_partitions = set(self.partitions())
        self.consumer.assign([TopicPartition(self.name, partition, 0) for partition in open_partitions])
        heard = time.monotonic()
        while open_partitions:
            # It waits out the time unless the batch is full, so both are small.
            batch = self.consumer.consume(1000, timeout=0.1)
            if batch:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                raise Unreadable(f"topic {self.name}: nothing came for {SILENCE_SECONDS} s")
            for message in batch:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
                else:
                    raise KafkaException(error)
        self.consumer.unassign()

    def records(self):
        """(partition, offset, key, value) with key and value decoded; the value of a tombstone is None."""
        for message in self.messages():
            key, value = message.key(), message.value()
            try:
                yield message.partition(), message.offset(), self.decoded_key(key), self.decoded(value)
            except Exception as error:
                place = f"partition {message.partition()}, offset {message.offset()}"
                raise Unreadable(f"topic {self.name}, {place}: cannot be decoded: {error}") from error

    def decoded_key(self, data):
        if data is None:
            raise ValueError("it has no key")
        if data[:1] != b"\0":  # key: string
            return data.decode("utf-8")
        self.schema_ids["key"][int.from_bytes(data[1:5], "big")] += 1
        return self.decode_key(data)["Id"]

    def decoded(self, data):
        if data is None:
            return None
        self.schema_ids["value"][int.from_bytes(data[1:5], "big")] += 1
        return self.decode_value(data)

    def newest_fields(self):
        """Name to logical or plain type, without null, of the newest value schema that the topic holds."""
        newest = max(self.schema_ids["value"], default=None)
        if newest is None:
            return {}
        schema = json.loads(self.registry.get_schema(newest).schema_str)
        return {f["name"]: kind_of(f) for f in schema["fields"] if not f["name"].startswith(HEADER)}


def kind_of(field):
    """Logical or plain type of a field, or `anyType`, whose values are text of whatever kind."""
    return "anyType" if field.get("salesforce.type") == "anyType" else plain_type(field["type"])


def plain_type(avro):
    if isinstance(avro, list):
        return plain_type(next(branch for branch in avro if branch != "null"))
    if isinstance(avro, dict):
        return avro.get("logicalType", avro["type"])
    # The name of a type that was defined further up: of all, only records have names here.
    return "record" if "." in avro else avro


def canonical(value):
    """A decoded Avro value as plain JSON: times as numbers since the epoch or midnight."""
    kind = type(value)
    if kind is datetime.datetime:
        return (value - EPOCH) // MILLISECOND
    if kind is datetime.date:
        return (value - EPOCH_DAY).days
    if kind is datetime.time:
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 1000 + value.microsecond // 1000
    if kind is float:
        return value + 0.0  # no negative zero
    if kind is decimal.Decimal:
        return plain_decimal(value)
    if kind is dict:
        # Parts that are null count as ones that are not there: an org without country codes has fewer.
        parts = {name: part if isinstance(part, str) else float(part) + 0.0 for name, part in value.items() if part is not None}
        return dict(sorted(parts.items()))
    if kind is bytes:
        return value.hex()
    return value


def plain_decimal(value):
    """The digits of a decimal, without the zeros behind it."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").removesuffix(".")
    return "0" if text == "-0" else text


def canonical_truth(value, kind):
    """The same for a value as Salesforce's REST API writes it, read as the Avro type says."""
    if value is None or value == "":
        return None
    if kind == "timestamp-millis":
        return (datetime.datetime.fromisoformat(value) - EPOCH) // MILLISECOND
    if kind == "date":
        return (datetime.date.fromisoformat(value) - EPOCH_DAY).days
    if kind == "time-millis":
        return canonical(datetime.time.fromisoformat(value.removesuffix("Z")))
    if kind == "double":
        return float(value) + 0.0
    if kind == "decimal":
        return plain_decimal(decimal.Decimal(str(value)))
    if kind in ("int", "long"):
        return int(value)
    if kind == "boolean":
        return value if isinstance(value, bool) else value == "true"
    if kind == "record":
        return canonical(value)
    if kind == "anyType" and isinstance(value, str):
        # A moment is spelled as Bulk does it, whichever door it came through.
        moment = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})\+0000", value)
        return f"{moment[1]}Z" if moment else value
    if kind in ("string", "anyType") and not isinstance(value, str):
        # A structure in a json field: the text that came over the wire.
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return value


def digest(row):
    """16 bytes that are equal exactly if the rows are. A field that is null counts as one that is not there,
    so that rows written with an older and a newer schema can be equal."""
    text = repr([(name, canonical(cell)) for name, cell in row.items() if cell is not None])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def row_of(value, left_out=frozenset()):
    """The row in a record: of a change table the columns behind the header, else all; less those left out."""
    return {name: cell for name, cell in value.items() if not name.startswith(HEADER) and name not in left_out}


class Judge:
    """Takes every record once, in the order of each partition."""

    def __init__(self, contents=True, left_out=frozenset()):
        self.contents = contents
        self.left_out = left_out
        self.records = self.tombstones = 0
        self.operations = collections.Counter()
        self.sources = collections.Counter()
        self.faults = collections.Counter()
        self.repeats = collections.Counter()
        self.examples = []
        # Id to two bytes for the partition and, unless the row was deleted, the operation and the digest.
        self.held = {}
        # Hash of a change_seq to a small number made of its id: enough to tell one record twice from two records.
        self.seen_sequences = {}
        self.last_sequence = {}
        # Hashes of (transaction, place, id), and by id the youngest stamp.
        self.seen_events = set()
        self.stamps = {}
        self.before_images = {}

    def fault(self, kind, partition, offset, identity):
        self.faults[kind] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"fault": kind, "partition": partition, "offset": offset, "id": identity})

    def take(self, partition, offset, key, value):
        self.records += 1
        home = partition.to_bytes(2, "big")
        held = self.held.get(key, home)
        if held[:2] != home:
            self.fault("id_in_two_partitions", partition, offset, key)
        if value is None:
            self.tombstones += 1
            self.held[key] = home
            return
        if value.get("Id") != key:
            self.fault("key_is_not_the_id", partition, offset, key)
        operation = value.get("header__change_oper", "")
        if operation:
            self.take_header(partition, offset, key, value, operation)
        if operation == "B":
            self.held.setdefault(key, home)
        elif operation == "D":
            self.held[key] = home
        else:
            now = digest(row_of(value, self.left_out)) if self.contents else b"?"
            if self.contents and held[3:] == now:
                self.repeats[f"{held[2:3].decode()}>{operation}"] += 1
            self.held[key] = home + operation.encode().ljust(1) + now

    def take_header(self, partition, offset, key, value, operation):
        self.operations[operation] += 1
        self.sources[value["header__source"]] += 1
        sequence = value["header__change_seq"]
        if len(sequence) != 35 or not sequence.isdigit():
            self.fault("change_seq_is_not_35_digits", partition, offset, key)
        if operation == "B":
            self.before_images[partition] = sequence
            return
        before_image = self.before_images.pop(partition, None)
        if before_image is not None and before_image != sequence:
            self.fault("before_image_without_its_change", partition, offset, key)
        if self.last_sequence.get(partition, "") >= sequence:
            self.fault("change_seq_does_not_rise", partition, offset, key)
        self.last_sequence[partition] = sequence
        if value.get("header__transaction_id") is not None:
            event = hash((value["header__transaction_id"], value["header__transaction_event_counter"], key))
            if event in self.seen_events:
                self.fault("event_twice", partition, offset, key)
            self.seen_events.add(event)
        stamp = value.get("SystemModstamp")
        if stamp is not None and self.contents:
            if self.stamps.get(key, stamp) > stamp:
                self.fault("stamp_steps_back", partition, offset, key)
            self.stamps[key] = stamp
        number, whose = hash(sequence), hash(key) & 0xFF
        before = self.seen_sequences.get(number)
        if before is None:
            self.seen_sequences[number] = whose
        else:
            self.fault("record_twice" if before == whose else "change_seq_twice", partition, offset, key)

    def report(self):
        return {
            "records": self.records,
            "distinct_ids": len(self.held),
            "folded_rows": sum(1 for held in self.held.values() if len(held) > 2),
            "tombstones": self.tombstones,
            "operations": dict(self.operations),
            "sources": dict(self.sources),
            # The same content once more: by rule nothing wrong, for a test of "captured once" a number to look at.
            "repeats": dict(self.repeats),
            "faults": dict(self.faults),
            "fault_examples": self.examples,
        }


def truth_rows(url):
    with urllib.request.urlopen(url, timeout=SILENCE_SECONDS) as response:
        for line in response:
            if line.strip():
                yield json.loads(line)


def truth_of(given, source, kind, url):
    """A field of a row of the truth; of one that is published as bytes, what its path leads to."""
    value = given.get(source)
    if kind != "bytes" or value is None:
        return canonical_truth(value, kind)
    control, place = url.rsplit("/truth/", 1)[0], value.split("/sobjects/", 1)[1]
    with urllib.request.urlopen(f"{control}/blob/{place}", timeout=SILENCE_SECONDS) as response:
        return response.read().hex()


def compare(topic, judge, url, sources, configured):
    """Folded topic against truth, by digest; then the rows that differ once more, field by field. `sources`: the org's
    names of fields that are called something else in the topic."""

    def cell(given, name, kind):
        source = sources.get(name, name)
        if configured.hides(name):
            return configured.shown(name, given.get(source))
        return truth_of(given, source, kind, url)

    kinds = {name: kind for name, kind in topic.newest_fields().items() if name not in judge.left_out}
    known = {sources.get(name, name) for name in kinds}
    remaining = {key: held[3:] for key, held in judge.held.items() if len(held) > 2}
    different, missing, truth_only_fields, rows = {}, [], set(), 0
    for given in filter(configured.fits, truth_rows(url)):
        rows += 1
        truth_only_fields.update(
            name
            for name, cell in given.items()
            if name not in known and cell is not None and not isinstance(cell, (dict, list))
        )
        row = {name: cell(given, name, kind) for name, kind in kinds.items()}
        held = remaining.pop(row["Id"], None)
        if held is None:
            missing.append(row["Id"])
            continue
        if held != digest(row):
            different[row["Id"]] = row
            if len(different) > EXAMPLES * 50:
                raise Unreadable(f"more than {EXAMPLES * 50} rows differ from the truth at {url}")
    examples = []
    if different:
        latest = {}
        for _, _, key, value in topic.records():
            if key in different and value is not None and value.get("header__change_oper") != "B":
                latest[key] = value
        for key, row in list(different.items())[:EXAMPLES]:
            fields = {
                name: {"topic": canonical(latest[key].get(name)), "truth": cell}
                for name, cell in row.items()
                if canonical(latest[key].get(name)) != cell
            }
            examples.append({"id": key, "fields": fields})
    return {
        "rows": rows,
        "missing_in_topic": len(missing),
        "missing_examples": missing[:EXAMPLES],
        "not_in_truth": len(remaining),
        "not_in_truth_examples": list(remaining)[:EXAMPLES],
        "different": len(different),
        "different_examples": examples,
        "fields_compared": len(kinds),
        "fields_only_in_truth": sorted(truth_only_fields - {"attributes"}),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True, help="broker, host:port")
    parser.add_argument("--registry", required=True, help="base URL of the schema registry")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--truth", help="URL of the rows that the folded topic must equal, as NDJSON")
    parser.add_argument("--log", help="URL of the org's log of changes, which the topic's events must match")
    parser.add_argument("--object", help="whose changes are in the topic; with --log")
    parser.add_argument(
        "--gap", nargs=2, action="append", default=[], metavar=("FROM", "TO"),
        help="a stretch that was told of as repaired; with --log",
    )
    parser.add_argument(
        "--under", nargs=4, metavar=("FROM", "TO", "FIELD", "VALUE"),
        help="a stretch under conditions that all let the value pass; with --log",
    )
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="FIELD",
        help="of the topic, which the org does not have any more; with --truth",
    )
    parser.add_argument(
        "--source", nargs=2, action="append", default=[], metavar=("FIELD", "OF"),
        help="a field of the topic and the org's name of it, `-` if it must be null; with --truth",
    )
    add_options(parser)
    parser.add_argument("--ids-only", action="store_true", help="count records by id, hold no contents")
    parser.add_argument("--progress", action="store_true", help="tell the number of records on stderr")
    given = parser.parse_args()
    if given.ids_only and given.truth:
        parser.error("--truth needs the contents")
    if (given.log is None) != (given.object is None):
        parser.error("--log and --object go together")

    begun = time.monotonic()
    try:
        topic = Topic(given.bootstrap, given.registry, given.topic)
        judge = Judge(contents=not given.ids_only, left_out=frozenset(given.leave_out))
        configured = Configured(given)
        log_match = LogMatch(given.gap, given.under) if given.log else None
        for record in topic.records():
            judge.take(*record)
            for kind in configured.faults(record[0], record[1], record[3]):
                judge.fault(kind, *record[:3])
            if log_match:
                log_match.take(*record[2:])
            if given.progress and judge.records % 100_000 == 0:
                print(f"{judge.records} records, {time.monotonic() - begun:.0f} s", file=sys.stderr)
        report = {"topic": given.topic, **judge.report()}
        report["schema_ids"] = {kind: sorted(ids) for kind, ids in topic.schema_ids.items()}
        holds = not judge.faults
        if given.truth:
            report["truth"] = compare(topic, judge, given.truth, dict(given.source), configured)
            holds = holds and not any(
                report["truth"][rule] for rule in ("missing_in_topic", "not_in_truth", "different")
            )
        report["looked_at"] = configured.looked_at
        if log_match:
            report["log"] = log_match.compare(given.object, entries(given.log))
            holds = holds and not log_match.faults
    except (Unreadable, KafkaException, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report["holds"] = holds
    report["seconds"] = round(time.monotonic() - begun, 1)
    report["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    json.dump(report, sys.stdout, indent=1, ensure_ascii=False)
    print()
    return 0 if holds else 3


if __name__ == "__main__":
    sys.exit(main())
