"""Holds a topic that is followed by subscription against the org's own log of changes.

In: records of the topic one by one, then the log (the simulator's `changes`, page by page, each entry with the key of its
transaction). Out: counts, and faults with examples. The rules:
- every change of the log is in the topic as exactly one event record, or was repaired: a record of another source shows
  its id at least as young; a record that never was in the topic and is gone need not be there;
- a change in a stretch that the program told of as a gap, or before the load, may also be in a younger event record that
  holds all of its id, or deletes it;
- in a stretch under conditions (`where`) that is so for the records that fitted them all along; which changes of others are
  in the topic depends on when it was asked what fits, and only what is left of them is judged, by the fold;
- event records are of changes in the log, of the same kind, and their header__change_seq goes by the order of commits.

A change is what a transaction did to a record, from the state before to the state behind it.
"""

import collections
import datetime
import json
import urllib.request

EXAMPLES = 20
PAGE = 10_000
SECONDS = 60
NEVER = 1 << 62


def milliseconds(moment):
    return round(moment.timestamp() * 1000)


def moment(text):
    return milliseconds(datetime.datetime.fromisoformat(text))


def reserved_at(change_seq):
    """The time part of a change_seq: YYYYMMDDHHmmSS and hundredths, UTC."""
    whole = datetime.datetime.strptime(change_seq[:14] + "+0000", "%Y%m%d%H%M%S%z")
    return milliseconds(whole) + 10 * int(change_seq[14:16])


def entries(url):
    """The log from its beginning, in the order in which its changes could be seen."""
    after = 0
    while True:
        with urllib.request.urlopen(f"{url}?after={after}&limit={PAGE}", timeout=SECONDS) as response:
            page = json.load(response)
        yield from page["changes"]
        after += len(page["changes"])
        if after >= page["count"] or not page["changes"]:
            return


class Change:
    """All that one transaction did to one record."""

    def __init__(self, entry):
        self.commit = entry["commit"]
        self.stamp = moment(entry["stamp"])
        self.visible_at = moment(entry["visibleAt"])
        self.kinds = []
        self.fields = {}

    def add(self, entry):
        self.kinds.append(entry["kind"])
        self.fields.update(entry["fields"])

    def operation(self):
        """The letter of its event; none if Salesforce makes none."""
        came = self.kinds[0] in ("insert", "undelete")
        went = self.kinds[-1] in ("delete", "purge")
        if went:
            # What is deleted hard leaves no event.
            return None if came or self.kinds[-1] == "purge" else "D"
        if came:
            return "I"
        return "U" if "update" in self.kinds else None

    def is_due(self, present):
        """Whether it must be in the topic in some way."""
        if self.kinds[-1] in ("delete", "purge"):
            return present and self.kinds[0] not in ("insert", "undelete")
        return self.operation() is not None


class LogMatch:
    def __init__(self, gaps=(), under=None):
        """`gaps`: [from, to] of each stretch that was told of, as texts. `under`: [from, to, field, value] of a stretch in
        which records with the value fitted."""
        self.gaps = [(moment(begin), moment(end)) for begin, end in gaps]
        self.under = under and (moment(under[0]), moment(under[1]), under[2], under[3])
        # When the first loaded row was read.
        self.loaded_at = NEVER
        # Id to the youngest moment that a whole event record shows of it.
        self.whole_to = {}
        # (transaction, id) to [(change_seq, operation)] of the records from events.
        self.events = collections.defaultdict(list)
        self.present = set()
        # Id to the youngest moment that another reading shows of it.
        self.read_to = {}
        self.faults = collections.Counter()
        self.examples = []

    def take(self, key, value):
        if value is None or value["header__change_oper"] == "B":
            return
        operation = value["header__change_oper"]
        if operation != "D":
            self.present.add(key)
        if value["header__source"] == "subscribe":
            event = value["header__transaction_id"], key
            self.events[event].append((value["header__change_seq"], operation))
            if operation == "D" or value["header__column_mask"] is None:
                shown = value["header__timestamp"] if operation == "D" else value["SystemModstamp"]
                self.whole_to[key] = max(self.whole_to.get(key, 0), milliseconds(shown))
            return
        if operation == "R":
            self.loaded_at = min(self.loaded_at, reserved_at(value["header__change_seq"]))
        stamp = value["header__timestamp"] if operation == "D" else value["SystemModstamp"]
        self.read_to[key] = max(self.read_to.get(key, 0), milliseconds(stamp))

    def fault(self, kind, identity, change):
        self.faults[kind] += 1
        if len(self.examples) < EXAMPLES:
            example = {"fault": kind, "change": identity}
            if change:
                example.update(kinds=change.kinds, stamp=change.stamp, visible_at=change.visible_at)
            self.examples.append(example)

    def is_under(self, change):
        return self.under is not None and self.under[0] <= change.visible_at <= self.under[1]

    def strays(self, changes):
        """Ids of records that had another value for a time of the stretch under conditions."""
        strays, values = set(), {}
        if self.under is None:
            return strays
        _, _, field, value = self.under
        for (_, key), change in changes.items():
            before = values.get(key)
            values[key] = change.fields.get(field, before)
            was_there = change.kinds[0] != "insert"
            if self.is_under(change) and (values[key] != value or (was_there and before != value)):
                strays.add(key)
        return strays

    def compare(self, object_name, log):
        changes, gone = {}, set()
        for entry in log:
            if entry["object"] == object_name:
                went = entry["kind"] in ("delete", "purge")
                (gone.add if went else gone.discard)(entry["id"])
                identity = entry["transactionKey"], entry["id"]
                changes.setdefault(identity, Change(entry)).add(entry)
        events = dict(self.events)
        strays = self.strays(changes)
        fitted = strayed = 0
        known, order = {}, []
        loaded_at = 0 if self.loaded_at == NEVER else self.loaded_at
        as_event = repaired = 0
        for identity, change in changes.items():
            key = identity[1]
            stamp, fields = known.get(key, (None, {}))
            # A save of what was there already, in the second of the save before, moves nothing.
            idle = stamp == change.stamp and set(change.kinds) == {"update"} and all(
                name not in fields or fields[name] == cell for name, cell in change.fields.items()
            )
            missed = change.visible_at < loaded_at or any(
                begin <= change.visible_at <= end for begin, end in self.gaps
            )
            known[key] = change.stamp, {**fields, **change.fields}
            found, wanted = events.pop(identity, []), change.operation()
            if len(found) > 1:
                self.fault("change_more_than_once", identity, change)
            if self.is_under(change):
                fitted += key not in strays
                strayed += key in strays
                if key in strays:
                    continue
            if found:
                as_event += 1
                order.append((found[0][0], change.commit))
                if found[0][1] != wanted:
                    self.fault("change_of_another_kind", identity, change)
            elif self.read_to.get(key, -1) >= change.stamp:
                repaired += 1
            elif missed and self.whole_to.get(key, -1) >= change.stamp:
                repaired += 1
            elif missed and key in gone - self.present:
                repaired += 1
            elif not idle and change.is_due(key in self.present):
                self.fault("change_missing", identity, change)
        for identity in events:
            self.fault("event_of_no_change", identity, None)
        order.sort()
        for (_, before), (sequence, commit) in zip(order, order[1:]):
            if commit < before:
                self.fault("change_seq_against_commits", sequence, None)
        return {
            "changes": len(changes),
            "as_event": as_event,
            "repaired": repaired,
            **({"fitted": fitted, "strayed": strayed} if self.under else {}),
            "faults": dict(self.faults),
            "fault_examples": self.examples,
        }
