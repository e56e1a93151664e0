//! A client of `polyview serve` that can also do what no client should.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::wait::LIMIT;

/// What separates the parts of [`form`].
pub const BOUNDARY: &str = "x-x-x";

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The lines above the body.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The one line of an error.
    pub fn error(&self) -> String {
        let error = self.json()["error"].as_str().expect("errors have a text").to_owned();
        assert!(!error.is_empty() && !error.contains('\n'), "{error:?}");
        error
    }
}

/// Opens a connection and sends bytes; a server that has answered already may not take them all.
pub fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(LIMIT)).expect("the limit is not 0");
    let _ = stream.write_all(bytes);
    stream
}

/// The answer, once the server has closed the connection; `None` if it was closed without one.
pub fn answer(mut stream: TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    Answer::parse(&bytes)
}

/// A request with these lines after the first one, and its answer.
pub fn request(address: SocketAddr, first: &str, lines: &[&str], body: &[u8]) -> Answer {
    let mut text = format!("{first} HTTP/1.1\r\nConnection: close\r\n");
    lines.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
    let bytes = [text.as_bytes(), b"\r\n", body].concat();
    answer(send(address, &bytes)).unwrap_or_else(|| panic!("{first} {lines:?}: no answer"))
}

/// `GET` as a browser on this machine asks.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path}"), &[&format!("Host: {address}")], b"")
}

/// A form with files: names of parts, names of files and contents.
pub fn form(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: video/mp4\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// The head of a request with a form of this length.
pub fn form_head(address: SocketAddr, length: usize) -> String {
    format!(
        "POST /api/predictions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Sends a form to be predicted from.
pub fn send_form(address: SocketAddr, body: &[u8]) -> TcpStream {
    send(address, &[form_head(address, body.len()).as_bytes(), body].concat())
}

/// Predicts from clips: names of files and contents.
pub fn post(address: SocketAddr, clips: &[(&str, &[u8])]) -> Answer {
    let parts: Vec<_> = clips.iter().map(|(file, content)| ("clip", *file, *content)).collect();
    answer(send_form(address, &form(&parts))).expect("every form is answered")
}
