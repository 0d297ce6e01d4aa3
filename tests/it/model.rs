//! Random sequences of operations against the product and against a simple model of it in memory: which messages arrive
//! where, how often, with which payload and header and signed with what, what the API shows, what a poller gets, when
//! an endpoint is disabled.
//!
//! By default sequences are played for some seconds. `POSTRIDER_MODEL_SEQUENCES=N` plays N on each database, and
//! `POSTRIDER_MODEL_SEED=S` begins with that seed: with another one than usual, other sequences are played. A sequence
//! that shows a difference is shrunk, and its seed is printed.

mod expected;
mod operation;
mod play;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::operation::{Sequence, sequence};
use self::play::World;
use crate::harness::TestDatabase;

/// How long sequences are played if their number is not given.
const USUAL: Duration = Duration::from_secs(12);
/// The seed of the first sequence if none is given: two runs play the same ones, as far as they come.
const FIRST: u64 = 1;
/// How long a sequence is shrunk at most.
const SHRINKING: Duration = Duration::from_secs(180);
/// After so many sequences the janitor removes the rows of earlier ones.
const PRUNED_AFTER: u64 = 20;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text}")),
    )
}

/// Makes the source of chance of the sequence with this seed.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn words(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// Plays a sequence. Returns the first difference, if there is one, after which the process is another one.
async fn difference(world: &mut World<'_>, sequence: &Sequence) -> Option<String> {
    let played = AssertUnwindSafe(world.play(sequence)).catch_unwind().await;
    let words = words(played.err()?);
    world.kill().await;
    Some(words)
}

/// Searches for a smaller sequence with a difference, and returns it with its difference.
async fn shrink(
    world: &mut World<'_>,
    mut tree: impl ValueTree<Value = Sequence>,
    mut found: String,
) -> (Sequence, String) {
    let mut smallest = tree.current();
    let begun = Instant::now();
    let mut goes_on = tree.simplify();
    while goes_on && begun.elapsed() < SHRINKING {
        let smaller = tree.current();
        goes_on = match difference(world, &smaller).await {
            Some(words) => {
                (smallest, found) = (smaller, words);
                tree.simplify()
            }
            None => tree.complicate(),
        };
    }
    (smallest, found)
}

async fn play_sequences(db: &TestDatabase) {
    let wanted = setting("POSTRIDER_MODEL_SEQUENCES");
    let first = setting("POSTRIDER_MODEL_SEED").unwrap_or(FIRST);
    let mut world = World::on(db).await;
    let begun = Instant::now();
    let mut played = 0;
    while wanted.map_or(begun.elapsed() < USUAL, |wanted| played < wanted) {
        let seed = first + played;
        let tree = sequence().new_tree(&mut runner(seed)).expect("a sequence");
        if let Some(words) = difference(&mut world, &tree.current()).await {
            let (smallest, words) = shrink(&mut world, tree, words).await;
            panic!(
                "{words}\n{smallest:#?}\n{played} sequences had no difference. Again: POSTRIDER_MODEL_SEED={seed} \
                 POSTRIDER_MODEL_SEQUENCES=1 cargo test --test it model::"
            );
        }
        played += 1;
        if played % PRUNED_AFTER == 0 {
            world.prune().await;
        }
    }
    let took = begun.elapsed();
    println!("{played} sequences from seed {first} in {took:?}, without a difference");
}

both!(
    random_operations_have_the_effects_that_a_simple_model_expects,
    async |db| {
        play_sequences(db).await;
    }
);
