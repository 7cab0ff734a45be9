//! The vectors through reading and writing; what the tables of broken files share.

use serde_json::Value;

use super::*;
use crate::block::Container;
use crate::genesis::Genesis;

mod order;
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

pub fn encoded(decoded: &Decoded) -> Vec<u8> {
    let genesis = Genesis::decode(&decoded.genesis_record).unwrap();
    let mut out = header_line(&genesis, decoded.closed.unwrap()).into_bytes();
    for piece in &decoded.pieces {
        lines(&Container::decode(piece).unwrap(), &mut out).unwrap();
    }
    for checkpoint in &decoded.checkpoints {
        out.extend_from_slice(checkpoint_line(checkpoint).as_bytes());
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
    let decoded = decode(file);
    assert_eq!(decoded.broken_line.is_some(), decoded.faults.len() == 1);
    decoded
        .faults
        .first()
        .map(|fault| (fault.position, fault.class.name()))
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
        let decoded = decode(&file);
        assert_eq!(decoded.faults, [], "{name}");
        assert!(encoded(&decoded) == file, "{name}");
        assert!(
            encoded(&decode(file.strip_suffix(b"\n").unwrap())) == file,
            "{name}"
        );
    }
}

#[test]
fn a_checkpoint_comes_last_and_is_written_again() {
    let checkpoint = "example.org/log\n12\n\"base64\"\n\n\u{2014} key sig\n";
    let mut file = (open().join("\n") + "\n").into_bytes();
    file.extend_from_slice(checkpoint_line(checkpoint).as_bytes());
    let decoded = decode(&file);
    assert_eq!(
        (decoded.faults.len(), decoded.checkpoints.as_slice()),
        (0, &[checkpoint.to_owned()][..])
    );
    assert!(encoded(&decoded) == file);
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
        assert!(encoded(&decode(sorted.join("\n").as_bytes())) == file, "{name}");
    }
}
