//! Arbitrary bytes as a multipart body, with any boundary and in chunks of any size: an error, or parts within the limits.

#![no_main]

use cohorts_api::fuzzing::receive_multipart;
use libfuzzer_sys::fuzz_target;

/// Splits the input: the length of the boundary, the boundary, the sizes of the chunks in turn, the body.
fn split(input: &[u8]) -> Option<(&str, Vec<Vec<u8>>)> {
    let (&length, rest) = input.split_first()?;
    let (boundary, rest) = rest.split_at_checked(usize::from(length) % 80)?;
    let (sizes, mut body) = rest.split_at_checked(4)?;
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if body.is_empty() {
            break;
        }
        let size = (usize::from(*size) + 1).min(body.len());
        let (chunk, rest) = body.split_at(size);
        chunks.push(chunk.to_vec());
        body = rest;
    }
    Some((std::str::from_utf8(boundary).ok()?, chunks))
}

fuzz_target!(|input: &[u8]| {
    let Some((boundary, chunks)) = split(input) else {
        return;
    };
    let length: usize = chunks.iter().map(Vec::len).sum();
    if let Ok((fields, files)) = receive_multipart(boundary, chunks) {
        let bytes = |parts: &[(String, Vec<u8>)]| {
            let sizes = parts.iter().map(|(name, content)| name.len() + content.len());
            sizes.sum::<usize>()
        };
        assert!(fields.len() * 512 + bytes(&fields) <= 8 << 10);
        assert!(files.len() <= 1 && bytes(&files) <= (4 << 10) + 3);
        assert!(bytes(&fields) + bytes(&files) <= length);
    }
});
