//! What stopped a guest, in words: the record, the limit and its key in the manifest, the guest's own frames.
use std::fmt::Write as _;

use tidemill_broker::module::run::{Failure, Verdict};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};

use crate::{
    call::{Call, Stop},
    limits,
    memory::Refusal,
};

/// Text of wasmtime's error for too many resource handles.
const TOO_MANY_HANDLES: &str = "store handle limit exceeded";
/// Text of wasmtime's error for a host call with too many bytes.
const TOO_MANY_BYTES: &str = "fuel allocated for hostcalls has been exhausted";

/// The verdict on a call that ended in an error.
pub(crate) fn verdict(error: &wasmtime::Error, refusal: Option<Refusal>, call: &Call) -> Verdict {
    let cause = error.downcast_ref::<Stop>();
    let not_its_fault = match cause {
        Some(Stop::Cancelled) => Some("cancelled"),
        _ if error.is::<PoolConcurrencyLimitError>() => Some("the host has no room for another instance just now"),
        _ => None,
    };
    if let Some(reason) = not_its_fault {
        return Verdict::Retry {
            reason: reason.into(),
            after_ms: None,
            delivered: call.delivery.delivered(),
        };
    }
    let (kind, what) = classify(error, cause, refusal, call);
    failed(kind, what + &frames(error), call)
}

/// A verdict on a guest that returned nonsense.
pub(crate) fn failed(kind: Failure, what: String, call: &Call) -> Verdict {
    Verdict::Failed {
        kind,
        message: blamed(what, call),
        suspect: call.suspect(),
        delivered: call.delivery.delivered(),
    }
}

/// A message with the record that is to blame, where it is known.
pub(crate) fn blamed(what: String, call: &Call) -> String {
    match call.suspect() {
        Some(at) => format!("record {}-{}@{}: {what}", at.topic, at.partition, at.offset),
        None => what,
    }
}

fn classify(error: &wasmtime::Error, cause: Option<&Stop>, refusal: Option<Refusal>, call: &Call) -> (Failure, String) {
    let run = &call.run.limits;
    match (cause, error.downcast_ref::<Trap>()) {
        (Some(Stop::Timeout), _) | (_, Some(Trap::Interrupt)) => (
            Failure::Timeout,
            format!("the call took longer than `batch.timeout` = {} ms", run.timeout_ms),
        ),
        (_, Some(Trap::OutOfFuel)) => (
            Failure::Timeout,
            format!(
                "the call took more instructions than stand for `batch.timeout` = {} ms",
                run.timeout_ms
            ),
        ),
        (Some(stop @ Stop::Limit(_)), _) => (Failure::Limit, stop.to_string()),
        (_, Some(Trap::StackOverflow)) => (Failure::Stack, stack()),
        (_, Some(Trap::MemoryOutOfBounds)) if recurses(error) => (Failure::Stack, stack()),
        _ if says(error, TOO_MANY_HANDLES) => (
            Failure::Limit,
            format!(
                "more than {} resource handles are held at once (a bound of the host)",
                limits::HANDLES_MAX
            ),
        ),
        _ if says(error, TOO_MANY_BYTES) => {
            let bytes = limits::HOST_CALL_BYTES_MAX.max(run.output_bytes_max.saturating_mul(2));
            (
                Failure::Limit,
                format!(
                    "more than {bytes} bytes in one call to the host (`limits.output-bytes` = {})",
                    run.output_bytes_max
                ),
            )
        }
        (_, trap) => match refusal {
            Some(Refusal::Memory(bytes)) => (
                Failure::Memory,
                format!(
                    "{bytes} bytes of memory were asked for, more than `limits.memory` = {}",
                    run.memory_bytes_max
                ),
            ),
            Some(Refusal::Table(elements)) => (
                Failure::Limit,
                format!(
                    "a table of {elements} elements was asked for, the most is {} (a bound of the host)",
                    limits::TABLE_ELEMENTS_MAX
                ),
            ),
            None => trapped(error, trap, call),
        },
    }
}

fn says(error: &wasmtime::Error, text: &str) -> bool {
    error.chain().any(|cause| cause.to_string().contains(text))
}

fn trapped(error: &wasmtime::Error, trap: Option<&Trap>, call: &Call) -> (Failure, String) {
    let what = match (trap, call.log.last_error()) {
        (Some(Trap::UnreachableCodeReached), Some(panic)) => panic.to_owned(),
        (Some(trap), _) => trap.to_string(),
        (None, _) => error.root_cause().to_string(),
    };
    match call.limits_hit.as_slice() {
        [] => (Failure::Trap, what),
        hit => (Failure::Limit, format!("{}; then: {what}", hit.join("; "))),
    }
}

fn stack() -> String {
    format!(
        "the stack of {} bytes is used up by recursion (a bound of the host)",
        limits::GUEST_STACK_BYTES
    )
}

/// A Rust guest keeps part of its stack in linear memory; when that part is used up first, it runs out of bounds.
fn recurses(error: &wasmtime::Error) -> bool {
    let Some(frames) = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames) else {
        return false;
    };
    let most = frames
        .iter()
        .map(|frame| {
            frames
                .iter()
                .filter(|other| other.func_index() == frame.func_index())
                .count()
        })
        .max();
    limits::BACKTRACE_FRAMES_MAX <= frames.len() && most.is_some_and(|most| frames.len() / 4 < most)
}

fn frames(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return String::new();
    };
    let mut text = String::new();
    // The first line says that a backtrace follows.
    for line in backtrace.to_string().lines().skip(1).take(limits::BACKTRACE_LINES_MAX) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{line}");
    }
    text
}
