"""The judge judged: each rule that verify_topic.py holds is broken once, and it must say so.

Run by `cargo xtask test`; needs no broker.
"""

import datetime
import decimal
import unittest

from verify_topic import Judge, canonical, canonical_truth, digest, kind_of, plain_type


def change(identity, number, operation="U", **fields):
    return {
        "header__change_oper": operation,
        "header__source": "poll",
        "header__change_seq": f"{2026112412000000}{number:019d}",
        "Id": identity,
        **fields,
    }


def judged(*records):
    judge = Judge()
    for offset, (partition, value) in enumerate(records):
        judge.take(partition, offset, value["Id"], value)
    return judge.report()


class Rules(unittest.TestCase):
    def test_a_clean_topic_has_no_faults(self):
        report = judged(
            (0, change("a", 1, "R", Name="x")),
            (1, change("b", 2, "R", Name="y")),
            (0, change("a", 3, "U", Name="z")),
            (1, change("b", 4, "D")),
        )
        self.assertEqual(report["faults"], {})
        self.assertEqual(report["operations"], {"R": 2, "U": 1, "D": 1})
        self.assertEqual((report["records"], report["distinct_ids"], report["folded_rows"]), (4, 2, 1))

    def test_a_record_that_comes_twice_is_told(self):
        faults = judged((0, change("a", 1)), (0, change("a", 1)))["faults"]
        self.assertEqual(faults, {"change_seq_does_not_rise": 1, "record_twice": 1})

    def test_one_sequence_for_two_ids_is_told(self):
        faults = judged((0, change("a", 1)), (1, change("b", 1)))["faults"]
        self.assertEqual(faults, {"change_seq_twice": 1})

    def test_a_sequence_that_falls_is_told(self):
        faults = judged((0, change("a", 2)), (0, change("a", 1)))["faults"]
        self.assertEqual(faults, {"change_seq_does_not_rise": 1})

    def test_an_id_in_two_partitions_is_told(self):
        faults = judged((0, change("a", 1)), (1, change("a", 2)))["faults"]
        self.assertEqual(faults, {"id_in_two_partitions": 1})

    def test_a_change_event_that_comes_twice_is_told(self):
        event = {"header__transaction_id": "t", "header__transaction_event_counter": 1}
        faults = judged((0, {**change("a", 1), **event}), (0, {**change("b", 2), **event}), (0, {**change("a", 3), **event}))
        self.assertEqual(faults["faults"], {"event_twice": 1})

    def test_a_stamp_that_falls_is_told(self):
        stamps = [datetime.datetime(2026, 5, 19, 8, minute, tzinfo=datetime.timezone.utc) for minute in (31, 30)]
        older = [(0, change("a", number, SystemModstamp=stamp)) for number, stamp in enumerate(stamps, 1)]
        self.assertEqual(judged(*older)["faults"], {"stamp_steps_back": 1})

    def test_a_sequence_of_another_form_is_told(self):
        odd = {**change("a", 1), "header__change_seq": "17"}
        self.assertEqual(judged((0, odd))["faults"], {"change_seq_is_not_35_digits": 1})

    def test_a_before_image_shares_the_sequence_of_its_change(self):
        fine = judged((0, change("a", 1, "B", Name="old")), (0, change("a", 1, "U", Name="new")))
        self.assertEqual(fine["faults"], {})
        self.assertEqual(fine["folded_rows"], 1)
        wrong = judged((0, change("a", 1, "B")), (0, change("a", 2, "U")))
        self.assertEqual(wrong["faults"], {"before_image_without_its_change": 1})

    def test_a_key_of_another_record_is_told(self):
        judge = Judge()
        judge.take(0, 0, "b", change("a", 1))
        self.assertEqual(judge.report()["faults"], {"key_is_not_the_id": 1})

    def test_the_same_content_again_is_counted_by_how_it_came(self):
        report = judged(
            (0, change("a", 1, "R", Name="x")),
            (0, change("a", 2, "U", Name="x")),
            (0, change("a", 3, "U", Name="y")),
        )
        self.assertEqual(report["repeats"], {"R>U": 1})

    def test_a_deleted_row_can_come_back(self):
        report = judged((0, change("a", 1, "I")), (0, change("a", 2, "D")), (0, change("a", 3, "I")))
        self.assertEqual((report["folded_rows"], report["repeats"]), (1, {}))

    def test_a_tombstone_removes_the_row(self):
        judge = Judge()
        judge.take(0, 0, "a", {"Id": "a", "Name": "x"})
        judge.take(0, 1, "a", None)
        report = judge.report()
        self.assertEqual((report["folded_rows"], report["distinct_ids"], report["tombstones"]), (0, 1, 1))


class Values(unittest.TestCase):
    def test_what_rest_writes_equals_what_avro_carries(self):
        utc = datetime.timezone.utc
        pairs = [
            ("timestamp-millis", "2026-11-24T12:00:00.123+0000", datetime.datetime(2026, 11, 24, 12, 0, 0, 123000, utc)),
            ("date", "1969-12-31", datetime.date(1969, 12, 31)),
            ("time-millis", "23:59:59.999Z", datetime.time(23, 59, 59, 999000)),
            ("double", 7, 7.0),
            ("int", 7, 7),
            ("boolean", False, False),
            ("string", "ä\n\"", "ä\n\""),
            ("string", None, None),
            ("string", [1, "zwölf", None], '[1,"zwölf",null]'),
        ]
        for kind, written, carried in pairs:
            self.assertEqual(canonical_truth(written, kind), canonical(carried), kind)

    def test_a_digest_tells_rows_apart_and_overlooks_only_null(self):
        self.assertNotEqual(digest({"a": 1}), digest({"b": 1}))
        self.assertNotEqual(digest({"a": "1"}), digest({"a": 1}))
        self.assertNotEqual(digest({"a": "x', 'y"}), digest({"a": "x", "b": "y"}))
        self.assertEqual(digest({"a": 1, "b": None}), digest({"a": 1}))

    def test_the_type_behind_null_is_found(self):
        self.assertEqual(plain_type(["null", {"type": "long", "logicalType": "timestamp-millis"}]), "timestamp-millis")
        self.assertEqual(plain_type("string"), "string")
        address = ["null", {"type": "record", "name": "Address", "fields": []}]
        self.assertEqual([plain_type(address), plain_type(["null", "salesforce.crm.compound.Address"])], ["record"] * 2)

    def test_only_moments_of_unknown_type_are_spelled_otherwise(self):
        moment = "2026-05-19T08:30:00.000+0000"
        self.assertEqual(kind_of({"name": "A", "type": ["null", "string"], "salesforce.type": "anyType"}), "anyType")
        self.assertEqual(canonical_truth(moment, "anyType"), "2026-05-19T08:30:00.000Z")
        self.assertEqual(canonical_truth(moment, "string"), moment)
        self.assertEqual([canonical_truth(value, "anyType") for value in (True, 1.5, "1+0000")], ["true", "1.5", "1+0000"])

    def test_exact_numbers_and_records_of_parts_are_told_apart_by_value(self):
        for carried, written in (("950000000.00", 950000000.0), ("-0.00", -0.0), ("0.10", 0.1), ("1E+10", 1e10)):
            self.assertEqual(canonical(decimal.Decimal(carried)), canonical_truth(written, "decimal"), carried)
        self.assertNotEqual(canonical(decimal.Decimal("0.11")), canonical_truth(0.1, "decimal"))
        carried = {"street": "1 Main", "city": None, "latitude": 52.0, "stateCode": None}
        written = {"city": None, "latitude": 52, "street": "1 Main"}
        self.assertEqual(canonical(carried), canonical_truth(written, "record"))
        self.assertNotEqual(canonical(carried), canonical_truth({**written, "city": "Berlin"}, "record"))


if __name__ == "__main__":
    unittest.main()
