//! Tests of requests to receivers that behave badly.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rcgen::CertifiedKey;
use rustls::ServerConfig;

use super::*;
use crate::webhooks::secrets::{SecretKey, SecretKeySource, Secrets};

/// What a receiver sends, after it has read the request.
enum Behavior {
    Answer(&'static str),
    /// Sends nothing.
    Hang,
    /// Sends a response that never ends.
    Flood,
}

/// A receiver of one request on a free port, and the requests that it reads.
fn receiver(behavior: Behavior) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        sender.send(read_request(&mut stream)).unwrap();
        match behavior {
            Behavior::Answer(text) => stream.write_all(text.as_bytes()).unwrap(),
            Behavior::Hang => drop(stream.read(&mut [0])),
            Behavior::Flood => {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n";
                stream.write_all(head.as_bytes()).unwrap();
                let mut written = 0_u64;
                while let Ok(bytes) = stream.write(&[b'x'; 4_096]) {
                    written += bytes as u64;
                }
                sender.send(written.to_string()).unwrap();
            }
        }
    });
    (port, requests)
}

fn read_request(stream: &mut impl Read) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 1_024];
    loop {
        let bytes = stream.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..bytes]);
        let text = String::from_utf8_lossy(&request);
        if text.contains("\r\n\r\n") && text.ends_with('}') {
            return text.into_owned();
        }
    }
}

fn client(allow: &[&str], roots: &TlsRoots) -> HttpsClient {
    let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
    HttpsClient {
        limit: Duration::from_millis(1_500),
        ..HttpsClient::new(AddressRules::new(allow), roots)
    }
}

fn secrets() -> Vec<WebhookSecret> {
    let key = SecretKey::parse(&hex::encode([1; 32])).unwrap();
    let secrets = Secrets::new(SecretKeySource::Key(key));
    let new = secrets.create(cohorts_store::ProjectId(1), None);
    vec![new.unwrap().secret]
}

fn message() -> Message {
    Message {
        id: "msg_1".to_owned(),
        ..Message::test(1, Utc::now()).unwrap()
    }
}

async fn send(allow: &[&str], url: &str) -> SendAttempt {
    let client = client(allow, &TlsRoots::Given(Vec::new()));
    client.send(url, &message(), &secrets()).await
}

#[tokio::test]
async fn a_message_has_the_headers_of_the_specification() {
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let (port, requests) = receiver(Behavior::Answer(answer));
    let (message, secrets) = (message(), secrets());
    let url = format!("http://127.0.0.1:{port}/a?b=c");
    let client = client(&["127.0.0.1/32"], &TlsRoots::Given(Vec::new()));
    let attempt = client.send(&url, &message, &secrets).await;
    assert_eq!((attempt.status, attempt.error), (Some(204), None));
    let request = requests.recv().unwrap();
    assert!(request.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{request}");
    let timestamp = attempt.started_at.timestamp();
    let signature = signatures(&secrets, "msg_1", timestamp, &message.body);
    for line in [
        format!("host: 127.0.0.1:{port}"),
        "content-type: application/json".to_owned(),
        format!("content-length: {}", message.body.len()),
        "webhook-id: msg_1".to_owned(),
        format!("webhook-timestamp: {timestamp}"),
        format!("webhook-signature: {signature}"),
    ] {
        assert!(
            request.contains(&format!("{line}\r\n")),
            "{line}\n{request}"
        );
    }
}

#[tokio::test]
async fn redirects_and_errors_do_not_accept_a_message() {
    for (answer, status) in [
        (
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            302,
        ),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nno\0!", 500),
    ] {
        let (port, _requests) = receiver(Behavior::Answer(answer));
        let attempt = send(&["127.0.0.0/8"], &format!("http://127.0.0.1:{port}/")).await;
        assert_eq!(attempt.status, Some(status));
        assert!(attempt.error.unwrap().contains(&status.to_string()));
        assert!(!attempt.body.unwrap().contains('\0'));
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_ends_the_attempt_at_its_limit() {
    let (port, _requests) = receiver(Behavior::Hang);
    let attempt = send(&["127.0.0.0/8"], &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(attempt.status, None);
    assert!(attempt.error.unwrap().contains("did not respond within"));
}

// Another thread closes the connection while the test waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_without_end_is_cut() {
    let (port, requests) = receiver(Behavior::Flood);
    let attempt = send(&["127.0.0.0/8"], &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!((attempt.status, attempt.error), (Some(200), None));
    assert_eq!(attempt.body.unwrap().len(), STORED_BYTES);
    requests.recv().unwrap();
    // What the receiver could write is in the buffers of the connection.
    let written: u64 = requests.recv().unwrap().parse().unwrap();
    assert!(written < 100 << 20, "{written}");
}

#[tokio::test]
async fn nonsense_is_a_failure() {
    let (port, _requests) = receiver(Behavior::Answer("SSH-2.0-OpenSSH\r\n\r\n"));
    let attempt = send(&["127.0.0.0/8"], &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(attempt.status, None);
    assert!(attempt.error.unwrap().contains("cannot be read"));
}

#[tokio::test]
async fn no_connection_is_made_to_an_address_that_is_not_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for (allow, url) in [
        (&[][..], format!("https://127.0.0.1:{port}/")),
        (&[], format!("https://localhost:{port}/")),
        (&[], format!("https://[::ffff:127.0.0.1]:{port}/")),
        (&["10.0.0.0/8"], format!("http://127.0.0.1:{port}/")),
        (&["10.0.0.0/8"], format!("http://localhost:{port}/")),
        (&[], "https://169.254.169.254/".to_owned()),
    ] {
        let attempt = send(allow, &url).await;
        assert!(attempt.error.unwrap().contains("not public"), "{url}");
    }
    let attempted = listener.accept().unwrap_err();
    assert_eq!(attempted.kind(), std::io::ErrorKind::WouldBlock);
}

/// Sends to `hooks.example.org`. Its look-ups have these addresses one after another. Returns the attempt and the number of
/// look-ups.
async fn send_by_name(
    allow: &[&str],
    scheme: &str,
    port: u16,
    answers: &[&[&str]],
) -> (SendAttempt, usize) {
    let parsed = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
    let answers: Vec<Vec<IpAddr>> = answers.iter().map(parsed).collect();
    let look_ups = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&look_ups);
    let look_up = move |name: &str| {
        assert_eq!(name, "hooks.example.org");
        let nth = count.fetch_add(1, Ordering::Relaxed);
        answers[nth.min(answers.len() - 1)].clone()
    };
    let client = HttpsClient {
        resolver: Resolver::Given(Arc::new(look_up)),
        ..client(allow, &TlsRoots::Given(Vec::new()))
    };
    let url = format!("{scheme}://hooks.example.org:{port}/");
    let attempt = client.send(&url, &message(), &secrets()).await;
    (attempt, look_ups.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_name_of_an_address_that_is_not_public_is_refused_without_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for addresses in [
        &["169.254.169.254"][..],
        &["127.0.0.1"],
        &["::ffff:169.254.169.254"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::a9fe:a9fe"],
        &["64:ff9b::7f00:1"],
        &["::1"],
        // One address of several.
        &["8.8.8.8", "127.0.0.1"],
        &["127.0.0.1", "8.8.8.8"],
    ] {
        let (attempt, look_ups) = send_by_name(&[], "https", port, &[addresses]).await;
        let error = attempt.error.unwrap();
        assert!(error.contains("not public"), "{addresses:?}: {error}");
        assert_eq!((attempt.status, look_ups), (None, 1), "{addresses:?}");
    }
    let attempted = listener.accept().unwrap_err();
    assert_eq!(attempted.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_called_at_the_address_that_was_checked() {
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let (port, requests) = receiver(Behavior::Answer(answer));
    let allow = ["127.0.0.1/32"];
    // The second look-up would be that of the connection.
    let answers: [&[&str]; 2] = [&["127.0.0.1"], &["169.254.169.254"]];
    let (attempt, look_ups) = send_by_name(&allow, "http", port, &answers).await;
    assert_eq!((attempt.status, attempt.error), (Some(204), None));
    assert_eq!(look_ups, 1);
    let request = requests.recv().unwrap();
    assert!(
        request.contains(&format!("host: hooks.example.org:{port}\r\n")),
        "{request}"
    );

    let (port, requests) = receiver(Behavior::Answer(answer));
    let answers: [&[&str]; 2] = [&["169.254.169.254"], &["127.0.0.1"]];
    let (attempt, look_ups) = send_by_name(&allow, "http", port, &answers).await;
    assert!(attempt.error.unwrap().contains("not public"));
    assert_eq!(look_ups, 1);
    assert!(requests.try_recv().is_err(), "no connection is made");
    // Each attempt looks the name up again.
    let answers: [&[&str]; 1] = [&["127.0.0.1"]];
    let (attempt, look_ups) = send_by_name(&allow, "http", port, &answers).await;
    assert_eq!((attempt.status, look_ups), (Some(204), 1));
}

/// A receiver with TLS, and its certificate.
fn tls_receiver() -> (u16, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (cert.der().clone(), signing_key.serialize_der());
    let provider = rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.try_into().unwrap())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = stream.unwrap();
            let mut stream = rustls::Stream::new(&mut connection, &mut stream);
            let mut first = [0];
            // A client that does not trust the certificate sends no request.
            if stream.read_exact(&mut first).is_ok() {
                read_request(&mut stream);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).unwrap();
            }
        }
    });
    (port, certificate)
}

#[tokio::test]
async fn only_a_trusted_certificate_is_accepted() {
    let (port, certificate) = tls_receiver();
    let url = format!("https://127.0.0.1:{port}/");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    for (certificate, is_trusted) in [(certificate, true), (other.cert.der().clone(), false)] {
        let client = client(&["127.0.0.1/32"], &TlsRoots::Given(vec![certificate]));
        let attempt = client.send(&url, &message(), &secrets()).await;
        assert_eq!(attempt.status.is_some(), is_trusted, "{attempt:?}");
        assert_eq!(attempt.error.is_none(), is_trusted, "{attempt:?}");
    }
    let without_roots = send(&["127.0.0.1/32"], &url).await;
    assert!(without_roots.error.unwrap().contains("SSL_CERT_FILE"));
}
