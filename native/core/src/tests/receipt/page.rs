//! FORMAT.md's own receipt.
use super::{held, key, promise, receipts_by};
use crate::receipt::{Outcome, Standing, kept};
use crate::tests::proof::archive::{ARCHIVE, prove};
use crate::tests::vectors;

#[test]
fn the_format_page_holds_a_receipt_its_leaf_and_its_key() {
    let page = std::fs::read_to_string(vectors::directory().join("../../FORMAT.md")).unwrap();
    let promises = vec![
        promise("sha256-1-closed.jsonl", 1, Standing::Settled),
        promise("sha256-12.jsonl", 6, Standing::Pool),
        promise("sha256-12.jsonl", 7, Standing::Pool),
    ];
    let text = &receipts_by(&key(), promises)[1];
    let indented: String = text
        .lines()
        .map(|line| format!("    {line}").trim_end().to_owned() + "\n")
        .collect();
    assert!(
        page.contains(&key().verifier().to_string()),
        "{}",
        key().verifier()
    );
    assert!(page.contains(&indented), "{indented}");
    let promise = held(text).unwrap().receipt.promise;
    let proof = ARCHIVE.proof("sha256-12.jsonl", 6, false);
    assert_eq!(kept(&promise, &prove(&proof).unwrap()), Some(Outcome::Kept));
}
