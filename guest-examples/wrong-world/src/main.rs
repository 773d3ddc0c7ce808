//! A component of the wrong world: it exports `wasi:cli/run`, not `tidemill:processor/handler`. Deploying it must fail and say so.

fn main() {
    println!("nobody will read this");
}
