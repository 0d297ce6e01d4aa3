//! Counters, gauges and histograms that are written without a lock, and the text that Prometheus reads of them
//! (exposition format 0.0.4). Must not know what is counted. Called by metrics.rs and by whoever adds values to its page.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Seconds, from a commit in memory to the longest attempt.
pub const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
const MICROSECONDS: f64 = 1e6;

/// Only goes up.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Counts one more until the answer is dropped.
    pub fn enter(&self) -> Inside<'_> {
        self.add(1);
        Inside(self)
    }

    pub fn add(&self, count: i64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub struct Inside<'a>(&'a Gauge);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// How often a value was at most so large, for some bounds.
pub struct Histogram {
    bounds: &'static [f64],
    /// Between two bounds each; the last one beyond all.
    counts: Box<[AtomicU64]>,
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * MICROSECONDS) as u64, Ordering::Relaxed);
    }

    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Names and values of a sample's labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text as it grows: a family's head, then its samples.
#[derive(Default)]
pub struct Page(String);

impl Page {
    pub const MEDIA_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{before}{label}=\"{value}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    pub fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.head(name, "counter", help);
        self.sample(name, &[], counter.get() as f64);
    }

    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        self.buckets(name, &[], histogram);
    }

    /// The samples of a histogram.
    pub fn buckets(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        for (at, within) in histogram.counts.iter().enumerate() {
            count += within.load(Ordering::Relaxed);
            let bound = histogram.bounds.get(at).map_or("+Inf".to_owned(), f64::to_string);
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), count as f64);
        }
        let sum = histogram.sum.load(Ordering::Relaxed) as f64 / MICROSECONDS;
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count as f64);
    }

    pub fn text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_value_in_its_bucket_and_in_all_above() {
        let histogram = Histogram::new(&[1.0, 2.5]);
        for value in [0.5, 1.0, 2.0, 7.0] {
            histogram.observe(value);
        }
        let mut page = Page::default();
        page.buckets("x_seconds", &[("route", "/a\"b")], &histogram);
        let expected = r#"x_seconds_bucket{route="/a\"b",le="1"} 2
x_seconds_bucket{route="/a\"b",le="2.5"} 3
x_seconds_bucket{route="/a\"b",le="+Inf"} 4
x_seconds_sum{route="/a\"b"} 10.5
x_seconds_count{route="/a\"b"} 4
"#;
        assert_eq!(page.text(), expected);
        assert_eq!(histogram.count(), 4);
    }

    #[test]
    fn a_gauge_counts_who_is_inside() {
        let gauge = Gauge::default();
        {
            let _one = gauge.enter();
            let _two = gauge.enter();
            assert_eq!(gauge.get(), 2);
        }
        assert_eq!(gauge.get(), 0);
    }
}
