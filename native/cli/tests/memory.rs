//! How much memory a file takes that is greater than what may be taken.
#![cfg(target_os = "linux")]

mod run;

use event_seal_core::block::Container;
use event_seal_core::genesis::Genesis;
use event_seal_core::interchange::{header_line, lines};
use event_seal_core::suite::Suite;
use event_seal_load::Flow;
use run::program;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const BODY: usize = 100_000;
/// Events in a block: 1 MB.
const BLOCK: usize = 10;

/// A flow's blocks, one after the other, in a form.
fn written(name: &str, count: usize, mut form: impl FnMut(&[u8], &mut Vec<u8>)) -> PathBuf {
    let path = run::file(name, "");
    let flow = Flow::new(Suite::Blake3, "patient/1", count, BODY);
    let mut out = BufWriter::new(File::create(&path).unwrap());
    let (mut before, mut bytes) = (None, Vec::new());
    for first in (0..count).step_by(BLOCK) {
        let block = flow.block_of(BLOCK, first, before.as_ref());
        bytes.clear();
        form(&block, &mut bytes);
        out.write_all(&bytes).unwrap();
        before = Some(block);
    }
    out.flush().unwrap();
    path
}

/// The most memory that a process held at once, in bytes, looked up until it ends.
fn peak(child: &mut Child) -> u64 {
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) * 1024);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    peak
}

fn takes_less_than(path: &Path, most: u64) {
    let mut verify = program();
    verify
        .args(["verify", "--threads", "2"])
        .arg(path)
        .stdout(Stdio::piped());
    let mut child = verify.spawn().unwrap();
    let peak = peak(&mut child);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let length = path.metadata().unwrap().len();
    assert!(0 < peak && peak < most, "{peak} of {length} bytes");
    assert!(length > 2 * most, "the file is too small to show anything");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn packed_containers_are_verified_in_less_memory_than_they_take() {
    let path = written("great.blocks", 3_000, |block, out| out.extend_from_slice(block));
    takes_less_than(&path, 64 << 20);
}

#[test]
fn an_interchange_file_is_verified_in_less_memory_than_it_takes() {
    let mut begun = false;
    let path = written("great.jsonl", 700, |block, out| {
        let container = Container::decode(block).unwrap();
        if !std::mem::replace(&mut begun, true) {
            let genesis = Genesis::decode(container.genesis_record()).unwrap();
            out.extend_from_slice(header_line(&genesis, true).as_bytes());
        }
        lines(&container, out).unwrap();
    });
    takes_less_than(&path, 44 << 20);
}
