//! A proof that is read is written again as it was; checking one never panics.
#![no_main]
use event_seal_core::checkpoint::Policy;
use event_seal_core::note::VerifierKey;
use event_seal_core::proof::{Proof, verify};
use libfuzzer_sys::fuzz_target;

/// The key of the examples in FORMAT.md, which the corpus begins with.
const KEY: &str = "clinic.example/log+e8b1a5c7+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

fuzz_target!(|bytes: &[u8]| {
    if let Some(proof) = str::from_utf8(bytes)
        .ok()
        .and_then(|text| Proof::parse(text).ok())
    {
        assert_eq!(proof.text().as_bytes(), bytes);
    }
    let policy = Policy::new(vec![VerifierKey::parse(KEY).unwrap()], vec![], 0).unwrap();
    if let Ok(proven) = verify(bytes, &policy) {
        assert_eq!(proven.proof.text().as_bytes(), bytes);
    }
});
