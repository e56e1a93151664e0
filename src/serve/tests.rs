//! Tests of a server whose device fails.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::checkpoint::CheckpointInfo;
use crate::data::Window;
use crate::data::sampling::WindowSpec;
use crate::device::{self, Compute, simulate_failure};
use crate::evaluate::{Averaging, PredictOptions};
use crate::model::{BackboneKind, ModelConfig};
use crate::schema::Schema;

/// Sends a clip and returns the status of the response.
fn predict(address: SocketAddr) -> String {
    let clip = std::fs::read("tests/data/clips/two_parts.mp4").unwrap();
    let head = b"--x\r\nContent-Disposition: form-data; name=\"clip\"; filename=\"a.mp4\"\r\n\r\n";
    let body = [&head[..], &clip, b"\r\n--x--\r\n"].concat();
    let mut stream = TcpStream::connect(address).unwrap();
    let lines = format!(
        "POST /api/predictions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[lines.as_bytes(), &body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_server_shuts_down_when_its_device_is_lost() {
    let Some(device) = device::unshared() else { return };
    let schema = Schema::mvfoul().unwrap();
    let config = ModelConfig::new(BackboneKind::R3dTiny, &schema);
    let window = Window::Frames { start: 0, end: 2 };
    let window = WindowSpec { window, target_fps: 25.0, frames_per_clip: 2 };
    let model = Model {
        name: "best.safetensors".to_owned(),
        net: config.init(1, &device),
        info: CheckpointInfo::new(&schema, config),
        schema,
        input: InputSpec { window, size: [16, 16], max_views: None },
        options: PredictOptions {
            batch_size: 1,
            workers: 0,
            max_clips: 1,
            inputs: Vec::new(),
            averaging: Averaging::NONE,
            temperatures: Vec::new(),
            thresholds: Vec::new(),
        },
        min_confidence: None,
        compute: Compute { device: device.clone(), ..device::open("wgpu:cpu").unwrap() },
    };
    let server = Server::bind("127.0.0.1", 0, Limits::default()).unwrap();
    let address = server.address();
    let running = std::thread::spawn(move || server.run(model, &AtomicBool::new(false)));
    assert_eq!(predict(address), "200");
    simulate_failure(&device);
    assert_eq!(predict(address), "500");
    let error = running.join().unwrap().unwrap_err().to_string();
    assert!(error.starts_with("the server is shutting down: the device is lost: "), "{error}");
    assert!(error.ends_with("simulated") && !error.contains('\n'), "{error}");
}
