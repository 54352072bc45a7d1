//! Rules of the repository that the compiler does not check: which crate and module may depend on which, and the form
//! of the prose. Each rule is a table at the top of its file.

mod crates;
mod layers;
mod prose;
pub mod sources;
