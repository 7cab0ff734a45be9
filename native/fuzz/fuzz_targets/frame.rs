//! A frame that is read is written again as it was.
#![no_main]
use event_seal_core::event::{Event, decode_salted_body, salted_body};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = Event::decode(bytes) {
        let mut again = Vec::new();
        event.encode(&mut again).unwrap();
        assert_eq!(again, bytes);
    }
    if let Ok((salt, body)) = decode_salted_body(bytes) {
        assert_eq!(salted_body(salt, body), bytes);
    }
});
