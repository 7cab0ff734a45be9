#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| event_seal_parsers::part(bytes));
