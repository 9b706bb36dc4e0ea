"""What a pipeline's configuration makes of the org: which records, which fields, what stands for a value that is hidden.

In: the options of verify_topic.py that say how the configuration is now, and from which offsets on. Out: the org's rows as the
folded topic must show them, and faults of records that show more. The hash is made by the documentation alone
(docs/configuration.md, "Hidden fields").
"""

import decimal
import hashlib
import hmac
import re

MASK = "****"
HASH = re.compile("[0-9a-f]{64}")


def add_options(parser):
    parser.add_argument("--only", nargs="+", metavar="FIELD VALUE", help="records with one of these values in the field; with --truth")
    parser.add_argument("--mask", action="append", default=[], metavar="FIELD", help="of the topic")
    parser.add_argument("--hash", action="append", default=[], metavar="FIELD", help="of the topic")
    parser.add_argument("--null", action="append", default=[], metavar="FIELD", help="of the topic; with --since")
    parser.add_argument("--hash-key", default="")
    parser.add_argument(
        "--since", nargs=3, action="append", default=[], metavar=("FIELD", "PARTITION", "OFFSET"),
        help="from there on records show of the field what --mask, --hash or --null say",
    )
    parser.add_argument(
        "--never", nargs=3, action="append", default=[], metavar=("TEXT", "PARTITION", "OFFSET"),
        help="from there on no record holds the text",
    )


def text_of(value):
    """A text, number or boolean as it is hashed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = format(decimal.Decimal(repr(value)), "f")
        text = text.rstrip("0").removesuffix(".") if "." in text else text
        return "0" if text == "-0" else text
    return str(value)


class Configured:
    def __init__(self, given):
        self.only = given.only
        self.masked, self.hashed, self.null = set(given.mask), set(given.hash), set(given.null)
        self.key = given.hash_key.encode()
        self.since, self.never = {}, {}
        for places, told in ((self.since, given.since), (self.never, given.never)):
            for what, partition, offset in told:
                places.setdefault(what, {})[int(partition)] = int(offset)
        hidden = self.masked | self.hashed | self.null
        if not hidden.issuperset(self.since):
            raise ValueError(f"--since without a rule for {sorted(set(self.since) - hidden)}")
        # By field or text: how many records were looked at.
        self.looked_at = {}

    def fits(self, row):
        return self.only is None or row.get(self.only[0]) in self.only[1:]

    def hides(self, name):
        return name in self.masked or name in self.hashed

    def shown(self, name, value):
        """What the topic shows of the org's value of a hidden field."""
        if value is None or value == "":
            return None
        if name in self.masked:
            return MASK
        return hmac.new(self.key, text_of(value).encode(), hashlib.sha256).hexdigest()

    def faults(self, partition, offset, value):
        """Kinds of faults of a record."""
        if value is None:
            return
        for name in self.after(self.since, partition, offset):
            cell = value.get(name)
            if cell is None:
                continue
            if name in self.masked and cell != MASK:
                yield "masked_value_shows"
            if name in self.hashed and not (isinstance(cell, str) and HASH.fullmatch(cell)):
                yield "hashed_value_shows"
            if name in self.null:
                yield "field_is_not_null"
        for text in self.after(self.never, partition, offset):
            if text in repr(value):
                yield "text_shows"

    def after(self, places, partition, offset):
        for what, begins in places.items():
            # A partition that was not there yet has only records from after.
            if offset >= begins.get(partition, 0):
                self.looked_at[what] = self.looked_at.get(what, 0) + 1
                yield what
