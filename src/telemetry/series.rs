//! Counters, gauges and histograms that are updated without a lock, and their text for Prometheus (exposition format
//! 0.0.4).
//!
//! Each number is an atomic of its own, which any task may change at any time. All accesses are relaxed, so a page may
//! show numbers of slightly different moments.
//!
//! Must not know what is counted.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Bounds for durations in seconds: from a commit in memory to the longest attempt.
pub const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
const MICROSECONDS: f64 = 1e6;

/// A number that only goes up.
// Our own type: the usual client library takes a lock for each count with labels. Our labels come from closed sets, so
// every series is laid out at the start.
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

/// A number that goes up and down.
#[derive(Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds 1 until the returned guard is dropped.
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

/// Keeps its gauge 1 higher until it is dropped.
pub struct Inside<'a>(&'a Gauge);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// Counts of values by size: for each of some bounds, how many values were at most as large.
pub struct Histogram {
    /// Upper bounds in ascending order, in the unit of the values.
    bounds: &'static [f64],
    /// The count of each bucket: above the bound before it and up to its own. The last bucket is above all bounds.
    counts: Box<[AtomicU64]>,
    /// The sum of all values, in millionths of their unit.
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

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * MICROSECONDS) as u64, Ordering::Relaxed);
    }

    /// Counts a duration, in seconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Returns how many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// The labels of a sample: names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text of /metrics as it is written: of each family a head, then its samples.
#[derive(Default)]
pub struct Page(String);

impl Page {
    pub const MEDIA_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a family of samples. `kind` is Prometheus' type: `counter`, `gauge` or `histogram`.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Adds a sample to the family that was begun last.
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

    /// Adds a family with a single sample, which goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// Adds a family with a single counter.
    pub fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.head(name, "counter", help);
        self.sample(name, &[], counter.get() as f64);
    }

    /// Adds a family with a single histogram.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        self.buckets(name, &[], histogram);
    }

    /// Adds the samples of a histogram to the family `name`. Prometheus expects each bucket to include all smaller
    /// ones.
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
