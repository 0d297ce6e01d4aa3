//! Remembers applications and their endpoints, so that a usual batch on Postgres need not read them first.
//!
//! An entry may be of any age. The statement that stores a batch compares the revision of each application, and stores
//! nothing if one differs; the application is then forgotten and read afresh. A revision is random and
//! never comes twice, not even in a database that has lost its last writes and goes on from an earlier state.
//!
//! All workers read and write the entries; a mutex orders them. Must not be believed without the comparison.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::apps::{App, Named, find_apps};
use super::member::{AppName, Member};
use crate::error::Result;
use crate::store::Store;

/// The most bytes that all entries take, roughly. If they would take more, all older ones are forgotten.
const MOST: usize = 32 << 20;
/// The most bytes of one application. A larger one is not remembered, and read for each batch.
const MOST_OF_ONE: usize = 1 << 20;
/// Bytes that an application or endpoint takes beside its texts, roughly.
const OVERHEAD: usize = 512;

/// The remembered applications.
#[derive(Default)]
pub(super) struct Known(Mutex<State>);

#[derive(Default)]
struct State {
    /// By organization, then by the id or uid that messages name.
    apps: HashMap<String, HashMap<String, Arc<App>>>,
    /// The bytes that the entries take, roughly.
    size: usize,
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the members' applications. Reads those that are not remembered, and remembers them. Leaves out
    /// applications that do not exist.
    pub async fn find<'a>(&self, store: &Store, members: &'a [Member]) -> Result<Named<'a>> {
        let mut found = Named::new();
        let mut missing = Vec::new();
        {
            let state = self.state();
            for member in members {
                let name = member.app_name();
                if found.contains_key(&name) {
                    continue;
                }
                match state.apps.get(name.org_id).and_then(|apps| apps.get(name.name)) {
                    Some(app) => {
                        found.insert(name, app.clone());
                    }
                    None => missing.push(name),
                }
            }
        }
        if !missing.is_empty() {
            let read = find_apps(store, missing).await?;
            let mut state = self.state();
            for (name, app) in &read {
                state.insert(*name, app.clone());
            }
            found.extend(read);
        }
        Ok(found)
    }

    /// Forgets these applications, because they have changed.
    pub fn forget<'a>(&self, names: impl IntoIterator<Item = &'a AppName<'a>>) {
        let mut state = self.state();
        for name in names {
            let gone = state.apps.get_mut(name.org_id).and_then(|apps| apps.remove(name.name));
            state.size -= gone.map_or(0, |app| app.size());
        }
    }

    /// Forgets all applications.
    pub fn clear(&self) {
        *self.state() = State::default();
    }
}

impl State {
    fn insert(&mut self, name: AppName<'_>, app: Arc<App>) {
        let size = app.size();
        if size > MOST_OF_ONE {
            return;
        }
        self.size += size;
        if self.size > MOST {
            self.apps.clear();
            self.size = size;
        }
        let apps = self.apps.entry(name.org_id.to_owned()).or_default();
        if let Some(before) = apps.insert(name.name.to_owned(), app) {
            self.size -= before.size();
        }
    }
}

impl App {
    /// Returns how many bytes the application takes with its endpoints and pollers, roughly.
    fn size(&self) -> usize {
        let endpoints = self.endpoints.iter().map(|endpoint| endpoint.bytes);
        let pollers = self.pollers.iter().map(|poller| poller.bytes);
        OVERHEAD + endpoints.chain(pollers).map(|bytes| OVERHEAD + bytes).sum::<usize>()
    }
}
