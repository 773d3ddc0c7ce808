//! Compiled components on disk, one file for each (component, engine).
//!
//! ```text
//! TIDEWASM | engine: 32 | component: 32 | SHA-256 of what follows: 32 | what wasmtime made
//! ```
//! Guarantees: a file is whole or absent (written aside, synced, renamed), and only what this program has written is ever run: machine code
//! cannot be checked, so nothing from outside is accepted in this form. The name carries the engine, so an update of the daemon compiles anew.
use std::{
    fs,
    hash::{Hash, Hasher},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

use crate::{Error, limits};

const MAGIC: &[u8; 8] = b"TIDEWASM";
const HEADER_BYTES: usize = 8 + 3 * 32;

/// The directory they are in.
#[derive(Clone, Debug)]
pub struct Artefacts {
    directory: PathBuf,
    engine: [u8; 32],
}

impl Artefacts {
    /// Artefacts of this engine in a directory, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>, engine: &Engine) -> Self {
        Self {
            directory: directory.into(),
            engine: compatibility(engine),
        }
    }

    /// Where the artefact of a component is, or would be.
    pub fn path(&self, digest: &[u8; 32]) -> PathBuf {
        self.directory
            .join(format!("{}-{}.cwasm", hex(digest), hex(&self.engine[..8])))
    }

    /// Whether the component is compiled for this engine.
    pub fn contains(&self, digest: &[u8; 32]) -> bool {
        self.path(digest).is_file()
    }

    /// Reads an artefact back.
    ///
    /// # Errors
    /// When it is absent, damaged, or of another engine.
    pub fn load(&self, engine: &Engine, digest: &[u8; 32]) -> Result<Component, Error> {
        let path = self.path(digest);
        let length = fs::metadata(&path).map_err(|error| io_error(&path, error))?.len();
        if limits::ARTEFACT_BYTES_MAX < length {
            return Err(damaged(&path, "larger than any artefact"));
        }
        let bytes = fs::read(&path).map_err(|error| io_error(&path, error))?;
        let Some((header, code)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(damaged(&path, "too short"));
        };
        if !header.starts_with(MAGIC) {
            return Err(damaged(&path, "not an artefact"));
        }
        if header[8..40] != self.engine || header[40..72] != *digest {
            return Err(damaged(&path, "of another engine or component"));
        }
        if header[72..] != Sha256::digest(code)[..] {
            return Err(damaged(&path, "damaged: the checksum does not match"));
        }
        deserialize(engine, code).map_err(|error| damaged(&path, &crate::error::chain(&error)))
    }

    /// Writes what the compiler made of a component.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn store(&self, digest: &[u8; 32], code: &[u8]) -> Result<(), Error> {
        let path = self.path(digest);
        write_aside(&self.directory, &path, |file| {
            file.write_all(MAGIC)?;
            file.write_all(&self.engine)?;
            file.write_all(digest)?;
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)
        })
        .map_err(|error| io_error(&path, error))
    }

    /// Removes the artefact of a component, if there is one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self, digest: &[u8; 32]) -> Result<(), Error> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path, error)),
            _ => Ok(()),
        }
    }
}

#[allow(
    unsafe_code,
    reason = "machine code cannot be checked; the caller has made sure that this program wrote these bytes"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `Artefacts::load` hands over only what `Artefacts::store` wrote into the data directory: the magic, the engine and the checksum
    // over every byte were compared, and no interface accepts such a file from outside.
    unsafe { Component::deserialize(engine, code) }
}

/// SHA-256 of a component's bytes: its name everywhere.
pub fn digest(component: &[u8]) -> [u8; 32] {
    Sha256::digest(component).into()
}

/// Two engines with the same value load each other's artefacts.
fn compatibility(engine: &Engine) -> [u8; 32] {
    let mut fold = Fold(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut fold);
    fold.0.finalize().into()
}

/// Hashes into SHA-256, whose result is the same in every build.
struct Fold(Sha256);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

fn write_aside(directory: &Path, path: &Path, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::File::create(&aside)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    fs::File::open(directory)?.sync_all()
}

fn io_error(path: &Path, error: io::Error) -> Error {
    Error::Io {
        path: path.display().to_string(),
        error,
    }
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::Artefact {
        path: path.display().to_string(),
        why: why.into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
