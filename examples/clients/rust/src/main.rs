//! Uses Postrider through the published `svix` crate. Each function shows one thing, and prints it on a line.
//!
//!     POSTRIDER_URL=http://127.0.0.1:8080 POSTRIDER_TOKEN=... cargo run

mod catalog;
mod endpoints;
mod idempotency;
mod lossy_proxy;
mod messages;
mod operational;
mod polling;
mod portal;
mod receiver;
mod run;
mod sending_again;

use std::env;

use run::{Outcome, Run, Shown};

#[tokio::main]
async fn main() -> Outcome {
    let setting = |name| env::var(name).map_err(|_| format!("set {name}"));
    let run = &Run::new(setting("POSTRIDER_URL")?, setting("POSTRIDER_TOKEN")?)?;
    say("health", catalog::health(run)).await?;
    say("application", catalog::application(run)).await?;
    say("event_type", catalog::event_type(run)).await?;
    say("paging", catalog::paging(run)).await?;
    say("refusals", catalog::refusals(run)).await?;
    say("cloud_only", catalog::cloud_only(run)).await?;
    say("endpoint", endpoints::endpoint(run)).await?;
    say("headers", endpoints::headers(run)).await?;
    say("secret_rotation", endpoints::secret_rotation(run)).await?;
    say("example", endpoints::example(run)).await?;
    say("statistics", endpoints::statistics(run)).await?;
    say("delivery", messages::delivery(run)).await?;
    say("matching", messages::matching(run)).await?;
    say("attempts", messages::attempts(run)).await?;
    say("attempted", messages::attempted(run)).await?;
    say("tags", messages::tags(run)).await?;
    say("content", messages::content(run)).await?;
    say("raw_body", messages::raw_body(run)).await?;
    say("application_on_the_way", messages::application_on_the_way(run)).await?;
    say("expunge", messages::expunge(run)).await?;
    say("taken_event_id", idempotency::taken_event_id(run)).await?;
    say("lost_answer", idempotency::lost_answer(run)).await?;
    say("broken_connection", idempotency::broken_connection(run)).await?;
    say("resend", sending_again::resend(run)).await?;
    say("recover", sending_again::recover(run)).await?;
    say("replay_missing", sending_again::replay_missing(run)).await?;
    say("bulk_replay", sending_again::bulk_replay(run)).await?;
    say("portal_access", portal::portal_access(run)).await?;
    say("portal_application", portal::portal_application(run)).await?;
    say("operational_webhooks", operational::operational_webhooks(run)).await?;
    say("operational_endpoint", operational::operational_endpoint(run)).await?;
    say("polling", polling::polling(run)).await?;
    say("consumer", polling::consumer(run)).await?;
    Ok(())
}

/// Runs a function and prints what it has shown.
async fn say(name: &str, shown: impl Future<Output = Shown>) -> Outcome {
    let claim = shown.await.map_err(|err| format!("{name} is not shown: {err}"))?;
    println!("svix 2.x (Rust): {claim}");
    Ok(())
}
