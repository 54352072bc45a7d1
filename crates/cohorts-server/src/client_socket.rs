//! The connection of a client, to notice that the client has closed it.
//!
//! The server answers clients that close their side of the connection after the request, because senders of events do that.
//! Work that only a present client needs watches the connection instead.

use std::any::Any;
use std::future::pending;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net;
use tokio::time::sleep;

/// How often a connection is looked at after its first signal.
const INTERVAL: Duration = Duration::from_millis(100);

/// A second handle of the connection, below TLS.
#[derive(Clone)]
pub struct ClientSocket(Arc<TcpStream>);

/// Adds the socket to the data of a new connection.
pub fn remember(connection: &dyn Any, data: &mut Extensions) {
    let plain = connection.downcast_ref::<net::TcpStream>();
    let encrypted = connection.downcast_ref::<TlsStream<net::TcpStream>>();
    let stream = plain.or_else(|| encrypted.map(|stream| stream.get_ref().0));
    if let Some(stream) = stream
        && let Ok(handle) = stream.as_fd().try_clone_to_owned()
    {
        data.insert(ClientSocket(Arc::new(handle.into())));
    }
}

impl ClientSocket {
    /// The connection of a request, if it is known.
    pub fn of(request: &HttpRequest) -> Option<Self> {
        request.conn_data::<Self>().cloned()
    }

    /// Waits until the client has closed the connection or its side of it. An unknown connection is never closed.
    pub async fn closed(client: Option<&Self>) {
        match client {
            Some(client) => client.wait().await,
            None => pending().await,
        }
    }

    async fn wait(&self) {
        // Each wait has a handle of its own, because a handle has signals once only.
        let handle = self.0.try_clone().and_then(net::TcpStream::from_std);
        if let Ok(stream) = handle {
            // A failure ends the wait below.
            let _ = stream.readable().await;
        }
        // If the signal was that of bytes, which stay unread, there is no other one.
        while !self.is_closed() {
            sleep(INTERVAL).await;
        }
    }

    fn is_closed(&self) -> bool {
        match self.0.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use futures::FutureExt;

    use super::*;

    fn connect() -> (TcpStream, ClientSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, ClientSocket(Arc::new(server)))
    }

    #[tokio::test]
    async fn a_closed_connection_is_noticed() {
        let (client, socket) = connect();
        assert!(!socket.is_closed());
        drop(client);
        ClientSocket::closed(Some(&socket)).await;
    }

    #[tokio::test]
    async fn all_waits_end_when_the_connection_is_closed_later() {
        let (mut client, socket) = connect();
        let mut waits = [(); 2].map(|()| Box::pin(ClientSocket::closed(Some(&socket))));
        for wait in &mut waits {
            assert!(wait.now_or_never().is_none());
        }
        // Bytes of the next request do not end a wait.
        client.write_all(b"GET").unwrap();
        tokio::task::yield_now().await;
        for wait in &mut waits {
            assert!(wait.now_or_never().is_none());
        }
        drop(client);
        // The client's bytes are read first.
        (&*socket.0).read_exact(&mut [0; 3]).unwrap();
        for wait in waits {
            wait.await;
        }
    }
}
