//! What the intake remembers of applications and their endpoints, so that a batch on Postgres need not read them first.
//! It may be of any age: the statement that stores the batch proves by the revision that it still holds, or stores nothing.
//! A revision never comes twice, not even in a database that has lost its last writes and goes on from an earlier state.
//! Must not be believed without that proof. Called by batch.rs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::apps::{App, Named, find_apps};
use super::member::Member;
use crate::error::Result;
use crate::store::Store;

/// Bytes, roughly; when there would be more, all are forgotten.
const MOST: usize = 32 << 20;
/// Bytes of one application; a larger one is read with each batch.
const MOST_OF_ONE: usize = 1 << 20;
/// What an application or endpoint takes beside its texts.
const OVERHEAD: usize = 512;

#[derive(Default)]
pub(super) struct Known(Mutex<State>);

#[derive(Default)]
struct State {
    /// By organization, then by id or uid.
    apps: HashMap<String, HashMap<String, Arc<App>>>,
    size: usize,
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members' applications, read only where they are not remembered; unknown ones are left out.
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
                match state.apps.get(name.0).and_then(|apps| apps.get(name.1)) {
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
            for ((org_id, name), app) in &read {
                state.insert(org_id, name, app.clone());
            }
            found.extend(read);
        }
        Ok(found)
    }

    /// These have changed.
    pub fn forget<'a>(&self, names: impl IntoIterator<Item = &'a (&'a str, &'a str)>) {
        let mut state = self.state();
        for (org_id, name) in names {
            let gone = state.apps.get_mut(*org_id).and_then(|apps| apps.remove(*name));
            state.size -= gone.map_or(0, |app| app.size());
        }
    }

    /// Forgets all applications.
    pub fn clear(&self) {
        *self.state() = State::default();
    }
}

impl State {
    fn insert(&mut self, org_id: &str, name: &str, app: Arc<App>) {
        let size = app.size();
        if size > MOST_OF_ONE {
            return;
        }
        self.size += size;
        if self.size > MOST {
            self.apps.clear();
            self.size = size;
        }
        let apps = self.apps.entry(org_id.to_owned()).or_default();
        if let Some(before) = apps.insert(name.to_owned(), app) {
            self.size -= before.size();
        }
    }
}

impl App {
    fn size(&self) -> usize {
        let endpoints = self.endpoints.iter();
        OVERHEAD + endpoints.map(|endpoint| OVERHEAD + endpoint.bytes).sum::<usize>()
    }
}
