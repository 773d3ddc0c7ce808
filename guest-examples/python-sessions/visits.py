"""What a visit is. Knows nothing of Tidemill, so that `python -m unittest` needs no component."""

from typing import Optional, Tuple


def step(visit: Optional[dict], at: int, event: str, gap_ms: int) -> Tuple[Optional[dict], Optional[dict]]:
    """One event: the visit that it ends, if any, and the one that is open after it. Both are `None` if it comes too late."""
    if visit is not None:
        if at + gap_ms < visit["start"]:
            return None, None
        if at <= visit["end"] + gap_ms:
            visit["start"], visit["end"] = min(visit["start"], at), max(visit["end"], at)
            visit["events"][event] = visit["events"].get(event, 0) + 1
            return None, visit
    return visit, {"start": at, "end": at, "events": {event: 1}}


def summary(user: str, visit: dict) -> dict:
    """What is told about a visit that has ended."""
    events = visit["events"]
    return {
        "user": user,
        "start": visit["start"],
        "minutes": round((visit["end"] - visit["start"]) / 60_000, 1),
        "events": sum(events.values()),
        "kind": kind(events),
    }


def kind(events: dict) -> str:
    """The analysts' rule, which changes every other month."""
    if "paid" in events:
        return "bought"
    if "added to cart" in events:
        return "abandoned"
    return "bounced" if sum(events.values()) == 1 else "browsed"
