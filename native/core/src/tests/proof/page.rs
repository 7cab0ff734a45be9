//! FORMAT.md's own proofs.
use super::archive::{ARCHIVE, Log, log_key};
use crate::block::Container;
use crate::checkpoint::{Policy, sign};
use crate::log::Leaf;
use crate::proof::{Logged, make, verify};
use crate::suite::Suite;
use crate::tests::vectors;

/// Position n of a vector, whose blocks and tail alone are the log, signed with the seed 01 01 … 01.
fn proof(name: &str, n: u64, show: bool) -> String {
    let (vector, pieces, _) = ARCHIVE
        .flows
        .iter()
        .find(|(vector, ..)| vector.name == name)
        .unwrap();
    let (mut log, mut place) = (Log::default(), None);
    for piece in pieces {
        let block = Container::decode(piece).unwrap();
        if !block.is_tail() {
            let index = log.add_block(&block);
            let holds = (block.header().first..=block.last()).contains(&n);
            place = if holds { Some((index, piece)) } else { place };
        }
    }
    let last = vector.flow.events.len() as u64;
    log.add(&Leaf::Tail {
        suite: Suite::Sha256,
        genesis: vector.flow.genesis(),
        n: last,
        provisional: vector.flow.provisional(last as i64),
    });
    let (index, block) = place.unwrap();
    let logged = Logged {
        index,
        path: &log.path(index),
        checkpoint: &sign(&log_key(), log.frontier.size(), log.frontier.root()).unwrap(),
    };
    make(&Container::decode(block).unwrap(), n, show, &logged).unwrap()
}

#[test]
fn the_format_page_holds_two_proofs_and_their_key() {
    let page = std::fs::read_to_string(vectors::directory().join("../../FORMAT.md")).unwrap();
    let key = log_key().verifier().to_string();
    assert!(page.contains(&key), "{key}");
    let policy = Policy::new(vec![log_key().verifier().clone()], vec![], 0).unwrap();
    for text in [
        proof("sha256-1-closed.jsonl", 1, true),
        proof("sha256-12.jsonl", 6, false),
    ] {
        let indented: String = text
            .lines()
            .map(|line| format!("    {line}").trim_end().to_owned() + "\n")
            .collect();
        assert!(page.contains(&indented), "{indented}");
        assert!(verify(text.as_bytes(), &policy).is_ok());
    }
}
