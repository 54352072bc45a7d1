//! A listener with prepared responses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use cohorts_client::Client;

pub const KEY: &str = "phx_0123";

/// Sends the responses in order, one per connection. The thread returns the requests.
pub fn listen(responses: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let requests = std::thread::spawn(move || {
        let exchange = |response: String| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let request = read(&stream);
            stream
                .write_all(response.as_bytes())
                .expect("an open connection");
            request
        };
        responses.into_iter().map(exchange).collect()
    });
    let client = Client::with_key(&format!("http://{address}/"), KEY).expect("a valid key");
    (client, requests)
}

/// Reads a request: the head in lower case, and the body.
fn read(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).expect("the head");
    }
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |text| text.parse().expect("a number"))];
    reader.read_exact(&mut body).expect("the body");
    head + &String::from_utf8(body).expect("text")
}

pub fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
