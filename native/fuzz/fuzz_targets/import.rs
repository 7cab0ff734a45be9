//! A line to import is read or refused, and what is read keeps the rules.
#![no_main]
use event_seal_core::has_control;
use event_seal_core::import::parse_line;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    if let Ok(event) = parse_line(line) {
        assert!((1..=512).contains(&event.flow.len()) && !has_control(&event.flow));
        assert!((1..=255).contains(&event.kind.len()) && !event.kind.starts_with('$'));
    }
});
