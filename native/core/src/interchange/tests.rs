//! The vectors through reading and writing; what the tables of broken files share.

use serde_json::Value;

use super::*;
use crate::block::Container;
use crate::genesis::Genesis;
use crate::verify::{Source, Unwatched};

mod order;
mod parts;
mod strict;
mod tampering;

/// Name and content of every vector file.
pub fn vectors() -> Vec<(String, Vec<u8>)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/vectors");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(path).unwrap(),
            )
        })
        .collect();
    files.sort();
    assert_eq!(files.len(), 18);
    files
}

/// A file written again from what is read of it.
pub fn encoded(file: &[u8]) -> Vec<u8> {
    let reading = Reading::of(file, &Unwatched);
    assert_eq!(reading.broken(), None);
    let (mut out, mut buffer) = (Vec::new(), Vec::new());
    let pieces = reading.pieces();
    for i in 0..pieces.len() {
        let container = Container::decode(pieces.read(i, &mut buffer).unwrap()).unwrap();
        if i == 0 {
            let genesis = Genesis::decode(container.genesis_record()).unwrap();
            assert_eq!(genesis.flow, reading.flow());
            out.extend_from_slice(header_line(&genesis, reading.closed().unwrap()).as_bytes());
        }
        lines(&container, &mut out).unwrap();
    }
    for checkpoint in reading.checkpoints().unwrap() {
        out.extend_from_slice(checkpoint_line(&checkpoint).as_bytes());
    }
    out
}

/// The lines of a vector file.
pub fn lines_of(name: &str) -> Vec<String> {
    let (_, file) = vectors().into_iter().find(|(there, _)| there == name).unwrap();
    String::from_utf8(file)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Flow; events 1–4, block; 5–8, block; 9, block; events 10–12 unsealed.
pub fn open() -> Vec<String> {
    let lines = lines_of("sha256-12.jsonl");
    assert_eq!(lines.len(), 16);
    lines
}

/// Where and how a file breaks, if it does.
pub fn broken(lines: &[String]) -> Option<(u64, &'static str)> {
    broken_bytes((lines.join("\n") + "\n").as_bytes())
}

pub fn broken_bytes(file: &[u8]) -> Option<(u64, &'static str)> {
    let reading = Reading::of(file, &Unwatched);
    assert_eq!(reading.broken_line().is_some(), reading.broken().is_some());
    reading.broken().map(|fault| (fault.position, fault.class.name()))
}

/// Where and how the open file breaks when its lines are changed.
pub fn edited(edit: impl FnOnce(&mut Vec<String>)) -> Option<(u64, &'static str)> {
    let mut lines = open();
    edit(&mut lines);
    broken(&lines)
}

/// The n of the event or the first n of the block of each line; 1 for the flow.
pub fn positions(lines: &[String]) -> Vec<u64> {
    let number = |line: &Value, key| line.get(key).and_then(Value::as_u64);
    let position = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        number(&line, "n").or(number(&line, "first")).unwrap_or(1)
    };
    lines.iter().map(position).collect()
}

#[test]
fn every_vector_file_is_written_again_byte_for_byte() {
    for (name, file) in vectors() {
        assert!(encoded(&file) == file, "{name}");
        assert!(encoded(file.strip_suffix(b"\n").unwrap()) == file, "{name}");
    }
}

#[test]
fn a_checkpoint_comes_last_and_is_written_again() {
    let checkpoint = "example.org/log\n12\n\"base64\"\n\n\u{2014} key sig\n";
    let mut file = (open().join("\n") + "\n").into_bytes();
    file.extend_from_slice(checkpoint_line(checkpoint).as_bytes());
    let reading = Reading::of(file.as_slice(), &Unwatched);
    assert_eq!(reading.checkpoint_count(), 1);
    assert_eq!(reading.checkpoints(), Ok(vec![checkpoint.to_owned()]));
    assert!(encoded(&file) == file);
    assert!(encoded(file.strip_suffix(b"\n").unwrap()) == file);
}

#[test]
fn keys_may_stand_in_any_order() {
    // serde_json's own maps are sorted by key.
    let sort = |line: &String| serde_json::from_str::<Value>(line).unwrap().to_string();
    for (name, file) in vectors() {
        let sorted: Vec<_> = std::str::from_utf8(&file)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .map(|line| sort(&line))
            .collect();
        assert_ne!(sorted, lines_of(&name));
        assert!(encoded(sorted.join("\n").as_bytes()) == file, "{name}");
    }
}
