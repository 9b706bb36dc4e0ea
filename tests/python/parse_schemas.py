"""Schemas as two Avro libraries read them that nobody here wrote: fastavro and Apache Avro for Python.

In: JSON lines on stdin, `{"name", "schema"}` and, where there is one, `"hex"`: a value in Confluent's wire format; with
`"reader"`, another version of the schema, it is read by that one. Out: a JSON line each, `{"name", "fields", "value"}`, the value as both libraries read it alike. Exit code
1 and a line on stderr for the first that one of them refuses, or where they differ.
"""

import io
import json
import sys

import avro.io
import avro.schema
import fastavro

from verify_topic import canonical


def read(schema, reader, data):
    """The value behind the five bytes of the frame, by both libraries; every byte must be used."""
    frame = bytes.fromhex(data)[5:]
    stream = io.BytesIO(frame)
    value = fastavro.schemaless_reader(stream, fastavro.parse_schema(schema), reader and fastavro.parse_schema(reader))
    if stream.tell() != len(frame):
        raise ValueError("bytes are left")
    stream = io.BytesIO(frame)
    writer, reader = (avro.schema.parse(json.dumps(known)) for known in (schema, reader or schema))
    other = avro.io.DatumReader(writer, reader).read(avro.io.BinaryDecoder(stream))
    if stream.tell() != len(frame):
        raise ValueError("bytes are left")
    shown, others = ({name: canonical(cell) for name, cell in row.items()} for row in (value, other))
    if shown != others:
        raise ValueError(f"two libraries read two values: {shown} and {others}")
    return shown


def main():
    for line in sys.stdin:
        given = json.loads(line)
        try:
            schema = json.loads(given["schema"])
            parsed = fastavro.parse_schema(schema)
            known = avro.schema.parse(given["schema"])
            if [field["name"] for field in parsed["fields"]] != [field.name for field in known.fields]:
                raise ValueError("two libraries see other fields")
            reader = json.loads(given["reader"]) if "reader" in given else None
            value = read(json.loads(given["schema"]), reader, given["hex"]) if "hex" in given else None
        except Exception as error:
            print(f"error: {given['name']}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        print(json.dumps({"name": given["name"], "fields": len(parsed["fields"]), "value": value}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
