//! The console: a web page for cohorts, for users who do not write requests. Its files are part of the program.
//!
//! The source of the page is in `ui/`, and `cargo xtask console` builds `dist/` from it. This crate knows no server:
//! [`find`] maps the path of a GET request to a file with its headers. The page uses only the public API.

use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use include_dir::{Dir, include_dir};

static DIST: Dir = include_dir!("$CARGO_MANIFEST_DIR/dist");

/// The paths that show the page. The last part of a pattern may be `*`: any number of further parts.
const PAGES: [&str; 9] = [
    "/",
    "/changes/*",
    "/cohorts/*",
    "/lists/*",
    "/overlap",
    "/people/*",
    "/queries/*",
    "/sign-in",
    "/webhooks/*",
];

/// The page may load and call only its own service, runs no script in its text, and is shown in no frame.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The address of the page stays on this service, because it contains names and ids.
pub const REFERRER_POLICY: &str = "no-referrer";

/// The page may change with each version of the program.
const PAGE_CACHING: &str = "no-store";
/// The name of an asset contains a hash of its content.
const ASSET_CACHING: &str = "public, max-age=31536000, immutable";

/// A file of the console.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub content_type: &'static str,
    pub cache_control: &'static str,
    /// A quoted tag that changes with the content; `None` for the page, which is not cached.
    pub etag: Option<&'static str>,
    pub content: &'static [u8],
    pub gzipped: &'static [u8],
}

struct Entry {
    path: String,
    content_type: &'static str,
    etag: String,
    content: &'static [u8],
    gzipped: Vec<u8>,
}

/// The page and the assets, compressed once.
static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let assets = DIST.get_dir("assets").into_iter().flat_map(Dir::files);
    DIST.files().chain(assets).filter_map(entry).collect()
});

fn entry(file: &'static include_dir::File<'static>) -> Option<Entry> {
    let name = file.path().file_name()?.to_str()?;
    Some(Entry {
        path: format!("/{}", file.path().to_str()?),
        content_type: content_type(name)?,
        etag: format!("\"{name}\""),
        content: file.contents(),
        gzipped: gzip(file.contents()),
    })
}

fn content_type(name: &str) -> Option<&'static str> {
    match name.rsplit('.').next()? {
        "css" => Some("text/css; charset=utf-8"),
        "html" => Some("text/html; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing into memory does not fail; an empty result would be caught by a test.
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// The file for the path of a GET request, without its query. `None` if the path does not belong to the console.
pub fn find(path: &str) -> Option<File> {
    let is_page = PAGES.iter().any(|pattern| matches(pattern, path));
    let entry = if is_page {
        ENTRIES.iter().find(|entry| entry.path == "/index.html")?
    } else if path.starts_with("/assets/") {
        ENTRIES.iter().find(|entry| entry.path == path)?
    } else {
        return None;
    };
    Some(File {
        content_type: entry.content_type,
        cache_control: if is_page { PAGE_CACHING } else { ASSET_CACHING },
        etag: (!is_page).then_some(entry.etag.as_str()),
        content: entry.content,
        gzipped: &entry.gzipped,
    })
}

/// Whether the path matches the pattern. A slash at the end is optional.
fn matches(pattern: &str, path: &str) -> bool {
    let bare = path.strip_suffix('/').unwrap_or(path);
    match pattern.strip_suffix("/*") {
        Some(start) => bare
            .strip_prefix(start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => bare == pattern.strip_suffix('/').unwrap_or(pattern),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    /// The most bytes of all files together, compressed.
    const BUDGET: usize = 120 << 10;

    #[test]
    fn only_paths_of_the_console_show_the_page() {
        for path in [
            "/",
            "/cohorts",
            "/cohorts/",
            "/cohorts/12",
            "/cohorts/12/activity",
            "/people",
            "/lists/new",
            "/overlap",
            "/queries/new",
            "/sign-in",
        ] {
            let page = find(path).expect(path);
            assert!(page.content_type.starts_with("text/html"), "{path}");
            assert_eq!((page.cache_control, page.etag), ("no-store", None));
        }
        for path in [
            "/api",
            "/cohortsx",
            "/cohort",
            "/index.html",
            "/assets/",
            "/assets/nothing.js",
            "/assets/../index.html",
            "//",
            "/sign-in/x",
            "/docs",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn the_page_names_only_assets_that_exist() {
        let page = std::str::from_utf8(find("/").expect("a page").content).expect("text");
        let names: Vec<&str> = page
            .split('"')
            .filter(|part| part.starts_with("/assets/"))
            .collect();
        assert!(names.len() >= 3, "{page}");
        for name in names {
            let asset = find(name).expect(name);
            assert!(asset.cache_control.contains("immutable"), "{name}");
            assert!(asset.etag.is_some(), "{name}");
        }
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("://"));
    }

    #[test]
    fn files_are_compressed_and_small() {
        let mut total = 0;
        for entry in ENTRIES.iter() {
            let mut content = Vec::new();
            let mut decoder = GzDecoder::new(entry.gzipped.as_slice());
            decoder.read_to_end(&mut content).expect("gzip");
            assert_eq!(content, entry.content, "{}", entry.path);
            total += entry.gzipped.len();
        }
        assert!(total <= BUDGET, "{total} bytes are more than {BUDGET}");
    }
}
