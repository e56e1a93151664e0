//! A client for `polyview serve` that can also send what no client should.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::wait::LIMIT;

/// Boundary between the parts of [`form`].
pub const BOUNDARY: &str = "x-x-x";

/// The server's answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line and the headers, in lower case.
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

    /// Parses the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Returns the text of an error, which is a single line.
    pub fn error(&self) -> String {
        let error = self.json()["error"].as_str().expect("errors have a text").to_owned();
        assert!(!error.is_empty() && !error.contains('\n'), "{error:?}");
        error
    }
}

/// Opens a connection and sends bytes; a server that has already answered may not read them all.
pub fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(LIMIT)).expect("the limit is not 0");
    let _ = stream.write_all(bytes);
    stream
}

/// Reads the answer until the server closes the connection; `None` if it closes it without one.
pub fn answer(mut stream: TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    Answer::parse(&bytes)
}

/// Sends a request with these header lines and returns the answer.
pub fn request(address: SocketAddr, first: &str, lines: &[&str], body: &[u8]) -> Answer {
    let mut text = format!("{first} HTTP/1.1\r\nConnection: close\r\n");
    lines.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
    let bytes = [text.as_bytes(), b"\r\n", body].concat();
    answer(send(address, &bytes)).unwrap_or_else(|| panic!("{first} {lines:?}: no answer"))
}

/// Sends a `GET` request as a browser on the same machine does.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path}"), &[&format!("Host: {address}")], b"")
}

/// Returns a form with files; each part is a (field name, file name, content).
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

/// Returns the head of a request that posts a form of this length.
pub fn form_head(address: SocketAddr, length: usize) -> String {
    format!(
        "POST /api/predictions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Posts a form whose clips are to be predicted.
pub fn send_form(address: SocketAddr, body: &[u8]) -> TcpStream {
    send(address, &[form_head(address, body.len()).as_bytes(), body].concat())
}

/// Posts clips, each a (file name, content), and returns the answer with their prediction.
pub fn post(address: SocketAddr, clips: &[(&str, &[u8])]) -> Answer {
    let parts: Vec<_> = clips.iter().map(|(file, content)| ("clip", *file, *content)).collect();
    answer(send_form(address, &form(&parts))).expect("every form is answered")
}
