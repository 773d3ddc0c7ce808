"""Visits from clicks, with the rule of what a visit is in the hands of the people who read the numbers."""

import tidemill
from visits import step, summary


def process(batch) -> None:
    out = tidemill.Output(tidemill.config("output", "visits"))
    gap_ms = int(tidemill.config("gap-ms", "1800000"))
    records = list(tidemill.records(batch))
    visits = tidemill.State("open", (record.key for record in records if record.key is not None))
    for record in records:
        if record.key is None:
            record.dead_letter("no-key", "the record has no key")
            continue
        user, visit = record.key.decode("utf-8", "replace"), visits.get(record.key)
        if record.value is None:  # A tombstone ends the visit at once.
            ended, visit = visit, None
        else:
            click = record.json()
            event = str(click.get("event", "?")) if isinstance(click, dict) else "?"
            ended, visit = step(visit, record.timestamp, event, gap_ms)
            if visit is None:
                record.dead_letter("late", "its visit has ended already")
                continue
        if ended is not None:
            out.push_json(record.key, summary(user, ended), ended["end"])
        visits.set(record.key, visit)
    visits.save()
    tidemill.count("visits", len(out))
    out.send()


Handler = tidemill.handler(process)
