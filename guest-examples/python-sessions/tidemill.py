"""What a module in Python imports. Copy it beside your own code; it is all there is.

Records come and go as columns: a handful of lists for a whole batch, whatever the number of records, and state is read and written for
many keys in one call. The plain forms of the interface (`batch.get`, `producer.send`, `bucket.get`) cost a call or an object for each
record, and are several times as slow.
"""

import json
from typing import Callable, Iterator, Optional

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config as _config
from wit_world.imports import metrics as _metrics
from wit_world.imports import producer as _producer
from wit_world.imports import records as _records
from wit_world.imports import state as _state
from wit_world.imports.types import (
    Ack_All,
    Failure,
    PoisonRecord,
    ProcessError_Fatal,
    ProcessError_Poison,
    ProcessError_Retry,
    RetryRequest,
)

PAGE_BYTES = 4 << 20
"""Bytes copied into the module at once."""


class Fatal(Exception):
    """Stop the module and tell the operator."""


class Retry(Exception):
    """Deliver the same records again, after the manifest's backoff."""


class Poison(Exception):
    """This record can never succeed: it is given up, the others run again without it. Made by `Record.poison`."""

    def __init__(self, index: int, code: str, reason: str):
        super().__init__(reason)
        self.index, self.code, self.reason = index, code, reason


class Record:
    """One record of a batch. A null key or value is `None`; the timestamp is in milliseconds since 1970."""

    __slots__ = ("batch", "index", "offset", "timestamp", "key", "value")

    def __init__(self, batch, index: int, offset: int, timestamp: int, key: Optional[bytes], value: Optional[bytes]):
        self.batch, self.index, self.offset, self.timestamp, self.key, self.value = (
            batch,
            index,
            offset,
            timestamp,
            key,
            value,
        )

    def json(self):
        """The value as JSON, or poison."""
        try:
            return json.loads(self.value)
        except (TypeError, ValueError):
            raise self.poison("bad-json", "the value is not JSON") from None

    def poison(self, code: str, reason: str) -> Poison:
        """To be raised. `code` is short and stable, for counting; `reason` must not carry secrets."""
        return Poison(self.index, code, reason)

    def dead_letter(self, code: str, reason: str) -> None:
        """Gives up on this record and goes on: it goes to the dead-letter topic with the commit of the batch."""
        _granted("dead-letter", lambda: _producer.dead_letter(self.batch, self.index, Failure(code, reason)))


def records(batch) -> Iterator[Record]:
    """The records of a batch, in order."""
    count, first = batch.len(), 0
    while first < count:
        what = _records.Projection.KEYS | _records.Projection.VALUES
        page = batch.read(first, count - first, PAGE_BYTES, what)
        data, at = page.data, 0
        rows = zip(page.offsets, page.timestamps, page.key_lengths, page.value_lengths)
        for index, (offset, timestamp, key_length, value_length) in enumerate(rows, first):
            key = value = None
            if 0 <= key_length:
                key, at = data[at : at + key_length], at + key_length
            if 0 <= value_length:
                value, at = data[at : at + value_length], at + value_length
            yield Record(batch, index, offset, timestamp, key, value)
        first += len(page.offsets)


class Output:
    """Records for one topic. They leave with the commit of the batch, or not at all."""

    def __init__(self, topic: str):
        self.topic = topic
        self._key_lengths, self._value_lengths, self._timestamps, self._data = [], [], [], []

    def __len__(self) -> int:
        return len(self._key_lengths)

    def push(self, key: Optional[bytes], value: Optional[bytes], timestamp: int = -1) -> None:
        """Adds a record; the hash of its key chooses the partition. The value `None` is a tombstone."""
        for field, lengths in ((key, self._key_lengths), (value, self._value_lengths)):
            lengths.append(-1 if field is None else len(field))
            if field:
                self._data.append(field)
        self._timestamps.append(timestamp)

    def push_json(self, key: Optional[bytes], value, timestamp: int = -1) -> None:
        """Adds a record whose value is JSON."""
        self.push(key, json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), timestamp)

    def send(self) -> None:
        """Hands them to the host."""
        if not self._key_lengths:
            return
        columns = _producer.OutputColumns(
            self._key_lengths, self._value_lengths, self._timestamps, [], [], [], b"".join(self._data)
        )
        _granted(self.topic, lambda: _producer.send_columns(self.topic, columns))


class State:
    """Durable JSON values by key, of a bucket that the manifest declares: one read and two writes for a whole batch.

    Use it as a context manager, or call `save` yourself.
    """

    def __init__(self, bucket: str, keys):
        """Reads these keys."""
        self._name, keys = bucket, list(dict.fromkeys(keys))
        self._bucket = _granted(f"bucket {bucket}", lambda: _state.open(bucket))
        found = _granted(f"bucket {bucket}", lambda: self._bucket.get_many(keys)) if keys else []
        self._values = {key: json.loads(value) for key, value in zip(keys, found) if value is not None}
        self._changed = set()

    def get(self, key: bytes):
        """The value of a key that was read, or `None`."""
        return self._values.get(key)

    def set(self, key: bytes, value) -> None:
        """Sets a key; `None` deletes it."""
        self._changed.add(key)
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def save(self) -> None:
        """Writes what was changed. It takes effect with the commit of the batch."""
        changed = sorted(self._changed)
        kept = [(key, json.dumps(self._values[key]).encode()) for key in changed if key in self._values]
        gone = [key for key in changed if key not in self._values]
        if kept:
            _granted(f"bucket {self._name}", lambda: self._bucket.set_many(kept))
        if gone:
            _granted(f"bucket {self._name}", lambda: self._bucket.delete_many(gone))


def config(key: str, default: Optional[str] = None) -> Optional[str]:
    """A setting of the manifest's `[config]`."""
    value = _config.get(key)
    return default if value is None else value


def count(name: str, delta: int) -> None:
    """Adds to a counter that the manifest declares. Takes effect when the call commits."""
    _metrics.counter_add(name, delta)


def handler(process: Callable) -> type:
    """Makes a function over a batch the component's handler: `Handler = tidemill.handler(process)`."""

    class Handler(exports.Handler):
        def process(self, batch):
            try:
                process(batch)
            except Poison as poison:
                record = PoisonRecord(poison.index, Failure(poison.code, poison.reason))
                raise Err(ProcessError_Poison(record)) from None
            except Retry as retry:
                raise Err(ProcessError_Retry(RetryRequest(str(retry), None))) from None
            except Fatal as fatal:
                raise Err(ProcessError_Fatal(str(fatal))) from None
            return Ack_All()

    return Handler


def _granted(what: str, call: Callable):
    """What the host refuses is a matter for the operator: the manifest or a limit must change."""
    try:
        return call()
    except Err as refused:
        raise Fatal(f"{what}: {refused.value}") from None
