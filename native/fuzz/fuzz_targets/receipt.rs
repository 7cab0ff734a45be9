//! A receipt that is read is written again as it was; checking one never panics.
#![no_main]
use event_seal_core::checkpoint::Policy;
use event_seal_core::note::VerifierKey;
use event_seal_core::receipt::{Receipt, verify};
use libfuzzer_sys::fuzz_target;

/// The key of the example in FORMAT.md, which the corpus begins with.
const KEY: &str = "clinic.example/receipts+303e110e+/2V2ZW50LXNlYWwvMSByZWNlaXB07UkoxijRwsbq6QM4kFmVYSlZJzpcY/k2NsFGFKyHN9E=";

fuzz_target!(|bytes: &[u8]| {
    if let Ok(receipt) = Receipt::read(bytes) {
        assert_eq!(receipt.text().as_bytes(), bytes);
    }
    let policy = Policy::of_receipts(vec![VerifierKey::parse(KEY).unwrap()]).unwrap();
    if let Ok(held) = verify(bytes, &policy) {
        assert_eq!(held.receipt.text().as_bytes(), bytes);
    }
});
