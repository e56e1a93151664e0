//! Connections: how many, how long, and how they end.

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

use super::impatient::Impatient;
use super::{Limits, ServeError};

/// How often it is checked whether the server is to end.
const TICK: Duration = Duration::from_millis(100);

/// Bytes of a request that are read at once; its head is no longer than that.
const BUFFER: usize = 64 << 10;

/// How long what a client still sends is read after its answer.
const LINGER: Duration = Duration::from_secs(2);

/// How long the last answers may take to be written. Uploads are not waited for.
const FAREWELL: Duration = Duration::from_millis(500);

/// Accepts connections until `stop` is raised or the model `has_ended`. Then the queue is `close`d, and what
/// is being answered has a moment.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    has_ended: &dyn Fn() -> bool,
    stop: &AtomicBool,
    close: &dyn Fn(),
) -> Result<(), ServeError> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::Start)?;
    let places = Arc::new(Semaphore::new(limits.connections));
    let (end, ending) = watch::channel(false);
    let mut served = Ok(());
    while !stop.load(Ordering::Relaxed) {
        if has_ended() {
            served = Err(ServeError::Model);
            break;
        }
        let Ok(place) = timeout(TICK, Arc::clone(&places).acquire_owned()).await else { continue };
        let place = place.expect("the semaphore is never closed");
        let stream = match timeout(TICK, listener.accept()).await {
            Err(_) => continue,
            Ok(Ok((stream, _))) => stream,
            // Too many open files, or a client that has gone already.
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
            drop(place);
        });
    }
    drop(listener);
    close();
    // Nobody listens where there is no connection.
    let _ = end.send(true);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    // Drivers do not like to be left in the middle of something.
    let predicted = async {
        while !has_ended() {
            sleep(TICK / 10).await;
        }
    };
    let _ = timeout(limits.grace, predicted).await;
    let _ = timeout(FAREWELL, places.acquire_many(all)).await;
    served
}

/// Answers the requests of a connection, until it or the server ends. The head of a request and pauses in
/// taking an answer have these times.
async fn connection(
    mut stream: TcpStream,
    router: Router,
    [head, idle]: [Duration; 2],
    mut ending: watch::Receiver<bool>,
) {
    // An answer is written at once.
    let _ = stream.set_nodelay(true);
    let answered = {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(BUFFER);
        let service = TowerToHyperService::new(router);
        let stream = TokioIo::new(Impatient::new(&mut stream, idle));
        let mut connection = pin!(builder.serve_connection(stream, service));
        let mut end = pin!(ending.wait_for(|ending| *ending));
        let mut told = false;
        poll_fn(|cx| {
            if !told && end.as_mut().poll(cx).is_ready() {
                told = true;
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

/// Reads what a client sends that was refused before its request's end. If the connection were closed
/// over it, the client might not see the answer.
async fn drain(stream: &mut TcpStream) {
    let mut rest = vec![0; BUFFER];
    while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
}
