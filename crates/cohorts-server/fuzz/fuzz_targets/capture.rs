//! Arbitrary bytes as the body of a capture request, in all packings: the body is refused with an error, or each of its
//! items is refused with a reason or can be stored.

#![no_main]

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cohorts_server::fuzzing;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use libfuzzer_sys::fuzz_target;

const FORM: &str = "application/x-www-form-urlencoded";
const CONTENT_TYPES: [Option<&str>; 5] = [
    None,
    Some("application/json"),
    Some("text/plain"),
    Some(FORM),
    Some("multipart/form-data; boundary=a"),
];

fuzz_target!(|data: &[u8]| {
    let [content_type, packing, body @ ..] = data else {
        return;
    };
    let content_type = CONTENT_TYPES[usize::from(*content_type) % CONTENT_TYPES.len()];
    let packing = packing % 12;
    let (packed, content_type, encoding) = match packing {
        0 => (gzip(body), content_type, Some("gzip")),
        // As `gzip-js`: compressed, and not declared.
        1 => (gzip(body), content_type, None),
        2 => (zlib(body), content_type, Some("deflate")),
        3 => (zstd(body), content_type, Some("zstd")),
        4 => (base64(body), content_type, None),
        5 => (base64(&gzip(body)), content_type, None),
        6 => (form(&base64(body)), Some(FORM), None),
        7 => (form(&base64(&gzip(body))), Some(FORM), None),
        // Not packed, so the bytes may be any packing, or a damaged one.
        8 => (body.to_vec(), content_type, Some("gzip")),
        9 => (body.to_vec(), content_type, Some("deflate")),
        10 => (body.to_vec(), content_type, Some("zstd")),
        _ => (body.to_vec(), content_type, None),
    };
    let decoded = fuzzing::capture(&packed, content_type, encoding);
    let is_json = matches!(body.trim_ascii_start(), [b'{' | b'[', ..]);
    if packing < 8 && is_json && content_type != Some(FORM) && str::from_utf8(body).is_ok() {
        assert_eq!(decoded.as_deref().map(str::as_bytes), Some(body));
    }
});

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("a vector");
    encoder.finish().expect("a vector")
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("a vector");
    encoder.finish().expect("a vector")
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 1).expect("a vector")
}

fn base64(body: &[u8]) -> Vec<u8> {
    BASE64.encode(body).into_bytes()
}

fn form(data: &[u8]) -> Vec<u8> {
    let data: String = form_urlencoded::byte_serialize(data).collect();
    format!("ip=1&data={data}").into_bytes()
}
