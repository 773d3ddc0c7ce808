//! What the author of a Wasm module imports.
