//! The generated files: written to disk, or compared with the files on disk.

use std::fs;
use std::io;
use std::path::Path;

use similar::TextDiff;

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The path, relative to the folder of the output.
    pub path: String,
    /// The content.
    pub text: String,
}

/// All generated files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files(pub Vec<File>);

impl Files {
    /// Writes the files below `folder`.
    ///
    /// An unchanged file keeps its modification time, so cargo does not rebuild its crate.
    ///
    /// # Errors
    ///
    /// Fails if a folder or a file cannot be written. The error names it.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        for File { path, text } in &self.0 {
            let path = folder.join(path);
            if fs::read_to_string(&path).is_ok_and(|old| old == *text) {
                continue;
            }
            let write = || {
                fs::create_dir_all(path.parent().unwrap_or(folder))?;
                fs::write(&path, text)
            };
            write().map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot write {}: {error}", path.display()),
                )
            })?;
        }
        Ok(())
    }

    /// Returns the differences between the files below `folder` and the generated ones, as a patch of the former.
    ///
    /// It is empty if all files are up to date.
    pub fn diff(&self, folder: &Path) -> String {
        let mut diff = String::new();
        for File { path, text } in &self.0 {
            let old = fs::read_to_string(folder.join(path)).unwrap_or_default();
            if old != *text {
                let changes = TextDiff::from_lines(&old, text);
                let mut changes = changes.unified_diff();
                let changes = changes
                    .context_radius(3)
                    .header(path, &format!("{path} (generated)"));
                diff.push_str(&changes.to_string());
            }
        }
        diff
    }

    /// Returns the text of a file.
    pub fn text(&self, path: &str) -> Option<&str> {
        let file = self.0.iter().find(|file| file.path == path)?;
        Some(&file.text)
    }
}
