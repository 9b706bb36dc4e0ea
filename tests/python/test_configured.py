"""The configuration in the judge's words: each rule of configured.py is broken once, and it must say so."""

import argparse
import hashlib
import hmac
import unittest

from configured import Configured, add_options, text_of


def configured(*options):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return Configured(parser.parse_args(options))


class Rules(unittest.TestCase):
    def test_without_options_everything_shows(self):
        plain = configured()
        self.assertTrue(plain.fits({"Kind": "any"}) and not plain.hides("Kind"))
        self.assertEqual(list(plain.faults(0, 0, {"Kind": "any"})), [])

    def test_only_records_with_these_values_fit(self):
        some = configured("--only", "Kind", "small", "large")
        self.assertEqual([some.fits({"Kind": kind}) for kind in ("small", "large", "huge", None)], [True, True, False, False])

    def test_what_is_hidden_is_expected_as_it_is_to_be_shown(self):
        hidden = configured("--mask", "Fax", "--hash", "Phone", "--hash-key", "k")
        self.assertEqual([hidden.shown("Fax", cell) for cell in ("1", "", None)], ["****", None, None])
        self.assertEqual(hidden.shown("Phone", 12.50), hmac.new(b"k", b"12.5", hashlib.sha256).hexdigest())
        self.assertIsNone(hidden.shown("Phone", None))

    def test_numbers_are_hashed_as_the_documentation_spells_them(self):
        cells = {"39000": 39000, "12000000000": 1.2e10, "12.5": 12.5, "0.00000001": 1e-8, "0": -0.0, "true": True, "a": "a"}
        self.assertEqual([text_of(cell) for cell in cells.values()], list(cells))

    def test_a_value_that_shows_is_told_from_its_offset_on(self):
        options = ["--mask", "Fax", "--hash", "Phone", "--null", "Site"]
        for field in ("Fax", "Phone", "Site"):
            options += ["--since", field, "0", "5"]
        rules = configured(*options, "--never", "clear-", "0", "5")
        clear = {"Fax": "clear-1", "Phone": "1", "Site": "x"}
        self.assertEqual(list(rules.faults(0, 4, clear)), [])
        told = ["masked_value_shows", "hashed_value_shows", "field_is_not_null", "text_shows"]
        self.assertEqual(list(rules.faults(0, 5, clear)), told)
        self.assertEqual(list(rules.faults(1, 0, clear)), told, "a partition that came later")
        self.assertEqual(list(rules.faults(0, 6, {"Fax": "****", "Phone": "a" * 64, "Site": None})), [])
        self.assertEqual(rules.looked_at, {"Fax": 3, "Phone": 3, "Site": 3, "clear-": 3})

    def test_a_stretch_without_its_rule_is_refused(self):
        with self.assertRaises(ValueError):
            configured("--since", "Fax", "0", "0")


if __name__ == "__main__":
    unittest.main()
