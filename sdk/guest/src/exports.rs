//! The optional exports, each with bindings of its own: a component exports only what its module hands to [`crate::module!`].
#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated from wit/ by wit-bindgen"
)]

pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "with-lifecycle",
        pub_export_macro: true,
        with: { "tidemill:processor/types@0.1.0": crate::bindings::tidemill::processor::types },
    });
}

pub mod timer_handler {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "with-timer-handler",
        pub_export_macro: true,
        with: {
            "tidemill:processor/types@0.1.0": crate::bindings::tidemill::processor::types,
            "tidemill:processor/timers@0.1.0": crate::bindings::tidemill::processor::timers,
        },
    });
}

pub mod migrator {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "with-migrator",
        pub_export_macro: true,
        with: { "tidemill:processor/types@0.1.0": crate::bindings::tidemill::processor::types },
    });
}
