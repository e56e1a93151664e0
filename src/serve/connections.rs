//! Accepting connections, limiting their number and duration, and shutting them down.

use std::future::poll_fn;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::impatient::WriteTimeout;
use super::{Limits, ServeError};

/// Interval at which the server checks whether to shut down.
const TICK: Duration = Duration::from_millis(100);

/// Size of the read buffer, and so the maximum size of a request's head, in bytes.
const BUFFER: usize = 64 << 10;

/// Time for which a client's remaining data are read after its response.
const LINGER: Duration = Duration::from_secs(2);

/// Time for writing the last responses on shutdown. Uploads are not waited for.
const FAREWELL: Duration = Duration::from_millis(500);

/// Accepts connections until `stop` is set or the model `has_ended`. Then calls `close` to close the queue
/// and gives the requests in progress a moment to finish.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    has_ended: &dyn Fn() -> bool,
    stop: &AtomicBool,
    close: &dyn Fn(),
) -> Result<(), ServeError> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::Start)?;
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (end, ending) = watch::channel(false);
    let mut served = Ok(());
    while !stop.load(Ordering::Relaxed) {
        if has_ended() {
            served = Err(ServeError::Model);
            break;
        }
        let Ok(slot) = timeout(TICK, Arc::clone(&slots).acquire_owned()).await else { continue };
        let slot = slot.expect("the semaphore is never closed");
        let stream = match timeout(TICK, listener.accept()).await {
            Err(_) => continue,
            Ok(Ok((stream, _))) => stream,
            // Too many open files, or the client has already disconnected.
            Ok(Err(error)) => {
                log::debug!("a connection cannot be accepted: {error}");
                sleep(TICK).await;
                continue;
            }
        };
        let times = [limits.head, limits.idle];
        let connection = connection(stream, router.clone(), times, ending.clone());
        tokio::spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    close();
    // An error only means that there is no connection.
    let _ = end.send(true);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    // Lets a running prediction finish: GPU drivers may not cope with a process that exits during one.
    let predicted = async {
        while !has_ended() {
            sleep(TICK / 10).await;
        }
    };
    let _ = timeout(limits.grace, predicted).await;
    let _ = timeout(FAREWELL, slots.acquire_many(all)).await;
    served
}

/// Answers the requests of a connection until it is closed or the server shuts down. `head` is the time
/// limit for the head of a request, `idle` for pauses while sending a response.
async fn connection(
    mut stream: TcpStream,
    router: Router,
    [head, idle]: [Duration; 2],
    mut ending: watch::Receiver<bool>,
) {
    // Responses are sent without delay.
    let _ = stream.set_nodelay(true);
    let answered = {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(BUFFER);
        let service = TowerToHyperService::new(router);
        let stream = TokioIo::new(WriteTimeout::new(&mut stream, idle));
        let mut connection = pin!(builder.serve_connection(stream, service));
        let mut end = pin!(ending.wait_for(|ending| *ending));
        let mut shutting_down = false;
        poll_fn(|cx| {
            if !shutting_down && end.as_mut().poll(cx).is_ready() {
                shutting_down = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
        .await
    };
    match answered {
        Ok(()) => drop(timeout(LINGER, drain(&mut stream)).await),
        Err(error) => log::debug!("a connection ended: {error}"),
    }
}

/// Reads and discards what a client still sends after its request was refused early. If the connection were
/// closed with unread data, the client might not see the response.
async fn drain(stream: &mut TcpStream) {
    let mut rest = vec![0; BUFFER];
    while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
}
