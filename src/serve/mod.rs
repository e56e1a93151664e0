//! Serves a trained network over HTTP: a page, and an API that takes clips.
//!
//! One thread does all input and output; another one predicts, one request at a time. Uploads go to
//! files in a folder that is removed once the request is answered. The number and size of uploads and
//! the time they may take are limited ([`Limits`]). Other sites' pages in the user's browser cannot use
//! the server: the `Host` and `Origin` of a request must be the server's own. There is no encryption and
//! there are no accounts: whoever can reach the address can use it.

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

/// Limits on the server's use of resources.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Maximum size of a request's body, in bytes.
    pub max_upload: u64,
    /// Maximum number of clips per request; the network's maximum number of views, if set, replaces it.
    pub clips: usize,
    /// Maximum number of requests with clips that are being received or waiting while another one is
    /// processed.
    pub waiting: usize,
    /// Maximum number of open connections; further clients wait until one is closed.
    pub connections: usize,
    /// Time limit for receiving the head of a request, and for the pause between two requests on a
    /// connection.
    pub head: Duration,
    /// Longest pause while receiving a body or sending a response.
    pub idle: Duration,
    /// Time limit for receiving a body.
    pub body: Duration,
    /// Time limit for reading and decoding the clips of a request, from the start of its processing.
    pub reading: Duration,
    /// Time that the request in progress gets to finish when the server shuts down.
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

/// Why the server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server cannot listen on the address.
    #[error("{host}:{port}: cannot listen on this address: {error}")]
    Listen {
        /// Name or address of the host, as given.
        host: String,
        /// The port, 0 for any.
        port: u16,
        /// The operating system's message.
        error: io::Error,
    },
    /// A thread, folder or socket could not be created, or the page could not be rendered.
    #[error("the server cannot be started: {0}")]
    Start(io::Error),
    /// The prediction thread has panicked.
    #[error("the prediction thread has ended")]
    Model,
    /// The model's device has failed for good.
    #[error("the server is shutting down: {0}")]
    Device(String),
}

/// A server that is bound to its address; [`Server::run`] starts answering.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    hosts: Hosts,
    limits: Limits,
}

impl Server {
    /// Binds to an address: a name or IP address of this machine, and a port, 0 for any free one.
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

    /// Returns the address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop` is set, then gives the request in progress a moment to finish.
    ///
    /// # Errors
    /// [`ServeError::Start`], [`ServeError::Model`], [`ServeError::Device`].
    pub fn run(self, model: Model, stop: &AtomicBool) -> Result<(), ServeError> {
        let mut limits = self.limits;
        limits.clips = model.input.max_views.unwrap_or(limits.clips);
        // The page ignores further clips itself.
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
            slots: Arc::new(Semaphore::new(limits.waiting + 1)),
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
        // Drops tasks that have not finished yet. A running prediction cannot be dropped; it ends with the
        // process.
        drop(runtime);
        let path = folder.path().to_owned();
        if let Err(error) = folder.close() {
            log::warn!("{}: cannot be removed: {error}", path.display());
        }
        match served {
            // The thread returns its error, unless it has panicked.
            Err(ServeError::Model) => model.join().unwrap_or(Err(ServeError::Model)),
            served => served,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
