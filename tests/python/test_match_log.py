"""The match with the org's log: each rule of match_log.py is broken once, and it must say so."""

import datetime
import unittest

from match_log import LogMatch

MINUTE = datetime.datetime(2026, 5, 19, 8, 30, tzinfo=datetime.timezone.utc)


def at(second):
    return MINUTE + datetime.timedelta(seconds=second)


def entry(number, kind="update", second=0, key="a", **fields):
    return {
        "transactionKey": f"t{number}",
        "commit": number,
        "stamp": at(second).isoformat(),
        "visibleAt": at(second).isoformat(),
        "object": "Account",
        "id": key,
        "kind": kind,
        "fields": fields,
    }


def event(number, operation="U", sequence=None, key="a", whole_at=None):
    header = {
        "header__column_mask": None if whole_at is not None else "04",
        "SystemModstamp": at(whole_at or 0),
        "header__timestamp": at(whole_at or 0),
        "header__change_oper": operation,
        "header__source": "subscribe",
        "header__transaction_id": f"t{number}",
        "header__change_seq": f"{sequence or number:035}",
    }
    return key, header


def reading(operation, second, source="refetch", key="a"):
    header = {"header__change_oper": operation, "header__source": source}
    header["header__change_seq"] = at(second).strftime("%Y%m%d%H%M%S") + "00".ljust(21, "0")
    header["header__timestamp"] = header["SystemModstamp"] = at(second)
    return key, header


def matched(log, *records, gaps=(), under=None):
    match = LogMatch(gaps, under)
    for record in records:
        match.take(*record)
    return match.compare("Account", log)


class Rules(unittest.TestCase):
    def test_every_change_is_an_event_or_repaired(self):
        log = [entry(1, "insert", 1), entry(2, "update", 2, Name="x"), entry(3, "delete", 3)]
        report = matched(log, event(1, "I"), reading("U", 2), event(3, "D"))
        self.assertEqual((report["as_event"], report["repaired"], report["faults"]), (2, 1, {}))

    def test_a_change_that_is_nowhere_is_told(self):
        log = [entry(1, "insert", 1), entry(2, "update", 2, Name="x")]
        self.assertEqual(matched(log, event(1, "I"))["faults"], {"change_missing": 1})
        self.assertEqual(matched(log, event(1, "I"), reading("U", 1))["faults"], {"change_missing": 1})

    def test_a_change_in_a_gap_that_was_told_may_be_in_a_younger_whole_record(self):
        log = [entry(1, "insert", 1), entry(2, "update", 2, Name="x")]
        gap = [(at(0).isoformat(), at(1).isoformat())]
        self.assertEqual(matched(log, event(2, whole_at=2), gaps=gap)["faults"], {})
        self.assertEqual(matched(log, event(2, whole_at=2), reading("R", 3, "load", key="b"))["faults"], {})
        for records, gaps in ((event(2, whole_at=2), []), (event(2), gap)):
            self.assertEqual(matched(log, records, gaps=gaps)["faults"], {"change_missing": 1})

    def test_a_record_that_came_and_went_in_a_gap_need_not_be_there(self):
        log = [entry(1, "insert", 1), entry(2, "delete", 2)]
        gap = [(at(0).isoformat(), at(3).isoformat())]
        self.assertEqual(matched(log, gaps=gap)["faults"], {})
        self.assertEqual(matched(log)["faults"], {"change_missing": 1})
        self.assertEqual(matched(log[:1], gaps=gap)["faults"], {"change_missing": 1})

    def test_a_hard_deletion_is_found_by_another_reading(self):
        log = [entry(1, "purge", 1)]
        loaded = reading("R", 0, "load")
        self.assertEqual(matched(log, loaded)["faults"], {"change_missing": 1})
        self.assertEqual(matched(log, loaded, reading("D", 1, "poll"))["faults"], {})
        self.assertEqual(matched(log)["faults"], {}, "what never was there need not go")

    def test_what_came_and_went_in_one_transaction_need_not_be_there(self):
        log = [entry(1, "insert", 1), entry(1, "delete", 1)]
        self.assertEqual(matched(log)["faults"], {})

    def test_a_save_that_moved_nothing_need_not_be_there(self):
        log = [entry(1, "update", 1, Name="x"), entry(2, "update", 1, Name="x"), entry(3, "update", 1, Name="y")]
        self.assertEqual(matched(log, event(1), event(3))["faults"], {})
        self.assertEqual(matched(log, event(1))["faults"], {"change_missing": 1})

    def test_a_change_that_is_there_twice_is_told(self):
        report = matched([entry(1, Name="x")], event(1), event(1, sequence=2))
        self.assertEqual(report["faults"], {"change_more_than_once": 1})

    def test_an_event_of_no_change_and_one_of_another_kind_are_told(self):
        report = matched([entry(1, Name="x")], event(1, "I"), event(7))
        self.assertEqual(report["faults"], {"change_of_another_kind": 1, "event_of_no_change": 1})

    def test_under_conditions_only_what_fitted_all_along_is_held_to_the_log(self):
        small, large = {"Kind": "small"}, {"Kind": "large"}
        log = [entry(1, "insert", 1, "a", **small), entry(2, "insert", 1, "b", **large), entry(3, second=5, key="a", Name="x")]
        log += [entry(4, second=5, key="b", Name="x"), entry(5, second=6, key="c", Name="x")]
        log += [entry(6, "insert", 6, "d", **small), entry(7, second=20, key="b", Name="y")]
        under = at(4).isoformat(), at(9).isoformat(), "Kind", "small"
        events = [event(1, "I"), event(2, "I", key="b"), event(3), event(6, "I", key="d"), event(7, key="b")]
        report = matched(log, *events, under=under)
        self.assertEqual((report["faults"], report["fitted"], report["strayed"]), ({}, 2, 2))
        for left_out in (2, 3, 4):
            some = events[:left_out] + events[left_out + 1 :]
            self.assertEqual(matched(log, *some, under=under)["faults"], {"change_missing": 1}, left_out)
        self.assertEqual(matched(log, *events)["faults"], {"change_missing": 2})
        twice = matched(log, *events, event(4, "D", key="b", sequence=5), event(4, "D", key="b", sequence=6), under=under)
        self.assertEqual(twice["faults"], {"change_more_than_once": 1})

    def test_who_leaves_and_comes_back_under_conditions_is_not_held_to_the_log(self):
        log = [entry(1, "insert", 1, Kind="small"), entry(2, second=5, Kind="large"), entry(3, second=6, Kind="small")]
        events = event(1, "I"), event(3, "I")
        self.assertEqual(matched(log, *events, under=(at(4).isoformat(), at(9).isoformat(), "Kind", "small"))["faults"], {})

    def test_numbers_against_the_order_of_commits_are_told(self):
        log = [entry(1, Name="x"), entry(2, key="b", Name="y")]
        report = matched(log, event(1, sequence=2), event(2, sequence=1, key="b"))
        self.assertEqual(report["faults"], {"change_seq_against_commits": 1})


if __name__ == "__main__":
    unittest.main()
