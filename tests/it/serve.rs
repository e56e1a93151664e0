//! The server's limits, and its answers to invalid requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use polyview::evaluate::{Averaging, PredictOptions};
use polyview::schema::Schema;
use polyview::serve::{Limits, Model, OPENAPI, ServeError, Server};
use serde_json::Value;

use crate::common::http::{self, answer, form, form_head, get, post, request, send, send_form};
use crate::common::serve::{clips, network};
use crate::common::wait;

/// Server in this process, with its own port.
struct Served {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

const TINY: [usize; 3] = [2, 16, 16];

/// Returns limits that a test can reach.
fn limits() -> Limits {
    Limits { max_upload: 1 << 20, grace: Duration::from_millis(500), ..Limits::default() }
}

impl Served {
    fn start(size: [usize; 3], limits: Limits) -> Self {
        let server = Server::bind("127.0.0.1", 0, limits).unwrap();
        let address = server.address();
        let (net, info) = network(size);
        let model = Model {
            name: "best.safetensors".to_owned(),
            net,
            schema: Schema::mvfoul().unwrap(),
            input: info.input.clone().unwrap(),
            info,
            options: PredictOptions {
                batch_size: 1,
                workers: 0,
                max_clips: 2,
                inputs: Vec::new(),
                averaging: Averaging::NONE,
                temperatures: Vec::new(),
                thresholds: Vec::new(),
            },
            min_confidence: Some(0.9),
            compute: polyview::device::open("cpu").unwrap(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let raised = Arc::clone(&stop);
        let thread = Some(std::thread::spawn(move || server.run(model, &raised)));
        Self { address, stop, thread }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let served = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            served.unwrap().unwrap();
        }
    }
}

/// Checks that a value has the keys and types that the document specifies, and no others.
fn fits(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).expect(reference);
        return fits(document, schema, value, place);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let number = kind == "integer" && types.contains(&"number");
    assert!(types.contains(&kind) || number, "{place}: {value} is not of {types:?}");
    let list = value.as_array().into_iter().flatten();
    list.for_each(|item| fits(document, &schema["items"], item, &format!("{place}[]")));
    let Some(object) = value.as_object() else { return };
    for (key, value) in object {
        let known = schema["properties"].get(key).or(schema.get("additionalProperties"));
        let known = known.unwrap_or_else(|| panic!("{place}.{key} is not documented"));
        fits(document, known, value, &format!("{place}.{key}"));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(object.contains_key(required.as_str().unwrap()), "{place}: no {required}");
    }
}

#[test]
fn the_document_describes_the_routes_and_their_answers() {
    let served = Served::start(TINY, limits());
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(get(served.address, "/openapi.json").json(), document);
    let host = format!("Host: {}", served.address);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = request(served.address, &format!("{method} {path}"), &[&host], b"");
            let described = methods.get(method.to_lowercase()).is_some();
            assert_eq!(answer.status != 405, described, "{method} {path}: {answer:?}");
            if !described {
                answer.error();
            } else if method == "GET" {
                assert_eq!(answer.status, 200, "{path}");
            }
        }
    }
    let schema = |name: &str| &document["components"]["schemas"][name];
    let check = |name: &str, answer: http::Answer, status: u16| {
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
        fits(&document, schema(name), &answer.json(), name);
    };
    check("Model", get(served.address, "/api/model"), 200);
    check("Queue", get(served.address, "/api/queue"), 200);
    let [clip, _] = clips();
    check("Prediction", post(served.address, &[("a.mp4", clip), ("b.mp4", b"x")]), 200);
    check("Unreadable", post(served.address, &[("b.mp4", b"x")]), 422);
    check("Error", get(served.address, "/api"), 404);
}

#[test]
fn paths_that_are_not_served_are_not_found() {
    let served = Served::start(TINY, limits());
    for path in [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/api/model/",
        "/api/model/../queue",
        "/API/MODEL",
        "/index.html",
    ] {
        let answer = get(served.address, path);
        assert_eq!((answer.status, answer.error().contains("root")), (404, false), "{path}");
    }
    let page = get(served.address, "/");
    assert!(page.status == 200 && page.body.contains("best.safetensors"), "{page:?}");
    for line in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: same-origin",
        "cache-control: no-store",
    ] {
        for answer in [&page, &get(served.address, "/api/model"), &get(served.address, "/no")] {
            assert!(answer.head.contains(line), "{line}: {answer:?}");
        }
    }
}

#[test]
fn other_hosts_and_pages_are_refused() {
    let served = Served::start(TINY, limits());
    let address = served.address;
    let port = address.port();
    let ask = |first: &str, lines: &[&str]| request(address, first, lines, b"").status;
    let localhost = format!("Host: localhost:{port}");
    assert_eq!(ask("GET /api/model", &[&localhost]), 200);
    let evil = format!("Host: evil.example:{port}");
    for lines in [&[&*evil][..], &["Host: 10.0.0.1"], &[], &[&*localhost, &*evil], &["Host:"]] {
        let answer = request(address, "GET /api/model", lines, b"");
        assert_eq!(answer.status, 421, "{lines:?}");
        assert!(!answer.body.contains("best.safetensors"), "{answer:?}");
    }
    assert_eq!(ask("GET http://evil.example/api/model", &[&localhost]), 421);
    let body = form(&[("clip", "a.mp4", &clips()[0])]);
    let kind = format!("Content-Type: multipart/form-data; boundary={}", http::BOUNDARY);
    let length = format!("Content-Length: {}", body.len());
    let from = |origins: &[&str]| {
        let lines = [&[&*localhost, &*kind, &*length], origins].concat();
        request(address, "POST /api/predictions", &lines, &body).status
    };
    let own = format!("Origin: http://localhost:{port}");
    assert_eq!(from(&[&own]), 200);
    assert_eq!(from(&[]), 200);
    let other_port = "Origin: http://localhost:1";
    for origin in ["Origin: https://evil.example", "Origin: null", other_port, "Origin:"] {
        assert_eq!(from(&[origin]), 403, "{origin}");
    }
    assert_eq!(from(&[&own, "Origin: https://evil.example"]), 403);
}

#[test]
fn bodies_that_are_not_forms_are_refused() {
    let served = Served::start(TINY, limits());
    let address = served.address;
    let host = format!("Host: {address}");
    let typed = |kind: &str, body: &[u8]| {
        let length = format!("Content-Length: {}", body.len());
        let answer = request(address, "POST /api/predictions", &[&host, kind, &length], body);
        (answer.status, answer.error())
    };
    let good = form(&[("clip", "a.mp4", &clips()[0])]);
    let kind = format!("Content-Type: multipart/form-data; boundary={}", http::BOUNDARY);
    assert_eq!(typed("Content-Type: application/json", b"{}").0, 415);
    assert_eq!(typed("X-No-Type: 1", &good).0, 415);
    let (status, error) = typed("Content-Type: multipart/form-data", &good);
    assert!(status == 400 && error.contains("boundary"), "{error}");
    let other = typed("Content-Type: multipart/form-data; boundary=other", &good);
    assert_eq!(other.0, 400, "{other:?}");
    let nameless = form(&[("clip", "", &clips()[0])]);
    let wrong = form(&[("file", "a.mp4", &clips()[0])]);
    let headless = format!("--{}\r\n\r\nx\r\n--{0}--\r\n", http::BOUNDARY).into_bytes();
    let odd = format!("--{}\r\nContent-Disposition\r\n\r\nx", http::BOUNDARY).into_bytes();
    let bodies = [vec![], good[..good.len() - 9].to_vec(), good[1..].to_vec(), nameless, wrong];
    for body in bodies.iter().chain(&[headless, odd, form(&[])]) {
        let (status, error) = typed(&kind, body);
        assert_eq!(
            status,
            400,
            "{error}: {}",
            String::from_utf8_lossy(&body[..body.len().min(90)])
        );
    }
    // A client that disconnects in the middle does not affect others.
    drop(send(address, &[form_head(address, good.len()).as_bytes(), &good[..300]].concat()));
    assert_eq!(answer(send_form(address, &good)).unwrap().status, 200);
}

#[test]
fn too_large_or_too_many_uploads_are_refused() {
    let served = Served::start(TINY, Limits { clips: 3, ..limits() });
    let address = served.address;
    let [clip, _] = clips();
    let large = vec![7; 2 << 20];
    assert_eq!(post(address, &[("a.mp4", &large)]).status, 413);
    // Without a length that reveals it.
    let body = form(&[("clip", "a.mp4", &large)]);
    let chunked = form_head(address, 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let mut bytes = format!("{chunked}{:x}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(b"\r\n0\r\n\r\n");
    assert_eq!(answer(send(address, &bytes)).unwrap().status, 413);
    assert_eq!(post(address, &[("a.mp4", &clip[..]); 3]).status, 200);
    let more = post(address, &[("a.mp4", &clip[..]); 4]);
    assert!(more.status == 400 && more.error().contains("more than 3 clips"), "{more:?}");
    // Data that belongs to no part is refused before it fills the memory.
    let served = Served::start(TINY, Limits { max_upload: 64 << 20, ..limits() });
    let endless = vec![b'a'; 4 << 20];
    let answer = answer(send_form(served.address, &endless)).unwrap();
    assert!(answer.status == 400 && answer.error().contains("no part begins"), "{answer:?}");
}

#[test]
fn answers_contain_names_of_clips_but_no_local_path() {
    let served = Served::start(TINY, limits());
    let [first, second] = clips();
    let long = format!("{}.mp4", "n".repeat(500));
    let clips = [
        ("../../etc/a.mp4", &first[..]),
        ("C:\\fouls\\b.MP4", &second[..]),
        (&long, &first[..]),
        ("noise.mp4", &[9; 5000]),
        ("text.txt", b"not a video"),
        ("empty.mp4", b""),
    ];
    let answer = post(served.address, &clips);
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = answer.json();
    let names = |key: &str| -> Vec<String> {
        let list = said[key].as_array().unwrap();
        list.iter().map(|view| view["clip"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("views"), ["a.mp4", "b.MP4", &"n".repeat(120)]);
    assert_eq!(names("unreadable"), ["noise.mp4", "text.txt", "empty.mp4"]);
    let bad = post(served.address, &clips[4..]);
    assert_eq!(bad.status, 422);
    assert_eq!(bad.json()["unreadable"].as_array().unwrap().len(), 2);
    let temporary = std::env::temp_dir();
    for answer in [&answer, &bad] {
        assert!(!answer.body.contains(temporary.to_str().unwrap()), "{answer:?}");
        assert!(!answer.body.contains("polyview-serve"), "{answer:?}");
    }
}

#[test]
fn slow_clients_are_disconnected() {
    let short = Duration::from_millis(300);
    let limits = Limits { head: short, idle: short, body: 3 * short, waiting: 0, ..limits() };
    let served = Served::start(TINY, limits);
    let address = served.address;
    let good = form(&[("clip", "a.mp4", &clips()[0])]);
    let head = form_head(address, good.len());
    // Nothing is sent, or half of a head, or half of a body.
    assert!(answer(send(address, b"")).is_none());
    assert!(answer(send(address, &head.as_bytes()[..50])).is_none());
    let half = [head.as_bytes(), &good[..200]].concat();
    let stopped = send(address, &half);
    // It occupies the only place, and the bodies of other requests are not read.
    wait::until("a place is taken", || answer(send_form(address, &good)).unwrap().status == 503);
    let busy = answer(send_form(address, &good));
    let stopped = answer(stopped).unwrap();
    assert!(stopped.status == 408 && !stopped.error().is_empty(), "{stopped:?}");
    if let Some(busy) = busy.filter(|busy| busy.status == 503) {
        assert!(busy.head.contains("retry-after: ") && !busy.error().is_empty(), "{busy:?}");
    }
    // Never idle for long, but too slow overall.
    let mut trickle = send(address, head.as_bytes());
    let mut status = String::new();
    for byte in good.iter().cycle() {
        std::thread::sleep(Duration::from_millis(20));
        if trickle.write_all(&[*byte]).is_err() || has_answer(&mut trickle, &mut status) {
            break;
        }
    }
    assert!(status.starts_with("HTTP/1.1 408"), "{status:?}");
    assert_eq!(answer(send_form(address, &good)).unwrap().status, 200);
}

#[test]
fn clips_that_take_too_long_are_not_read() {
    let served = Served::start(TINY, Limits { reading: Duration::ZERO, ..limits() });
    let [first, second] = clips();
    let answer = post(served.address, &[("a.mp4", first), ("b.mp4", second)]);
    assert_eq!(answer.status, 422, "{answer:?}");
    let said = answer.json();
    let clips = said["unreadable"].as_array().unwrap();
    let reason = "given up: reading took longer than 0 seconds";
    for (clip, name) in clips.iter().zip(["a.mp4", "b.mp4"]) {
        assert_eq!(clip["clip"], name);
        assert!(clip["reason"].as_str().unwrap().contains(reason), "{answer:?}");
    }
    assert_eq!(clips.len(), 2);
}

/// Sends more requests for the page than the system's buffers hold answers to; the last one closes
/// the connection. Returns the stream and the number of requests.
fn many_pages(address: SocketAddr) -> (TcpStream, usize) {
    const COUNT: usize = 600;
    let page = |more: &str| format!("GET / HTTP/1.1\r\nHost: {address}\r\n{more}\r\n");
    let requests = page("").repeat(COUNT - 1) + &page("Connection: close\r\n");
    (send(address, requests.as_bytes()), COUNT)
}

#[test]
fn a_client_that_does_not_read_its_answer_is_disconnected() {
    let head = Duration::from_secs(600);
    let limits = Limits { head, idle: Duration::from_secs(1), connections: 1, ..limits() };
    let served = Served::start(TINY, limits);
    // This client holds the only connection.
    let (greedy, _) = many_pages(served.address);
    assert_eq!(get(served.address, "/api/queue").status, 200);
    drop(greedy);
    // Pauses are allowed.
    let (mut slow, count) = many_pages(served.address);
    let (mut text, mut part) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        std::thread::sleep(Duration::from_millis(20));
        match slow.read(&mut part).unwrap() {
            0 => break,
            read => text.extend_from_slice(&part[..read]),
        }
    }
    let answers = String::from_utf8_lossy(&text).matches("HTTP/1.1 200").count();
    assert_eq!(answers, count);
}

/// Returns whether the server has answered by now, and stores the start of its answer in `status`.
fn has_answer(stream: &mut TcpStream, status: &mut String) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut bytes = [0; 64];
    let count = stream.read(&mut bytes).unwrap_or(0);
    *status = String::from_utf8_lossy(&bytes[..count]).into_owned();
    count > 0
}

#[test]
fn disconnected_clients_leave_the_queue_and_shutdown_does_not_wait_long() {
    // A prediction takes seconds on any machine.
    let served = Served::start([64, 224, 398], limits());
    let address = served.address;
    let [clip, _] = clips();
    let body = form(&[("clip", "a.mp4", clip), ("clip", "b.mp4", clip)]);
    let queue = || {
        let queue = get(address, "/api/queue").json();
        (queue["waiting"].as_u64().unwrap(), queue["running"].as_bool().unwrap())
    };
    let first = send_form(address, &body);
    wait::until("the first runs", || queue() == (0, true));
    let second = send_form(address, &body);
    let third = send_form(address, &body);
    wait::until("two wait", || queue() == (2, true));
    drop(second);
    wait::until("one has gone", || queue() == (1, true));
    drop(served);
    // Waiting requests get an answer; the running one is cut off unless it finished just before.
    let third = answer(third).unwrap();
    assert!(third.status == 503 && third.error().contains("shutting down"), "{third:?}");
    assert!(answer(first).is_none_or(|answer| answer.status == 200));
    assert!(TcpStream::connect(address).is_err());
}
