//! The data directory: one daemon at a time, nothing foreign in it, and an identity that stays.
//!
//! ```text
//! data/pid           locked while the daemon runs; its process id
//! data/identity      format and cluster id, written once
//! data/tls/          the daemon's own CA
//! data/modules/      components and compiled artefacts, by digest
//! data/lock          storage's own lock
//! data/shard-0/      journal, segments and state; belongs to storage
//! ```
use std::{
    fs::File,
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use rustls::crypto::ring;
use tidemill_protocol::ids::Uuid;

use crate::{error::StartError, files};

/// Names that belong here. `lost+found` is a file system's own.
const OURS: [&str; 7] = ["pid", "lock", "identity", "tls", "modules", "shard-0", "lost+found"];

/// First line of the identity file.
const FORMAT: &str = "tidemill data 1";

/// The data directory, locked until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Identity of the cluster, as clients see it.
    pub(crate) cluster_id: String,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if need be, locks it and looks whether it is ours.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        files::create_dir(path)?;
        refuse_foreign(path)?;
        let lock = lock(path)?;
        let cluster_id = identity(path)?;
        Ok(Self {
            path: path.to_owned(),
            cluster_id,
            _lock: lock,
        })
    }

    /// Where storage makes its own directories.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Components and artefacts.
    pub(crate) fn modules(&self) -> PathBuf {
        self.path.join("modules")
    }
}

/// So many bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| StartError::System(std::io::Error::other("no random numbers")))?;
    Ok(bytes)
}

fn refuse_foreign(path: &Path) -> Result<(), StartError> {
    let at = |error| StartError::File {
        path: path.to_owned(),
        error,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(at)? {
        names.push(entry.map_err(at)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let is_ours = |name: &String| OURS.contains(&name.as_str()) || name.ends_with(".new");
    match names.into_iter().find(|name| !is_ours(name)) {
        Some(name) => Err(StartError::Foreign {
            path: path.to_owned(),
            name,
        }),
        None => Ok(()),
    }
}

fn lock(path: &Path) -> Result<File, StartError> {
    let file_path = path.join("pid");
    let at = |error| StartError::File {
        path: file_path.clone(),
        error,
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file_path)
        .map_err(at)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        let pid = if pid.trim().is_empty() {
            "unknown".to_owned()
        } else {
            pid.trim().to_owned()
        };
        return Err(StartError::InUse {
            path: path.to_owned(),
            pid,
        });
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(at)?;
    Ok(file)
}

fn identity(path: &Path) -> Result<String, StartError> {
    let file = path.join("identity");
    if !file.exists() {
        let mut id = random::<16>()?;
        (id[6], id[8]) = (id[6] & 0x0f | 0x40, id[8] & 0x3f | 0x80);
        files::write_private(&file, format!("{FORMAT}\ncluster-id {}\n", Uuid(id)).as_bytes())?;
    }
    let text = files::read_text(&file)?;
    let wrong = |what: &str| {
        StartError::Storage(format!(
            "{}: {what}; was it written by a newer Tidemill?",
            file.display()
        ))
    };
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        return Err(wrong("the format is not known here"));
    }
    let id = lines
        .next()
        .and_then(|line| line.strip_prefix("cluster-id "))
        .filter(|id| id.len() == 22);
    id.map(str::to_owned)
        .ok_or_else(|| wrong("there is no cluster id in it"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_identity_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap().cluster_id;
        assert_eq!(DataDir::open(dir.path()).unwrap().cluster_id, first);
    }

    #[test]
    fn a_second_daemon_is_refused_with_the_first_ones_process() {
        let dir = tempfile::tempdir().unwrap();
        let _first = DataDir::open(dir.path()).unwrap();
        let message = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("another tidemill (process {}) uses", std::process::id())),
            "{message}"
        );
    }

    #[test]
    fn a_foreign_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        let message = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("holds \"thesis.tex\", which is not Tidemill's"),
            "{message}"
        );
    }
}
