//! Talking to the daemons of a scratch root.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use cloister_daemon::Connection;
use serde::{Serialize, de::DeserializeOwned};

/// One conversation with a daemon.
#[derive(Debug)]
pub struct Conversation(Connection);

impl Conversation {
    /// Connects to the daemon at `socket`; reads wait at most two minutes.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(socket: &Path) -> Result<Self> {
        let connection = Connection::connect(socket).context("connecting to a daemon")?;
        connection.set_timeout(Some(Duration::from_secs(120)));
        Ok(Self(connection))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn say(&mut self, message: &impl Serialize) -> Result<()> {
        self.0.write(message).context("sending to a daemon")
    }

    /// Takes the next message; `None` when the daemon ended the conversation.
    ///
    /// # Errors
    /// When the frame is broken or nothing came in time.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        self.0.read().context("hearing from a daemon")
    }
}

/// One question, one answer.
///
/// # Errors
/// When the daemon is gone or its answer is not what was expected.
pub fn ask<Answer: DeserializeOwned>(socket: &Path, request: &impl Serialize) -> Result<Answer> {
    let mut conversation = Conversation::open(socket)?;
    conversation.say(request)?;
    conversation.hear()?.context("the daemon ended the conversation without an answer")
}
