//! What every handler sees: the keys, the paths of the other daemons, and the limits.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cloister_config::{Config, Role};
use cloister_domain::{Digest, Principal, Slot};

use crate::{http_problem::HttpProblem, keys::Keys, trial::Trials};

/// Answers that one principal may have in progress, so that one cannot take all places.
const PER_PRINCIPAL_MAX: u32 = 8;
/// How long a request's body may take to arrive.
pub(crate) const BODY_LIMIT: Duration = Duration::from_secs(60);
/// How long answers in progress may go on when the daemon is to stop.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// Answers in progress.
#[derive(Debug, Default)]
struct Running {
    all: u32,
    by_principal: BTreeMap<Principal, u32>,
}

/// State of the gateway.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) keys: Keys,
    pub(crate) active: PathBuf,
    engines: [PathBuf; 2],
    pub(crate) corpusd: PathBuf,
    pub(crate) recordd: PathBuf,
    pub(crate) trials: Arc<Trials>,
    /// Largest request body.
    pub(crate) body_bytes_max: usize,
    /// Fewest characters of a key that somebody chose.
    pub(crate) key_characters_min: usize,
    requests_max: u32,
    /// How long one answer may take.
    pub(crate) answer_limit: Duration,
    /// What answers name beside their release, and the log knows.
    pub(crate) configuration: Digest,
    running: Mutex<Running>,
    requests: AtomicU64,
    run: u64,
}

impl Shared {
    pub(crate) fn new(config: &Config, keys: Keys) -> Self {
        Self {
            keys,
            active: config.paths.shelf().join("active"),
            engines: Slot::ALL.map(|slot| config.paths.engine_socket(slot)),
            corpusd: config.paths.socket(Role::Corpusd),
            recordd: config.paths.socket(Role::Recordd),
            trials: Arc::new(Trials::new(&config.paths)),
            body_bytes_max: usize::try_from(config.gateway.body_bytes_max.0).unwrap_or(usize::MAX),
            key_characters_min: usize::try_from(config.gateway.key_characters_min)
                .unwrap_or(usize::MAX),
            requests_max: config.gateway.requests_max,
            configuration: config.digest(),
            answer_limit: Duration::from_secs(config.gateway.answer_s.into()),
            running: Mutex::default(),
            requests: AtomicU64::new(1),
            run: cloister_daemon::clock::unix_seconds(),
        }
    }

    /// The engines' sockets: slot a, then b.
    pub(crate) const fn engines(&self) -> &[PathBuf; 2] {
        &self.engines
    }

    /// A name for a request that says nothing of it.
    pub(crate) fn request_id(&self) -> String {
        format!("req_{:x}_{}", self.run, self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a place, one of all and one of the principal's, until the ticket is dropped.
    pub(crate) fn enter(self: &Arc<Self>, principal: &Principal) -> Result<Ticket, HttpProblem> {
        let mut running = self.running.lock().expect("no holder of this lock panics");
        if running.all >= self.requests_max {
            return Err(HttpProblem::requests(self.requests_max));
        }
        let count = running.by_principal.entry(principal.clone()).or_default();
        if *count >= PER_PRINCIPAL_MAX {
            return Err(HttpProblem::concurrency(PER_PRINCIPAL_MAX));
        }
        *count += 1;
        running.all += 1;
        Ok(Ticket { shared: Arc::clone(self), principal: principal.clone() })
    }
}

/// One answer in progress.
#[derive(Debug)]
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    principal: Principal,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut running = self.shared.running.lock().expect("no holder of this lock panics");
        running.all -= 1;
        if let Some(count) = running.by_principal.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                running.by_principal.remove(&self.principal);
            }
        }
    }
}
