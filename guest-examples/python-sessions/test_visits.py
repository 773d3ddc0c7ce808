"""The rule without a component: `python -m unittest`."""

import unittest

from visits import kind, step, summary

MINUTE = 60_000
GAP = 30 * MINUTE


class Visits(unittest.TestCase):
    def test_a_pause_longer_than_the_gap_ends_a_visit(self):
        ended, visit = step(None, 0, "logged in", GAP)
        self.assertIsNone(ended)
        ended, visit = step(visit, 30 * MINUTE, "opened messages", GAP)
        self.assertIsNone(ended)
        ended, visit = step(visit, 61 * MINUTE, "logged in", GAP)
        told = {"user": "ann", "start": 0, "minutes": 30.0, "events": 2, "kind": "browsed"}
        self.assertEqual(summary("ann", ended), told)
        self.assertEqual(visit["events"], {"logged in": 1})

    def test_an_event_out_of_order_joins_and_one_that_is_late_does_not(self):
        _, visit = step(None, 40 * MINUTE, "b", GAP)
        _, visit = step(visit, 20 * MINUTE, "a", GAP)
        self.assertEqual((visit["start"], visit["end"]), (20 * MINUTE, 40 * MINUTE))
        self.assertEqual(step(visit, -11 * MINUTE, "late", GAP), (None, None))

    def test_kinds(self):
        self.assertEqual(kind({"viewed": 1}), "bounced")
        self.assertEqual(kind({"viewed": 3}), "browsed")
        self.assertEqual(kind({"viewed": 3, "added to cart": 1}), "abandoned")
        self.assertEqual(kind({"paid": 1, "added to cart": 1}), "bought")


if __name__ == "__main__":
    unittest.main()
