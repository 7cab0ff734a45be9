//! The program as a user runs it.
#![allow(dead_code)] // Each test program uses a part.

pub mod signed;

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_event-seal"))
}

pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    let output = program().args(arguments).stdin(Stdio::null()).output().unwrap();
    Ran {
        status: output.status.code().expect("a status"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn verify(path: &Path) -> Ran {
    run([OsStr::new("verify"), path.as_os_str()])
}

/// The report on one file that was verified.
pub fn report(path: &Path) -> Value {
    let ran = run([OsStr::new("verify"), OsStr::new("--json"), path.as_os_str()]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["status"], json["files"][0]["status"]);
    let status = ["verified", "not_verified", "unreadable"][ran.status as usize];
    assert_eq!(json["status"], status);
    json["files"][0].clone()
}

/// Position and class of each fault.
pub fn faults(path: &Path) -> Vec<(u64, String)> {
    let report = report(path);
    let faults = report["faults"].as_array().unwrap();
    assert_eq!(report["verdict"]["fault_count"], faults.len());
    faults
        .iter()
        .map(|fault| {
            (
                fault["position"].as_u64().unwrap(),
                fault["class"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

/// Every vector file.
pub fn vectors() -> Vec<PathBuf> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/vectors");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    assert_eq!(files.len(), 18);
    files
}

pub fn vector(name: &str) -> String {
    let path = vectors().into_iter().find(|path| path.ends_with(name)).unwrap();
    std::fs::read_to_string(path).unwrap()
}

/// A file of these bytes. Tests run side by side: each has its own names.
pub fn file(name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    // What an earlier run left there may be a pipe, which nobody reads.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).unwrap();
    path
}
