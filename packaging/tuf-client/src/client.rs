//! The workflow of a client (TUF 1.0.34, section 5): fetch, have it judged, keep.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_verify::{
    Instant,
    tuf::{Target, TrustedSet},
};

use crate::{
    folder::{Folder, quoted, read_limited, write_whole},
    foreign::Foreign,
    http::get,
};

/// Steps of the root chain in one refresh.
const ROOT_STEPS_MAX: usize = 1024;
/// Roles that are visited in the search for one file.
const ROLES_MAX: usize = 32;
/// What the importer's list is called.
const TOP: &str = "targets";

/// Up-to-date metadata.
#[derive(Debug)]
pub(crate) struct Client {
    set: TrustedSet,
    trusted: Folder,
    url: String,
}

impl Client {
    /// Begins with the root in `trusted` and brings everything up to date.
    pub(crate) fn refreshed(trusted: Folder, url: &str) -> Result<Self> {
        let root = trusted.read("root").context("no root is trusted yet")?;
        let set = TrustedSet::new(&root, Arc::new(Foreign), Some(now()?))?;
        let mut client = Self { set, trusted, url: url.trim_end_matches('/').to_owned() };
        client.roots()?;
        client.timestamp()?;
        client.snapshot()?;
        client.targets()?;
        Ok(client)
    }

    fn roots(&mut self) -> Result<()> {
        for _step in 0..ROOT_STEPS_MAX {
            let version = self.set.root().version() + 1;
            let Some(text) = get(&format!("{}/{version}.root.json", self.url))? else { break };
            self.set.update_root(&text).context("the next root")?;
            self.trusted.write("root", &text)?;
        }
        Ok(())
    }

    fn timestamp(&mut self) -> Result<()> {
        if let Some(held) = self.trusted.read("timestamp") {
            // One that no longer counts is no measure for the next.
            self.set.update_timestamp(&held).ok();
        }
        let text = self.fetch("timestamp", None)?;
        if self.set.update_timestamp(&text).context("the timestamp")? {
            self.trusted.write("timestamp", &text)?;
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<()> {
        let held = self.trusted.read("snapshot");
        if held.is_some_and(|held| self.set.update_snapshot(&held, true).is_ok()) {
            return Ok(());
        }
        let text = self.fetch("snapshot", self.set.offered_snapshot())?;
        self.set.update_snapshot(&text, false).context("the snapshot")?;
        self.trusted.write("snapshot", &text)
    }

    fn targets(&mut self) -> Result<()> {
        let held = self.trusted.read(TOP);
        if held.is_some_and(|held| self.set.update_targets(&held).is_ok()) {
            return Ok(());
        }
        let text = self.fetch(TOP, self.set.offered_targets(TOP))?;
        self.set.update_targets(&text).context("the targets")?;
        self.trusted.write(TOP, &text)
    }

    /// A file of the repository, by the version that is offered where names carry versions.
    fn fetch(&self, role: &str, version: Option<u64>) -> Result<Vec<u8>> {
        let version = version.filter(|_| self.set.root().consistent_snapshot());
        let prefix = version.map(|version| format!("{version}.")).unwrap_or_default();
        let url = format!("{}/{prefix}{}.json", self.url, quoted(role, ""));
        get(&url)?.with_context(|| format!("the repository has no {role} metadata"))
    }

    /// Fetches the file at `path` of the targets into `folder`, unless it lies there already.
    pub(crate) fn download(&mut self, path: &str, base: &str, folder: &Path) -> Result<()> {
        let target = self.find(path)?;
        let place = folder.join(quoted(path, ""));
        if read_limited(&place).is_ok_and(|there| target.is(&there)) {
            return Ok(());
        }
        let (parents, name) =
            path.rsplit_once('/').map_or(("", path), |(parents, name)| (parents, name));
        let mut url = format!("{}/", base.trim_end_matches('/'));
        if !parents.is_empty() {
            url.push_str(&format!("{}/", quoted(parents, "/")));
        }
        if self.set.root().consistent_snapshot() {
            url.push_str(&format!("{}.", target.name_digest()));
        }
        url.push_str(&quoted(name, ""));
        let content = get(&url)?.context("the repository has no such file")?;
        ensure!(target.is(&content), "the file is not the one that the targets list");
        write_whole(&place, &content)
    }

    /// Looks for `path` in the targets and in what they delegate to: before a role's siblings come
    /// those below it, in the order in which they are named (section 5.6.7).
    fn find(&mut self, path: &str) -> Result<Target> {
        let mut visited = BTreeSet::new();
        // A role, who delegated to it, and who delegated to that one.
        let mut waiting = vec![(TOP.to_owned(), TOP.to_owned(), TOP.to_owned())];
        while let Some((role, delegator, above)) = waiting.pop() {
            if visited.len() >= ROLES_MAX || !visited.insert(role.clone()) {
                continue;
            }
            if role != TOP {
                self.delegated(&role, (&delegator, &above), path)?;
            }
            let targets = self.set.delegated(&role, &delegator).context("it was just taken")?;
            if let Some(target) = targets.target(path) {
                return Ok(target.clone());
            }
            let below = targets.delegations(path);
            if below.iter().any(cloister_verify::tuf::Delegation::terminating) {
                waiting.clear();
            }
            for delegation in below.iter().rev() {
                waiting.push((delegation.name().to_owned(), role.clone(), delegator.clone()));
            }
        }
        bail!("the targets do not list such a file")
    }

    fn delegated(&mut self, role: &str, delegator: (&str, &str), path: &str) -> Result<()> {
        if self.set.delegated(role, delegator.0).is_some() {
            return Ok(());
        }
        let listed = self.set.offered_targets(role);
        let listed = listed.context("the snapshot does not name a delegated role")?;
        let held = self.trusted.read(role);
        let mut take = |text: &[u8]| self.set.update_delegated(text, role, delegator, path);
        if held.is_some_and(|held| take(&held).is_ok()) {
            return Ok(());
        }
        let text = self.fetch(role, Some(listed))?;
        self.set.update_delegated(&text, role, delegator, path).context("a delegated role")?;
        self.trusted.write(role, &text)
    }
}

/// The time by this machine's clock.
fn now() -> Result<Instant> {
    #[expect(clippy::disallowed_methods, reason = "a client outside of the appliance may ask")]
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Instant::from_unix_seconds(i64::try_from(seconds)?).context("a year beyond 9999")
}
