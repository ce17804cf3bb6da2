//! The HTTP edge: API keys, limits, the OpenAI-shaped API, grounding and citations.
//!
//! It holds no weights and no documents: it asks the engine that holds the active generation and
//! corpusd, both over their sockets, and opens no connection to anything else. The only crate that
//! names axum.

mod admin;
mod answer;
mod api;
mod chat;
mod engine;
mod grounding;
mod http_problem;
mod keys;
mod question;
mod request;
mod routes;
mod shadow;
mod shared;
mod trial;

use std::{io, sync::Arc};

use cloister_config::Role;
use cloister_daemon::{Daemon, Limits, ListenError, ServeError};
use cloister_domain::{Class, Coded};

pub use keys::KeyError;
use keys::Keys;
use shared::Shared;

/// Connections to the administration socket at a time.
const ADMIN_CONNECTIONS_MAX: usize = 16;

/// Why the gateway ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A listener could not be had.
    #[error("a listener could not be had")]
    Listen(#[source] ListenError),
    /// The keys could not be read.
    #[error("the API keys could not be read")]
    Keys(#[source] KeyError),
    /// The event loop could not be started, or the HTTP server failed.
    #[error("the HTTP server failed")]
    Http(#[source] io::Error),
    /// The administration socket failed.
    #[error("the administration socket failed")]
    Serve(#[source] ServeError),
}

impl Coded for GatewayError {
    fn class(&self) -> Class {
        Class::Fault
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Listen(_) => "gateway.listen",
            Self::Keys(_) => "gateway.keys",
            Self::Http(_) => "gateway.http",
            Self::Serve(_) => "gateway.serve",
        }
    }
}

/// Serves until told to stop.
///
/// # Errors
/// [`GatewayError`]; the service manager starts it again.
pub fn run(daemon: &Daemon) -> Result<(), GatewayError> {
    debug_assert_eq!(daemon.role(), Role::Gatewayd);
    let config = daemon.config();
    let admin = daemon.listener().map_err(GatewayError::Listen)?;
    let api =
        daemon.tcp_listener_named("api", config.gateway.listen).map_err(GatewayError::Listen)?;
    api.set_nonblocking(true).map_err(GatewayError::Http)?;
    let address = api.local_addr().map_err(GatewayError::Http)?;
    let keys = Keys::open(&config.paths.gateway()).map_err(GatewayError::Keys)?;
    let shared = Arc::new(Shared::new(config, keys));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_io()
        .enable_time()
        .build()
        .map_err(GatewayError::Http)?;
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(api).map_err(GatewayError::Http)?;
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let routes = routes::all(&shared);
        let http = tokio::spawn(async move {
            let until = async {
                // Either a message or the sender's end means: stop.
                end.await.unwrap_or_default();
            };
            axum::serve(listener, routes).with_graceful_shutdown(until).await
        });
        daemon.ready();
        let limits = Limits { connections_max: ADMIN_CONNECTIONS_MAX };
        let admin_served = tokio::task::block_in_place(|| {
            daemon.serve(admin, limits, |connection| admin::converse(&shared, address, &connection))
        });
        // Nobody is left to hear it when the server has ended by itself.
        ended.send(()).unwrap_or_default();
        let stopping = tokio::time::timeout(shared::DRAIN_LIMIT, http).await;
        if stopping.is_err() {
            tracing::warn!("answers were still being written when the time to stop was over");
        }
        admin_served.map_err(GatewayError::Serve)
    });
    runtime.shutdown_background();
    served
}
