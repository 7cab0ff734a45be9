//! An interchange file gives a verdict, whatever its bytes are.
#![no_main]
use event_seal_core::interchange::verify_file;
use event_seal_core::verify::Unwatched;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    verify_file(file, &Unwatched, 10);
});
