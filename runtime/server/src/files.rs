//! Small files of the daemon's own: private, whole or not there, and every error with its path.
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use crate::error::StartError;

/// A directory for nobody but this user, with its parents.
pub(crate) fn create_dir(path: &Path) -> Result<(), StartError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| at(path, e))
}

/// Writes beside, syncs and renames; mode 0600.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StartError> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(|e| at(path, e))
}

/// The whole of a small text file.
pub(crate) fn read_text(path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|e| at(path, e))
}

fn at(path: &Path, error: std::io::Error) -> StartError {
    StartError::File {
        path: path.to_owned(),
        error,
    }
}
