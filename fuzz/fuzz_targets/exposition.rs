//! Any text is read as Prometheus's or OpenMetrics' format: samples and lines that are none, each line at most once.
#![no_main]

use agents::openmetrics::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (mut samples, mut wrong) = (0, Vec::new());
    parse(
        text,
        |sample| {
            samples += 1;
            assert!(sample.value.parse::<f64>().is_ok());
            assert!(sample.labels.is_sorted_by(|a, b| a.0 < b.0));
            let _ = (sample.described(), sample.semantics(), sample.units());
        },
        |line, _| wrong.push(line),
    );
    let lines = text.lines().count();
    assert!(samples + wrong.len() <= lines);
    assert!(wrong.iter().all(|line| (1..=lines).contains(line)));
});
