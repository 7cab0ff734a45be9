//! All that a packed container gives can be asked for, whatever its bytes are.
#![no_main]
use event_seal_core::block::{Body, Container};
use event_seal_core::event::decode_salted_body;
use event_seal_core::genesis::Genesis;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(container) = Container::decode(bytes) else {
        return;
    };
    let genesis = Genesis::decode(container.genesis_record()).unwrap();
    assert_eq!(genesis.encode(), container.genesis_record());
    assert_eq!(genesis.flow, container.flow());
    for i in 0..container.count() {
        let _ = container.event(i);
        if let Body::Shown(salted) = container.body(i) {
            let _ = decode_salted_body(salted);
        }
    }
});
