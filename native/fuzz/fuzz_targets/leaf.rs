//! A leaf of the log that is read is written again as it was.
#![no_main]
use event_seal_core::log::Leaf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(leaf) = Leaf::decode(data) {
        assert_eq!(leaf.encode(), data);
    }
});
