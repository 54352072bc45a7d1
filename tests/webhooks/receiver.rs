//! A receiver of messages: a small HTTP server that responds as a test wants.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

use super::PATIENCE;

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HashMap<String, String>,
    pub text: String,
    pub body: Value,
}

impl Received {
    /// The id of the message.
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub fn signatures(&self) -> Vec<&str> {
        self.headers["webhook-signature"].split(' ').collect()
    }

    /// Whether one of the signatures is valid for a secret.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let key = secret.strip_prefix("whsec_").expect("a secret");
        let key = STANDARD.decode(key).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let timestamp = &self.headers["webhook-timestamp"];
        let text = format!("{}.{timestamp}.{}", self.id(), self.text);
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        self.signatures()
            .contains(&format!("v1,{signature}").as_str())
    }
}

/// What a receiver does with a message.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    /// Redirects to a URL.
    Redirect(String),
    /// Does not respond before the receiver is dropped.
    Hang,
    /// Sends 200 and a body without end.
    Flood,
}

/// A receiver on a free port of this machine. It accepts messages unless it has other replies.
pub struct Receiver {
    port: u16,
    messages: mpsc::Receiver<Received>,
    replies: Arc<Mutex<Vec<Reply>>>,
    /// Connections that hang.
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Receiver {
    /// A receiver with replies to its first messages.
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, messages) = mpsc::channel();
        let mut replies: Vec<Reply> = replies.into_iter().collect();
        replies.reverse();
        let replies = Arc::new(Mutex::new(replies));
        let open = Arc::new(Mutex::new(Vec::new()));
        let (shared, hanging) = (Arc::clone(&replies), Arc::clone(&open));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (sender, replies) = (sender.clone(), Arc::clone(&shared));
                let (stream, hanging) = (stream.expect("a connection"), Arc::clone(&hanging));
                thread::spawn(move || serve(stream, &sender, &replies, &hanging));
            }
        });
        Self {
            port,
            messages,
            replies,
            open,
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Sets the reply to the next message.
    pub fn reply(&self, reply: Reply) {
        self.replies.lock().expect("replies").push(reply);
    }

    /// The next message.
    pub fn next(&self) -> Received {
        let message = self.messages.recv_timeout(PATIENCE);
        message.expect("a message")
    }

    /// The messages that have arrived already.
    pub fn arrived(&self) -> Vec<Received> {
        self.messages.try_iter().collect()
    }

    /// Whether a connection hangs.
    pub fn is_hanging(&self) -> bool {
        !self.open.lock().expect("connections").is_empty()
    }
}

fn serve(
    mut stream: TcpStream,
    sender: &Sender<Received>,
    replies: &Mutex<Vec<Reply>>,
    hanging: &Mutex<Vec<TcpStream>>,
) {
    let Some(message) = read(&stream) else {
        return;
    };
    let reply = replies.lock().expect("replies").pop();
    // A test that has ended takes no more messages.
    sender.send(message).ok();
    let text = match reply.unwrap_or(Reply::Status(204)) {
        Reply::Hang => return hanging.lock().expect("connections").push(stream),
        Reply::Flood => {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n";
            stream.write_all(head.as_bytes()).ok();
            while stream.write_all(&[b'x'; 4_096]).is_ok() {}
            return;
        }
        Reply::Status(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"),
        Reply::Redirect(url) => {
            format!("HTTP/1.1 302 X\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n")
        }
    };
    stream.write_all(text.as_bytes()).ok();
}

fn read(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut headers = HashMap::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let mut text = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut text).ok()?;
    let text = String::from_utf8(text).ok()?;
    let body = serde_json::from_str(&text).ok()?;
    Some(Received {
        headers,
        text,
        body,
    })
}
