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
use cloister_domain::{Principal, Slot};

use crate::keys::Keys;

/// The largest request body, in bytes (serving.md 5.1).
pub(crate) const BODY_BYTES_MAX: usize = 16 << 20;
/// Answers that one principal may have in progress.
pub(crate) const PER_PRINCIPAL_MAX: u32 = 8;
/// How long one answer may take.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(600);
/// How long answers in progress may go on when the daemon is to stop.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// State of the gateway.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) keys: Keys,
    pub(crate) active: PathBuf,
    engines: [PathBuf; 2],
    pub(crate) corpusd: PathBuf,
    pub(crate) recordd: PathBuf,
    running: Mutex<BTreeMap<Principal, u32>>,
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

    /// Takes one of the principal's places, until the ticket is dropped.
    pub(crate) fn enter(self: &Arc<Self>, principal: &Principal) -> Option<Ticket> {
        let mut running = self.running.lock().expect("no holder of this lock panics");
        let count = running.entry(principal.clone()).or_default();
        if *count >= PER_PRINCIPAL_MAX {
            return None;
        }
        *count += 1;
        Some(Ticket { shared: Arc::clone(self), principal: principal.clone() })
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
        if let Some(count) = running.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.principal);
            }
        }
    }
}
