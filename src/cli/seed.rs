//! `app seed`: fills in believable demo data, through the same services and the same intake that the API uses.
//!
//! Everything in the demo data has a name, uid or event id of its own. An object that exists already is left as it is,
//! so a second run changes nothing. Must not send anything: a running `serve` finds the deliveries that are due.

mod demo;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use clap::Args;

use self::demo::{Attempt, DemoApplication, Endpoint, EventType, Message, Organization, Poller, demo};
use super::output::say;
use crate::app;
use crate::config::{DatabaseSettings, ENDPOINTS_PER_APPLICATION, KeySettings};
use crate::domain::audit::Origin;
use crate::domain::delivery::{Decision, Trigger};
use crate::domain::health::Health;
use crate::domain::tally::Tally;
use crate::domain::target::TargetPolicy;
use crate::error::{Kind, Result};
use crate::loops::Loops;
use crate::service::{self, endpoint::Bounds};
use crate::slots::{Caps, Slots};
use crate::store::endpoint_hour::{self, HOUR, Sums};
use crate::store::entity::application::Model as Application;
use crate::store::intake::{Intake, Limits, NewMessage, fast_path};
use crate::store::queue::{AttemptRow, Settlement, settle};
use crate::store::{self, Store, endpoint, event_type, poller};

/// The address of the endpoints without --url: a name that no server will ever have (RFC 2606).
const NOWHERE: &str = "https://webhooks.example/";
const RETENTION: Duration = Duration::from_hours(90 * 24);
/// One message per commit. This process never takes a lease: a running `serve` finds the deliveries.
const LIMITS: Limits = Limits {
    members: 1,
    lease: Duration::ZERO,
};

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// The URL below which the demo endpoints are, each at a path of its own, and enabled
    #[arg(long, env = "POSTRIDER_SEED_URL", value_name = "URL", value_parser = base_url)]
    url: Option<String>,

    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    key: KeySettings,
}

const NOTES: &str = "\
Makes two organizations with applications, event types, endpoints, pollers and some messages. Without --url the endpoints are
disabled, so that nothing leaves this machine, and some attempts are invented. With --url a running `app serve` delivers
the messages; its POSTRIDER_ALLOW_TARGETS must allow a private address. What an earlier run has made is left as it is.";

/// The origin of everything that this command writes.
const SEED: Origin<'static> = Origin::cli("cli.seed");

/// The numbers of things that did not exist before this run.
#[derive(Default)]
struct Made {
    organizations: u32,
    event_types: u32,
    applications: u32,
    endpoints: u32,
    pollers: u32,
    messages: u32,
}

/// Makes the demo data that is missing, and prints how much that was and how tokens for it are made.
pub async fn run(arguments: Arguments) -> Result<()> {
    let demo = demo()?;
    let options = app::connect_options(&arguments.database)?;
    let store = app::open_beside(&arguments.database).await?;
    app::unlock(&store, &options, &arguments.key).await?;

    let caps = Caps {
        process: 1,
        endpoint: 1,
    };
    let slots = Slots::new(
        caps,
        store.clock().clone(),
        store.metrics().clone(),
        store.due().clone(),
    );
    let (leases, _) = fast_path(&caps);
    // From here on nothing is leased: the intake inserts deliveries for other processes to send.
    slots.stop();
    let loops = Loops::default();
    let seed = Seed {
        intake: Intake::start(&store, &slots, &leases, LIMITS, &loops),
        store: store.clone(),
        url: arguments.url,
    };
    let mut made = Made::default();
    for organization in &demo.organizations {
        seed.organization(organization, &mut made).await?;
    }
    drop(seed);
    loops.wait().await;
    store.close().await;
    say(made.to_string())?;
    for organization in &demo.organizations {
        say(format!("  app token create --organization '{}'", organization.name))?;
    }
    Ok(())
}

/// Makes the demo data, each thing only if it is missing.
struct Seed {
    store: Store,
    intake: Intake,
    url: Option<String>,
}

impl Seed {
    async fn organization(&self, demo: &Organization, made: &mut Made) -> Result<()> {
        let known = store::organization::find_by_name(&self.store, &demo.name).await?;
        made.organizations += u32::from(known.is_none());
        let organization = service::organization::get_or_create(&self.store, &SEED, &demo.name).await?;
        for event_type in &demo.event_types {
            self.event_type(&organization.id, event_type, made).await?;
        }
        for application in &demo.applications {
            let known = self.application(&organization.id, application, made).await?;
            for endpoint in &application.endpoints {
                self.endpoint(&known, endpoint, made).await?;
            }
            for message in &application.messages {
                self.message(&known, message, made).await?;
            }
            // A poller keeps what comes after it, and the first message is the user's own.
            for poller in &application.pollers {
                self.poller(&known, poller, made).await?;
            }
        }
        if !demo.operational_endpoints.is_empty() {
            let own = service::operational::get_or_create(&self.store, &organization.id).await?;
            for endpoint in &demo.operational_endpoints {
                self.endpoint(&own, endpoint, made).await?;
            }
        }
        Ok(())
    }

    async fn event_type(&self, org_id: &str, demo: &EventType, made: &mut Made) -> Result<()> {
        if event_type::find(&self.store, org_id, &demo.name).await?.is_some() {
            return Ok(());
        }
        let content = event_type::Content {
            description: demo.description.clone(),
            archived: false,
            deprecated: false,
            schemas: Some(demo.schemas.to_string()),
            feature_flag: demo.feature_flag.clone(),
        };
        service::event_type::put(&self.store, &SEED, org_id, demo.name.clone(), content).await?;
        made.event_types += 1;
        Ok(())
    }

    async fn application(&self, org_id: &str, demo: &DemoApplication, made: &mut Made) -> Result<Application> {
        if let Some(known) = store::application::find_by_uid(&self.store, org_id, &demo.uid).await? {
            return Ok(known);
        }
        let content = store::application::Content {
            name: demo.name.clone(),
            uid: Some(demo.uid.clone()),
            throttle_rate: None,
            metadata: demo.metadata.clone(),
        };
        made.applications += 1;
        let made = service::application::put(&self.store, &SEED, org_id, &demo.uid, content).await?;
        Ok(made.0)
    }

    async fn endpoint(&self, app: &Application, demo: &Endpoint, made: &mut Made) -> Result<()> {
        if endpoint::find(&self.store, &app.id, &demo.uid).await?.is_some() {
            return Ok(());
        }
        let base = self.url.as_deref().unwrap_or(NOWHERE).trim_end_matches('/');
        let content = endpoint::Content {
            url: format!("{base}/{}", demo.uid),
            description: demo.description.clone(),
            uid: Some(demo.uid.clone()),
            throttle_rate: None,
            disabled: self.url.is_none(),
            event_types: demo.event_types.clone(),
            channels: demo.channels.clone(),
            metadata: BTreeMap::new(),
        };
        let bounds = Bounds {
            most: ENDPOINTS_PER_APPLICATION,
            flags: None,
        };
        service::endpoint::put(&self.store, &SEED, app, &demo.uid, content, bounds).await?;
        made.endpoints += 1;
        Ok(())
    }

    async fn poller(&self, app: &Application, demo: &Poller, made: &mut Made) -> Result<()> {
        if poller::find(&self.store, &app.id, &demo.uid).await?.is_some() {
            return Ok(());
        }
        let content = poller::Content {
            uid: Some(demo.uid.clone()),
            description: demo.description.clone(),
            disabled: false,
            event_types: demo.event_types.clone(),
            channels: None,
        };
        service::poller::put(&self.store, &SEED, app, &demo.uid, content, None).await?;
        made.pollers += 1;
        Ok(())
    }

    async fn message(&self, app: &Application, demo: &Message, made: &mut Made) -> Result<()> {
        let message = NewMessage {
            org_id: app.org_id.clone(),
            app: app.id.clone(),
            event_type: demo.event_type.clone(),
            event_id: Some(demo.event_id.clone()),
            channels: demo.channels.clone(),
            tags: demo.tags.clone(),
            body: demo.payload.get().to_owned(),
            content_type: None,
            only_to: None,
            retention: RETENTION,
            key: None,
        };
        let accepted = match self.intake.accept(message).await {
            Ok(accepted) => accepted,
            Err(err) if err.kind == Kind::Conflict => return Ok(()),
            Err(err) => return Err(err),
        };
        made.messages += 1;
        if self.url.is_none() {
            self.attempts(app, &accepted.message_id, &demo.attempts).await?;
        }
        Ok(())
    }

    /// Records invented attempts of a message. They are settled like attempts whose lease is lost: the attempt and the
    /// result are written, and no delivery row is touched.
    async fn attempts(&self, app: &Application, message_id: &str, demo: &[Attempt]) -> Result<()> {
        let clock = self.store.clock();
        for attempt in demo {
            let endpoint = endpoint::get(&self.store, &app.id, &attempt.endpoint).await?;
            let created_at = clock.now();
            let row = AttemptRow {
                id: clock.new_typed_id_at(created_at),
                created_at,
                url: endpoint.url,
                response_status: attempt.status,
                response: attempt.response.clone(),
                duration_ms: attempt.duration_ms,
                detail: attempt.detail(),
            };
            let settlement = Settlement {
                delivery_id: clock.new_typed_id_at(created_at),
                lease_id: 0,
                app_id: app.id.as_str().into(),
                message_id: message_id.into(),
                endpoint_id: endpoint.id.into(),
                trigger: Trigger::Scheduled,
                attempt: Some(row),
                decision: match attempt.is_success() {
                    true => Decision::Delivered,
                    false => Decision::Failed,
                },
                attempts_made: 0,
                health: Health::Unchanged,
            };
            let mut tally = Tally::default();
            tally.count(attempt.is_success(), attempt.status, attempt.duration_ms);
            let sums = Sums {
                app_id: app.id.clone(),
                endpoint_id: settlement.endpoint_id.to_string(),
                hour: created_at.begin_of(HOUR),
                // Each attempt is a source of its own.
                source: created_at.0,
                tally,
                last_success: attempt.is_success().then_some(created_at),
            };
            let tx = self.store.begin().await?;
            settle(&tx, vec![&settlement]).await?;
            endpoint_hour::put(&tx, &[sums]).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            organizations,
            event_types,
            applications,
            endpoints,
            pollers,
            messages,
        } = self;
        if organizations + event_types + applications + endpoints + pollers + messages == 0 {
            return f.write_str("nothing to do: the demo data is there. Tokens for it:");
        }
        write!(
            f,
            "made {organizations} organizations, {event_types} event types, {applications} applications, {endpoints} \
             endpoints, {pollers} pollers, {messages} messages. Tokens for them:"
        )
    }
}

/// Checks the form of a base URL. Whether its address may be called is decided by the server that sends to it.
fn base_url(text: &str) -> Result<String, String> {
    let everything: TargetPolicy = "0.0.0.0/0,::/0".parse()?;
    let url = everything.check_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have no query and no fragment: a path is put behind it".to_owned());
    }
    Ok(text.to_owned())
}
