//! The contract in `wit/`, as types. The two hot interfaces, `records` and `producer`, are linked by hand (see [`crate::imports`]) with
//! columns that are not copied before they are needed; their plain types come from here.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "processor",
    with: {
        "tidemill:processor/records.batch": crate::delivery::Delivery,
        "tidemill:processor/state.bucket": crate::imports::state::Bucket,
    },
    imports: { default: trappable },
});

/// Interface names in this crate are without version: what is after `@` is matched as a range.
pub const PACKAGE: &str = "tidemill:processor/";
/// The version that is served.
pub const VERSION: &str = "0.1.0";
