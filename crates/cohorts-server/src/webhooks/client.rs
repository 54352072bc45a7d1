//! One request to the receiver of a webhook, with bounds on its time and on its response.
//!
//! The host is resolved once ([`resolver`]), each address is checked, and the connection is made to one of these addresses. There are no
//! proxies and no redirects, and no connection is used twice.

mod resolver;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::Host;

use resolver::Resolver;

use super::address::{AddressRules, WebhookTarget};
use super::message::Message;
use super::secrets::{WebhookSecret, signatures};

/// The longest time of an attempt, with the look-up of the host and the response.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a connection to one of several addresses may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// The most bytes of a response that are read.
const READ_BYTES: usize = 64 << 10;
/// The most bytes of a response that are stored.
const STORED_BYTES: usize = 1 << 10;
/// The most header fields of a response.
const HEADERS: usize = 100;
const AGENT: &str = concat!("Cohorts/", env!("CARGO_PKG_VERSION"));

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendAttempt {
    pub started_at: DateTime<Utc>,
    pub duration: Duration,
    /// The status of the response; `None` if there was none.
    pub status: Option<u16>,
    /// The beginning of the response.
    pub body: Option<String>,
    /// Why the message was not accepted; `None` if it was.
    pub error: Option<String>,
}

impl SendAttempt {
    /// The outcome of a message that was not sent.
    pub fn not_sent(error: String) -> Self {
        Self {
            started_at: Utc::now(),
            duration: Duration::ZERO,
            status: None,
            body: None,
            error: Some(error),
        }
    }
}

/// The certificates that TLS trusts.
#[derive(Clone, Debug)]
pub enum TlsRoots {
    /// Those of the system, or of the file in `SSL_CERT_FILE`.
    System,
    /// These certificates.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests have a certificate of their own")
    )]
    Given(Vec<CertificateDer<'static>>),
}

/// Sends messages. Clones share the certificates.
#[derive(Clone)]
pub struct HttpsClient {
    rules: AddressRules,
    resolver: Resolver,
    tls: Option<TlsConnector>,
    limit: Duration,
}

/// Why a request has no response.
type RequestFailure = String;

/// The status and the beginning of a response.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl HttpsClient {
    /// A client for these addresses. Without certificates in the system, requests by TLS fail.
    pub fn new(rules: AddressRules, roots: &TlsRoots) -> Self {
        let tls = tls_config(roots);
        if let Err(cause) = &tls {
            log::debug!("webhooks cannot use TLS: {cause:#}");
        }
        let connector = |config| TlsConnector::from(Arc::new(config));
        Self {
            rules,
            resolver: Resolver::System,
            tls: tls.ok().map(connector),
            limit: LIMIT,
        }
    }

    pub fn rules(&self) -> &AddressRules {
        &self.rules
    }

    /// Sends a message, signed by each of the secrets.
    pub async fn send(
        &self,
        url: &str,
        message: &Message,
        secrets: &[WebhookSecret],
    ) -> SendAttempt {
        let (started_at, started) = (Utc::now(), Instant::now());
        let request = self.request(url, message, secrets, started_at);
        let answer = match timeout_at(started + self.limit, request).await {
            Ok(answer) => answer,
            Err(_) => Err(format!(
                "The receiver did not respond within {} seconds.",
                self.limit.as_secs()
            )),
        };
        let (status, body, error) = match answer {
            Ok(answer) => {
                let error = refusal(answer.status);
                (Some(answer.status), Some(text(&answer.body)), error)
            }
            Err(failure) => (None, None, Some(failure)),
        };
        SendAttempt {
            started_at,
            duration: started.elapsed(),
            status,
            body,
            error,
        }
    }

    async fn request(
        &self,
        url: &str,
        message: &Message,
        secrets: &[WebhookSecret],
        time: DateTime<Utc>,
    ) -> Result<Answer, RequestFailure> {
        let target = self.rules.parse(url)?;
        let deadline = Instant::now() + self.limit;
        let stream = self.connect(&target).await?;
        if target.uses_tls() {
            let stream = self.encrypt(&target, stream).await?;
            exchange(&target, stream, message, secrets, time, deadline).await
        } else {
            exchange(&target, stream, message, secrets, time, deadline).await
        }
    }

    /// A connection to an address of the target. If one address is refused, so is the target.
    async fn connect(&self, target: &WebhookTarget) -> Result<TcpStream, RequestFailure> {
        let addresses = self.resolver.addresses(target).await?;
        for address in &addresses {
            self.rules.check(target, address.ip())?;
        }
        let mut failure = "The host of the URL has no address.".to_owned();
        for address in addresses {
            let connecting = TcpStream::connect(address);
            match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
                Ok(Ok(stream)) => {
                    // The request is one write.
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Ok(Err(cause)) => failure = format!("The connection failed: {}.", cause.kind()),
                Err(_) => failure = "The connection failed: the host does not respond.".to_owned(),
            }
        }
        Err(failure)
    }

    async fn encrypt(
        &self,
        target: &WebhookTarget,
        stream: TcpStream,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, RequestFailure> {
        let tls = self.tls.as_ref().ok_or(
            "The service has no certificates of authorities; its operator installs ca-certificates, or sets \
             SSL_CERT_FILE.",
        )?;
        let name = match target.host() {
            Host::Domain(name) => ServerName::try_from(name.to_owned()).ok(),
            Host::Ipv4(address) => Some(ServerName::from(std::net::IpAddr::from(address))),
            Host::Ipv6(address) => Some(ServerName::from(std::net::IpAddr::from(address))),
        };
        let name = name.ok_or("The host of the URL is not a name that a certificate can have.")?;
        let connecting = tls.connect(name, stream).await;
        connecting.map_err(|cause| format!("TLS failed: {cause}."))
    }
}

fn tls_config(roots: &TlsRoots) -> anyhow::Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    let certificates = match roots {
        TlsRoots::System => rustls_native_certs::load_native_certs().certs,
        TlsRoots::Given(certificates) => certificates.clone(),
    };
    store.add_parsable_certificates(certificates);
    ensure!(
        !store.is_empty(),
        "the system has no certificates of authorities; install ca-certificates, or set SSL_CERT_FILE"
    );
    let provider = rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .context("TLS 1.2 and 1.3")?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(config)
}

/// Sends the message on a connection, and reads the response.
async fn exchange(
    target: &WebhookTarget,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    message: &Message,
    secrets: &[WebhookSecret],
    time: DateTime<Utc>,
    deadline: Instant,
) -> Result<Answer, RequestFailure> {
    let request = signed(target, message, secrets, time)?;
    let handshake = http1::Builder::new()
        .max_headers(HEADERS)
        .max_buf_size(READ_BYTES)
        .handshake(TokioIo::new(stream));
    let unreadable = |cause: hyper::Error| format!("The response cannot be read: {cause}.");
    let (mut sender, connection) = handshake.await.map_err(unreadable)?;
    // Dropped with this function, so that a receiver cannot keep the connection.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let response = sender.send_request(request).await.map_err(unreadable)?;
    let status = response.status().as_u16();
    let (mut body, mut read) = (response.into_body(), 0);
    let mut stored = Vec::new();
    // The status has decided. A response that does not end is cut.
    while read < READ_BYTES
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await
    {
        let data = frame.into_data().unwrap_or_default();
        read += data.len();
        let room = STORED_BYTES - stored.len();
        stored.extend_from_slice(&data[..room.min(data.len())]);
    }
    Ok(Answer {
        status,
        body: stored,
    })
}

fn signed(
    target: &WebhookTarget,
    message: &Message,
    secrets: &[WebhookSecret],
    time: DateTime<Utc>,
) -> Result<Request<Full<Bytes>>, RequestFailure> {
    let seconds = time.timestamp();
    let request = Request::builder()
        .method(Method::POST)
        .uri(target.path().ok_or("The path of the URL is invalid.")?)
        .header(HOST, target.authority())
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", seconds)
        .header(
            "webhook-signature",
            signatures(secrets, &message.id, seconds, &message.body),
        )
        .body(Full::new(message.body.clone()));
    request.map_err(|cause| format!("The request is invalid: {cause}."))
}

/// Why a response with this status does not accept the message; `None` if it does.
fn refusal(status: u16) -> Option<String> {
    match status {
        200..=299 => None,
        300..=399 => Some(format!(
            "The receiver answered {status}. Redirects are not followed; change the URL to the one that receives messages."
        )),
        _ => Some(format!("The receiver answered {status}.")),
    }
}

/// The beginning of a response as text that a database can store.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests;
