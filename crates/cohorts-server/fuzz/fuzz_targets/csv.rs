//! Arbitrary bytes as an uploaded file of persons: it is refused with an error, or each row has an id or a fault.

#![no_main]

use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};

use cohorts_server::fuzzing;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FILE: RefCell<File> = RefCell::new(tempfile::tempfile().expect("a temporary file"));
}

fuzz_target!(|data: &[u8]| {
    FILE.with_borrow_mut(|file| {
        file.set_len(0).expect("an empty file");
        file.rewind().expect("the start of the file");
        file.write_all(data).expect("the file");
        file.rewind().expect("the start of the file");
        fuzzing::csv(file.try_clone().expect("the same file"));
    });
});
