//! Runs Wasm modules in a sandbox.
