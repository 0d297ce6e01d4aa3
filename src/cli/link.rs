//! What the commands have in common that print a link: where browsers reach the server. Must not make a link.

use clap::Args;

use crate::app;
use crate::config::{ListenSettings, PublicSettings};

/// The address at which links begin.
#[derive(Args)]
pub struct LinkSettings {
    #[command(flatten)]
    public: PublicSettings,

    #[command(flatten)]
    listen: ListenSettings,
}

impl LinkSettings {
    /// Returns the URL at which browsers reach the server that these settings describe.
    pub fn server(self) -> String {
        self.public
            .public_url
            .unwrap_or_else(|| app::url_of(self.listen.listen))
    }
}
