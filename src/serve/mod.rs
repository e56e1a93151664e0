//! A trained network behind HTTP on this machine: a page, and an API that takes clips.
//!
//! One thread does all input and output, another one predicts, a request at a time. Uploads go to files
//! in a folder that is removed with the answer; how many there are, how large, and how long they may
//! take is limited ([`Limits`]), and so is what a stranger's page in the user's browser can reach: the
//! `Host` and `Origin` of a request must be the server's own. There is no encryption and there are no
//! accounts: whoever reaches the address may use it.

mod answers;
mod connections;
mod guard;
mod impatient;
mod model;
mod queue;
mod requests_log;
mod routes;
mod upload;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::Semaphore;

pub use model::Model;

use crate::data::InputSpec;
use crate::web::served_page;
use guard::Hosts;
use queue::Queue;
use routes::Shared;

/// The API as an OpenAPI 3.1 document.
pub const OPENAPI: &str = include_str!("../../schemas/openapi.json");

/// What the server takes upon itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Most bytes of a request's body.
    pub max_upload: u64,
    /// Most clips of a request, unless the network takes fewer views.
    pub clips: usize,
    /// Requests with clips that may be received or wait while another one is answered.
    pub waiting: usize,
    /// Open connections; more wait until one is closed.
    pub connections: usize,
    /// Time for the head of a request, and between two requests of a connection.
    pub head: Duration,
    /// Longest pause in a body, and in taking an answer.
    pub idle: Duration,
    /// Time for a body.
    pub body: Duration,
    /// Time for reading the clips of a request, once it is its turn.
    pub reading: Duration,
    /// Time that a request which is being answered has when the server ends.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_upload: 256 << 20,
            clips: 16,
            waiting: 16,
            connections: 64,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(15),
            body: Duration::from_secs(300),
            reading: Duration::from_secs(300),
            grace: Duration::from_secs(5),
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("{host}:{port}: cannot be listened on: {error}")]
    Listen {
        /// Name or address of the host, as given.
        host: String,
        /// The port, 0 for any.
        port: u16,
        /// The operating system's message.
        error: io::Error,
    },
    /// The system has no thread, no folder or no socket for it.
    #[error("the server cannot be started: {0}")]
    Start(io::Error),
    /// The thread that predicts has panicked.
    #[error("the thread that predicts has ended")]
    Model,
    /// The device of the model answers nothing any more.
    #[error("the server ends: {0}")]
    Device(String),
}

/// A server that has its address, and will answer once it runs.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    hosts: Hosts,
    limits: Limits,
}

impl Server {
    /// Takes an address: a name or number of this machine and a port, 0 for any free one.
    ///
    /// # Errors
    /// [`ServeError::Listen`].
    pub fn bind(host: &str, port: u16, limits: Limits) -> Result<Self, ServeError> {
        let listen = || {
            let number = host.trim_start_matches('[').trim_end_matches(']');
            let addresses: Vec<SocketAddr> = (number, port).to_socket_addrs()?.collect();
            let listener = TcpListener::bind(addresses.as_slice())?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let failed = |error| ServeError::Listen { host: host.to_owned(), port, error };
        let (listener, address) = listen().map_err(failed)?;
        Ok(Self { listener, address, hosts: Hosts::new(host, address.ip()), limits })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is raised. Then a request that is being answered has a moment to end.
    ///
    /// # Errors
    /// [`ServeError::Start`], [`ServeError::Model`], [`ServeError::Device`].
    pub fn run(self, model: Model, stop: &AtomicBool) -> Result<(), ServeError> {
        let mut limits = self.limits;
        limits.clips = model.input.max_views.unwrap_or(limits.clips);
        // The page leaves more out by itself.
        let input = InputSpec { max_views: Some(limits.clips), ..model.input.clone() };
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ServeError::Start)?;
        let folder = tempfile::Builder::new().prefix("polyview-serve-").tempdir();
        let folder = folder.map_err(ServeError::Start)?;
        let queue = Arc::new(Queue::new());
        let shared = Arc::new(Shared {
            page: served_page(
                &model.info,
                &model.schema,
                &input,
                &model.name,
                &model.options.averaging,
            )
            .map_err(io::Error::other)
            .map_err(ServeError::Start)?,
            about: model.about(limits.clips, limits.max_upload),
            places: Arc::new(Semaphore::new(limits.waiting + 1)),
            queue: Arc::clone(&queue),
            folder: folder.path().to_owned(),
            hosts: self.hosts,
            limits: limits.clone(),
        });
        let model = model.start(Arc::clone(&queue), limits.reading)?;
        let router = routes::router(shared);
        let served = runtime.block_on(connections::serve(
            self.listener,
            router,
            &limits,
            &|| model.is_finished(),
            stop,
            &|| queue.close(),
        ));
        queue.close();
        // What has not ended by now is dropped; a prediction cannot be, and ends with the process.
        drop(runtime);
        let path = folder.path().to_owned();
        if let Err(error) = folder.close() {
            log::warn!("{}: cannot be removed: {error}", path.display());
        }
        match served {
            // It says itself why, unless it has panicked.
            Err(ServeError::Model) => model.join().unwrap_or(Err(ServeError::Model)),
            served => served,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
