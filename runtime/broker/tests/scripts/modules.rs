//! Commands of modules.
use goldenscript::Command;
use tidemill_protocol::api::Response;

use crate::{Output, world::World};

pub fn run(_world: &mut World, _command: &Command) -> Option<Output> {
    None
}

pub fn show(_response: &Response) -> Option<String> {
    None
}
