//! A module's folder: its manifest and the component that the manifest names.

use std::path::{Path, PathBuf};

use tidemill_protocol::manifest::Manifest;

use crate::cli::Failure;

/// The manifest's name in a module's folder.
pub(super) const MANIFEST: &str = "module.toml";

/// The crate's manifest in the folder of a module in Rust.
pub(super) const CARGO_MANIFEST: &str = "Cargo.toml";

/// The manifest of a module in JavaScript or TypeScript.
pub(super) const NPM_MANIFEST: &str = "package.json";

/// A manifest that was read, and where.
#[derive(Debug)]
pub(super) struct Project {
    /// The manifest's file.
    pub(super) manifest_path: PathBuf,
    /// What it says.
    pub(super) manifest: Manifest,
}

impl Project {
    /// Reads the manifest: `path` is its folder, or the file itself.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let manifest_path = if path.is_dir() {
            path.join(MANIFEST)
        } else {
            path.to_owned()
        };
        let shown = manifest_path.display();
        let text = std::fs::read_to_string(&manifest_path).map_err(|e| format!("{shown}: {e}"))?;
        let manifest = toml::from_str(&text).map_err(|e| format!("{shown}: {}", e.to_string().trim_end()))?;
        Ok(Self {
            manifest_path,
            manifest,
        })
    }

    /// Where the manifest is.
    pub(super) fn folder(&self) -> &Path {
        match self.manifest_path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Where the component is: the one given, or the one that the manifest names.
    pub(super) fn component_path(&self, given: Option<&Path>) -> Result<PathBuf, Failure> {
        match (given, &self.manifest.module.component) {
            (Some(given), _) => Ok(given.to_owned()),
            (None, Some(named)) => Ok(self.folder().join(named)),
            (None, None) => {
                let shown = self.manifest_path.display();
                Err(format!("{shown}: name the component in [module], or give --component").into())
            }
        }
    }

    /// Reads the component.
    pub(super) fn component(&self, given: Option<&Path>) -> Result<Vec<u8>, Failure> {
        let path = self.component_path(given)?;
        let shown = path.display();
        std::fs::read(&path)
            .map_err(|e| format!("{shown}: {e}; build it with `tidemill module build`, or give --component").into())
    }

    /// Whether `module build` knows how to build it.
    pub(super) fn is_built_here(&self) -> bool {
        [CARGO_MANIFEST, NPM_MANIFEST]
            .iter()
            .any(|manifest| self.folder().join(manifest).is_file())
    }
}
