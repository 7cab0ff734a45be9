//! A note's lines are written again as they were, and so is a checkpoint; neither is opened by chance.
#![no_main]
use event_seal_core::checkpoint::Checkpoint;
use event_seal_core::note::{Note, Signature, VerifierKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(note) = Note::parse(text) {
        let lines: String = note.signatures.iter().map(Signature::line).collect();
        assert_eq!(format!("{}\n{lines}", note.text), text);
        if let Ok(checkpoint) = Checkpoint::parse(note.text) {
            assert!(note.text.starts_with(&checkpoint.text()));
        }
    }
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
});
