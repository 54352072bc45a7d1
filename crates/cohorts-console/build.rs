//! Compiles the crate again when a file of the console is added, changed or removed.

fn main() {
    println!("cargo::rerun-if-changed=dist");
}
