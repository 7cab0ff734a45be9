//! Packed containers: what was done to a file of them → what the program says.

mod run;

use event_seal_core::suite::Suite;
use event_seal_load::Flow;
use run::{faults, file, report, run, verify};

const FLOW: &str = "patient/7";

fn blocks() -> Vec<Vec<u8>> {
    Flow::new(Suite::Sha256, FLOW, 15, 40).blocks_of(5)
}

#[test]
fn blocks_behind_each_other_verify_as_a_part_of_a_flow() {
    let path = file("honest.blocks", blocks().concat());
    let ran = verify(&path);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(
        ran.out
            .contains("  1 flow, 3 blocks, 15 events: 15 fixed, 0 provisional\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("part of a flow: of what stands before and behind it nothing is said")
    );
    let report = report(&path);
    assert_eq!(
        (&report["kind"], &report["flow"]),
        (&"container".into(), &FLOW.into())
    );
    assert_eq!(
        (&report["part"], &report["signature"]),
        (&true.into(), &"none".into())
    );
    assert_eq!(report["verdict"]["bytes"], blocks().concat().len());
}

#[test]
fn a_part_from_the_middle_verifies_too() {
    assert_eq!(verify(&file("middle.blocks", &blocks()[1])).status, 0);
}

#[test]
fn no_byte_of_any_container_can_change_unnoticed() {
    let honest = blocks().concat();
    for at in (0..honest.len()).step_by(97) {
        let mut bytes = honest.clone();
        bytes[at] ^= 1;
        let ran = verify(&file("changed.blocks", &bytes));
        assert_eq!(ran.status, 1, "byte {at}: {}", ran.out);
    }
}

#[test]
fn a_changed_body_is_named_by_its_commitment() {
    let mut bytes = blocks().concat();
    let at = bytes.len() - 64;
    bytes[at] ^= 1;
    assert_eq!(
        faults(&file("body.blocks", &bytes)),
        [(15, "commitment".to_owned())]
    );
}

#[test]
fn blocks_left_out_swapped_or_of_another_flow_are_named() {
    let [first, second, third] = blocks().try_into().unwrap();
    let other = Flow::new(Suite::Sha256, "patient/8", 15, 40).blocks_of(5);
    for (bytes, class) in [
        ([first.clone(), third.clone()].concat(), "height"),
        ([second.clone(), first.clone(), third.clone()].concat(), "height"),
        ([first.clone(), first.clone(), second.clone()].concat(), "height"),
        (
            [first.clone(), other[1].clone(), third.clone()].concat(),
            "genesis",
        ),
    ] {
        let found = faults(&file("order.blocks", bytes));
        assert!(found.iter().any(|(_, own)| own == class), "{class}: {found:?}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_not_verified() {
    let blocks = blocks();
    let honest = blocks.concat();
    let whole = [blocks[0].len(), blocks[0].len() + blocks[1].len()];
    for end in (1..honest.len()).step_by(53).filter(|end| !whole.contains(end)) {
        let ran = verify(&file("cut.blocks", &honest[..end]));
        assert_eq!(ran.status, 1, "{end}: {}", ran.out);
    }
}

#[test]
fn a_container_that_lies_about_its_length_is_no_container() {
    for length in [0, 1, 24, 25, 32, 64, 1 << 40, u64::MAX] {
        for block in 0..3 {
            let mut blocks = blocks();
            blocks[block][16..24].copy_from_slice(&length.to_be_bytes());
            let found = faults(&file("lies.blocks", blocks.concat()));
            let at = (block as u64 * 5 + 1, "format".to_owned());
            assert!(found.contains(&at), "{length} in {block}: {found:?}");
        }
    }
}

#[test]
fn more_containers_than_are_looked_at_at_once_are_one_chain() {
    let flow = Flow::new(Suite::Blake3, FLOW, 3 * 4100, 5);
    let mut blocks = flow.blocks_of(3);
    let path = file("many.blocks", blocks.concat());
    let verdict = &report(&path)["verdict"];
    assert_eq!((&verdict["flows"], &verdict["blocks"]), (&1.into(), &4100.into()));
    assert_eq!(
        (&verdict["events"], &verdict["fault_count"]),
        (&12_300.into(), &0.into())
    );
    // The block at the edge, and one far behind it.
    blocks.remove(4099);
    blocks.remove(4096);
    let found = faults(&file("many.blocks", blocks.concat()));
    assert!(found.contains(&(4096 * 3 + 1, "height".to_owned())), "{found:?}");
}

#[test]
fn show_prints_what_the_containers_say() {
    let path = file("shown.blocks", blocks().concat());
    let path = path.to_str().unwrap();
    let ran = run(["show", path]);
    assert_eq!(ran.status, 0);
    assert!(
        ran.out
            .contains("flow patient/7, sha256, created 1970-01-01T00:00:00.000000Z\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("block 1: events 6 to 10, epoch 0\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("  15  1970-01-01T00:00:00.000014Z  $close/1, body of 40 bytes\n"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("bbbb"));
    assert!(run(["show", "--bodies", path]).out.contains(&"b".repeat(40)));
}
