//! The TLS of the service itself: its certificate, and connections that clients close.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::harness::{Access, Location, PATIENCE, Service};

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// The files of a certificate for `localhost`, and clients that trust it.
struct TlsSite {
    directory: TempDir,
    at: Location,
    config: Arc<ClientConfig>,
}

impl TlsSite {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let creation = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |name, text| std::fs::write(directory.path().join(name), text).unwrap();
        write("cert.pem", creation.cert.pem());
        write("key.pem", creation.signing_key.serialize_pem());
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from(creation.cert.der().to_vec());
        roots.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            at: Location::Directory(directory.path().join("data")),
            config: Arc::new(config),
            directory,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self) -> Service {
        let (cert, key) = (self.file("cert.pem"), self.file("key.pem"));
        let flags = [
            "--tls-cert",
            cert.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ];
        Service::start(&self.at, &flags)
    }

    fn connect(&self, service: &Service) -> TlsClient {
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let stream = TcpStream::connect(address(service)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(connection, stream)
    }
}

fn address(service: &Service) -> &str {
    service.url.strip_prefix("https://").unwrap()
}

#[test]
fn tls_uses_the_configured_certificate() {
    let site = TlsSite::new();
    let service = site.start();
    let mut stream = site.connect(&service);
    stream
        .write_all(b"GET /_livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    assert!(
        response.starts_with("HTTP/1.1 200 OK") && response.ends_with("ok\n"),
        "{response}"
    );

    // Plain HTTP gets no response, and an error names the wrong file.
    let mut plain = TcpStream::connect(address(&service)).unwrap();
    plain
        .write_all(b"GET /_livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"));
    assert!(service.stop());
    let key = site.file("key.pem");
    let key = key.to_str().unwrap();
    let mut wrong = site.at.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        key,
        "--tls-key",
        key,
    ]);
    let output = wrong.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("key.pem"),
        "{text}"
    );
}

/// How a client ends its connection.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// It tells the service that it writes no more, and closes.
    Announced,
    /// It closes.
    Silent,
}

/// The streams of a key at the same time.
const STREAMS: usize = 5;
/// The most requests for a stream until it has a place. A place that is not free at once has none within these.
const TRIES: usize = 200;

/// Opens a stream of changes, and reads its head and its first comment; `None` if there is no place.
fn open_stream(site: &TlsSite, service: &Service, access: &Access) -> Option<TlsClient> {
    let mut client = site.connect(service);
    let (project, key) = (access.project, &access.key);
    let request = format!(
        "GET /api/projects/{project}/cohorts/changes.sse HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {key}\r\n\r\n"
    );
    client.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::with_capacity(1, client);
    let mut status = String::new();
    reader.read_line(&mut status).unwrap();
    if status.starts_with("HTTP/1.1 429") {
        return None;
    }
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    // The first event of the stream is a comment.
    let mut line = String::new();
    while line != ":\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    Some(reader.into_inner())
}

#[test]
fn a_stream_that_a_client_closes_makes_room_at_once() {
    let site = TlsSite::new();
    let access = site.at.project();
    let service = site.start();
    for ending in [Ending::Announced, Ending::Silent, Ending::Announced] {
        let open = |nth| {
            let stream = (0..TRIES).find_map(|_| open_stream(&site, &service, &access));
            stream.unwrap_or_else(|| panic!("{ending:?}: no room for stream {nth}"))
        };
        let streams: Vec<TlsClient> = (0..STREAMS).map(open).collect();
        assert!(
            open_stream(&site, &service, &access).is_none(),
            "{ending:?}"
        );
        for mut stream in streams {
            if matches!(ending, Ending::Announced) {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
        }
    }
}
