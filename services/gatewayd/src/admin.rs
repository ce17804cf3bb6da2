//! The administration socket: who may reach it is the socket's business; each change of keys is
//! recorded before it takes effect.

use std::net::SocketAddr;

use cloister_daemon::Connection;
use cloister_domain::{LabelSet, Principal, Sensitive};
use cloister_wire::{
    Problem, Reply,
    gateway::{Answer, Request},
    record::{self, Entry, Event, Subject},
};

use crate::{
    keys::{FreshKey, StoredKey},
    shared::Shared,
};

/// Answers requests until the other end is done.
pub(crate) fn converse(shared: &Shared, address: SocketAddr, connection: &Connection) {
    while let Ok(Some(request)) = connection.read::<Request>() {
        let reply: Reply<Answer> = match request {
            Request::CreateKey { principal, labels, value } => {
                create(shared, principal, labels, value.as_ref())
            }
            Request::ListKeys => Ok(Answer::Keys(shared.keys.list())),
            Request::RevokeKey { id } => revoke(shared, &id),
            Request::Address => Ok(Answer::Address(address.to_string())),
        };
        if connection.write(&reply).is_err() {
            return;
        }
    }
}

fn create(
    shared: &Shared,
    principal: Principal,
    labels: LabelSet,
    given: Option<&Sensitive<String>>,
) -> Reply<Answer> {
    // What the record says of a key should then happen, so what can be refused is refused first.
    shared.keys.check_room().map_err(|error| Problem::of(&error))?;
    let key = match given {
        Some(value) => FreshKey::given(value, shared.key_characters_min, principal, labels),
        None => FreshKey::draw(principal, labels),
    };
    let key = key.map_err(|error| Problem::of(&error))?;
    shared.keys.check_new(&key.stored).map_err(|error| Problem::of(&error))?;
    record_change(shared, &key.stored, "created")?;
    let info = key.stored.info();
    shared.keys.add(key.stored).map_err(|error| Problem::of(&error))?;
    let value = String::from_utf8(key.value.expose().to_vec()).expect("printable ASCII");
    Ok(Answer::Created { info, value: Sensitive::new(value) })
}

fn revoke(shared: &Shared, id: &str) -> Reply<Answer> {
    let key = shared.keys.named(id).map_err(|error| Problem::of(&error))?;
    record_change(shared, &key, "withdrawn")?;
    shared.keys.remove(id).map_err(|error| Problem::of(&error))?;
    Ok(Answer::Revoked)
}

fn record_change(shared: &Shared, key: &StoredKey, change: &str) -> Result<(), Problem> {
    let labels: Vec<&str> = key.labels.iter().map(cloister_domain::Label::as_str).collect();
    let predicate = serde_json::json!({
        "change": change,
        "key": key.id,
        "principal": key.principal.as_str(),
        "labels": labels,
    });
    let serde_json::Value::Object(predicate) = predicate else {
        unreachable!("written as an object")
    };
    let entry = Entry {
        event: Event::KeyChange,
        act: format!("key/{}/{change}", key.id),
        subject: vec![Subject { name: "api-key".to_owned(), sha256: key.sha256 }],
        predicate,
    };
    let connection = Connection::connect(&shared.recordd).map_err(|error| Problem::of(&error))?;
    let reply: Reply<record::Answer> =
        connection.ask(&record::Request::Append(entry)).map_err(|error| Problem::of(&error))?;
    reply.map(drop)
}
