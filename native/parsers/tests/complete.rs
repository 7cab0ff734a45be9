//! Whatever in the core reads bytes or texts from outside is called by one of the parsers.

use std::fs;
use std::path::{Path, PathBuf};

const CORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/src");
/// What a function answers that may refuse what it is given.
const REFUSALS: [&str; 4] = ["Malformed", "KeyError", "ImportError", "Refused>"];
/// Those that read nothing: they make keys, of a name and a seed or a public key.
const OTHERS: [&str; 2] = ["Signer::new", "VerifierKey::new"];

fn sources(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if !path.to_string_lossy().contains("tests") && !path.ends_with("reference.rs") {
            all.push(path);
        }
    }
}

/// Each public function of a file that may refuse: `Type::name` or `name`, and whether it is a method.
fn readers(source: &str) -> Vec<(String, bool)> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let (mut owner, mut found) = (String::new(), Vec::new());
    for (at, line) in source.lines().scan(0, |at, line| {
        let own = *at;
        *at += line.len() + 1;
        Some((own, line))
    }) {
        if line.starts_with("impl") {
            owner = owner_of(line);
        } else if line.starts_with('}') {
            owner.clear();
        }
        let Some(rest) = line.trim_start().strip_prefix("pub fn ") else {
            continue;
        };
        let name: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let signature = source[at..].split('{').next().unwrap();
        let answer = signature.rsplit("->").next().filter(|_| signature.contains("->"));
        if answer.is_some_and(|answer| REFUSALS.iter().any(|refusal| answer.contains(refusal))) {
            let full = if owner.is_empty() {
                name
            } else {
                format!("{owner}::{name}")
            };
            found.push((full, signature.contains("self")));
        }
    }
    found
}

/// `impl<'a, F: X> Y for Type<'a>` is Type's.
fn owner_of(line: &str) -> String {
    let line = line.rsplit(" for ").next().unwrap_or(line);
    let line = line.trim_start_matches("impl");
    let line = match line.strip_prefix('<') {
        Some(rest) => rest.split_once("> ").map_or(rest, |(_, rest)| rest),
        None => line,
    };
    line.trim().chars().take_while(|c| c.is_alphanumeric()).collect()
}

#[test]
fn each_reader_of_the_core_is_fuzzed() {
    let parsers = include_str!("../src/lib.rs");
    let mut paths = Vec::new();
    sources(Path::new(CORE), &mut paths);
    let (mut known, mut missing) = (0, Vec::new());
    for path in paths {
        for (reader, method) in readers(&fs::read_to_string(&path).unwrap()) {
            known += 1;
            let name = reader.rsplit("::").next().unwrap();
            let called = match method {
                true => parsers.contains(&format!(".{name}(")),
                false if reader.contains("::") => parsers.contains(&format!("{reader}(")),
                // Some are imported under another name.
                false => parsers.contains(&format!("{name}(")) || parsers.contains(&format!("{name} as ")),
            };
            if !called && !OTHERS.contains(&reader.as_str()) {
                missing.push(format!("{reader} of {}", path.display()));
            }
        }
    }
    assert!(known > 25, "only {known} were found");
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn a_reader_is_known_by_what_it_answers() {
    let source = "impl<'a> Odd<'a> {\n    pub fn decode(\n        bytes: &[u8],\n    ) -> Result<Odd<'a>, Malformed> {\n    }\n    \
                  pub fn at(&self) -> Result<u8, KeyError> {\n    }\n    pub fn size(&self) -> u64 {\n    }\n}\n\
                  pub fn read(text: &str) -> Result<u8, Malformed> {\n}\n";
    let found = [("Odd::decode", false), ("Odd::at", true), ("read", false)];
    assert_eq!(
        readers(source),
        found.map(|(name, method)| (name.to_owned(), method))
    );
}
