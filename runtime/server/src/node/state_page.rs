//! Looking into a module's state for an operator: a bounded page, read off the node's thread.
use bytes::Bytes;
use tidemill_broker::{
    Broker,
    module::run::{Bucket, StateReader, StateScan, TaskKey},
};
use tidemill_protocol::admin::{
    Answer, ErrorCode, Hex, STATE_ENTRIES_MAX, STATE_PAGE_BYTES_MAX, StateEntry, StatePage, StateQuery,
};

/// Whose rows a query means. Without a bucket it means the only one.
///
/// # Errors
/// When there is no such module or bucket.
pub(super) fn find(broker: &Broker, query: &mut StateQuery) -> Result<(TaskKey, Bucket), Answer> {
    let Some(deployment) = broker.state().modules.get(&query.module) else {
        let message = format!("there is no module {:?}", query.module);
        return Err(Answer::error_with_hint(
            ErrorCode::UnknownModule,
            message,
            "tidemill module list",
        ));
    };
    let buckets = &deployment.manifest().state;
    if query.bucket.is_empty() && buckets.len() == 1 {
        query.bucket = buckets.keys().next().cloned().unwrap_or_default();
    }
    if !buckets.contains_key(&query.bucket) {
        let names = buckets.keys().cloned().collect::<Vec<_>>().join(", ");
        let message = format!("{} has no bucket {:?}", query.module, query.bucket);
        return Err(Answer::error_with_hint(
            ErrorCode::InvalidCall,
            message,
            format!("its manifest declares: {names}"),
        ));
    }
    let bucket = Bucket::granted(deployment.manifest())
        .into_iter()
        .find(|bucket| bucket.name == query.bucket);
    let bucket = bucket.expect("it is among the manifest's");
    Ok((broker.state().modules.task_key(deployment, query.task), bucket))
}

/// Reads the page.
pub(super) fn read(state: &dyn StateReader, (task, bucket): &(TaskKey, Bucket), query: &StateQuery) -> StatePage {
    let start = match &query.after {
        // The next key after it.
        Some(after) => [after.0.as_slice(), &[0]].concat().max(query.prefix.0.clone()),
        None => query.prefix.0.clone(),
    };
    let end = after_prefix(query.prefix.0.clone());
    let most = query.entries_max.clamp(1, STATE_ENTRIES_MAX) as usize;
    let mut found = state.scan(StateScan {
        task,
        bucket: &bucket.rows,
        start: &start,
        end: &end,
        reverse: false,
        entries_max: most + 1,
    });
    let mut bytes = 0;
    let mut fits = |(key, value): &(Bytes, Bytes)| {
        bytes += key.len() + value.len();
        bytes <= STATE_PAGE_BYTES_MAX
    };
    let count = found.iter().take(most).take_while(|entry| fits(entry)).count();
    let count = count.max(found.len().min(1));
    let is_all = count == found.len();
    found.truncate(count);
    let entries: Vec<StateEntry> = found
        .into_iter()
        .map(|(key, value)| StateEntry {
            key: Hex(key.into()),
            value: Hex(bucket.value(value).unwrap_or_default().into()),
        })
        .collect();
    let last = entries.last().filter(|_| !is_all).map(|entry| entry.key.clone());
    StatePage { entries, last }
}

/// The first key after all that begin with these bytes; empty: there is none.
fn after_prefix(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            break;
        }
    }
    prefix
}
