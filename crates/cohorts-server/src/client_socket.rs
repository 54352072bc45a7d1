//! The connection of a client, to notice that the client has closed it.
//!
//! The server answers clients that close their side of the connection after the request, because senders of events do that.
//! Work that only a present client needs watches the connection instead.

use std::any::Any;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net;
use tokio::time::sleep;

/// How often a connection is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// A second handle of the connection. A connection with TLS has none.
#[derive(Clone)]
pub struct ClientSocket(Arc<TcpStream>);

/// Adds the socket to the data of a new connection.
pub fn remember(connection: &dyn Any, data: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<net::TcpStream>()
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

    /// Waits until the client has closed the connection or its side of it.
    pub async fn closed(&self) {
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
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_closed_connection_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let socket = ClientSocket(Arc::new(server));
        assert!(!socket.is_closed());
        drop(client);
        socket.closed().await;
    }
}
