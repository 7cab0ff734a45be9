//! What breaks the order of the lines → at which position, with which class.

use super::*;

#[test]
fn a_file_that_is_none() {
    let file = (open().join("\n") + "\n").into_bytes();
    let with_bom = [b"\xef\xbb\xbf".as_slice(), &file].concat();
    let crlf = open().join("\r\n").into_bytes();
    for bytes in [
        b"".as_slice(),
        b"\n",
        b"{}",
        b"[]\n",
        b"\xff\xff",
        &with_bom,
        &crlf,
    ] {
        assert_eq!(broken_bytes(bytes), Some((1, "format")));
    }
    assert_eq!(
        broken_bytes(&[&file, b"\n".as_slice()].concat()),
        Some((13, "format"))
    );
    assert_eq!(
        broken_bytes(&[&file, b" ".as_slice()].concat()),
        Some((13, "format"))
    );
    let deep = "[".repeat(1_000_000);
    assert_eq!(edited(|lines| lines[7] = deep.clone()), Some((6, "format")));
    assert_eq!(
        edited(|lines| lines[7] = format!("{{\"n\":{deep}")),
        Some((6, "format"))
    );
}

#[test]
fn a_line_that_is_none_is_named_by_its_position() {
    for (i, position) in positions(&open()).into_iter().enumerate() {
        let change = |change: &dyn Fn(&str) -> String| edited(|lines| lines[i] = change(&lines[i]));
        let changes: [&dyn Fn(&str) -> String; 9] = [
            &|line| format!("{line}\r"),
            &|line| format!("{line} "),
            &|line| format!(" {line}"),
            &|line| format!("{line},"),
            &|line| line[..line.len() - 1].to_owned(),
            &|line| line[..line.len() / 2].to_owned(),
            &|line| line.replacen('}', ",}", 1),
            &|line| line.replacen("\":", "\" \":", 3),
            &|line| format!("{line}{line}"),
        ];
        for (number, edit) in changes.into_iter().enumerate() {
            assert_eq!(
                change(edit),
                Some((position, "format")),
                "line {i}, change {number}"
            );
        }
        let next = positions(&open()[..i]).len() as u64;
        let blank = edited(|lines| lines.insert(i, String::new()));
        assert!(
            matches!(blank, Some((at, "format")) if at <= next.max(1)),
            "blank before line {i}"
        );
    }
}

#[test]
fn no_line_may_be_removed_doubled_or_swapped() {
    type Edit = fn(&mut Vec<String>);
    let table: [(&str, Edit, u64, &str); 22] = [
        ("no flow", |lines| drop(lines.remove(0)), 1, "format"),
        (
            "two flows",
            |lines| lines.insert(1, lines[0].clone()),
            1,
            "format",
        ),
        (
            "a flow behind",
            |lines| lines.push(lines[0].clone()),
            13,
            "format",
        ),
        ("no event 1", |lines| drop(lines.remove(1)), 1, "position"),
        ("no event 6", |lines| drop(lines.remove(7)), 6, "position"),
        (
            "no event 8, a block's last",
            |lines| drop(lines.remove(9)),
            8,
            "position",
        ),
        ("no event 11", |lines| drop(lines.remove(14)), 11, "position"),
        (
            "no event 12, the last",
            |lines| drop(lines.remove(15)),
            12,
            "missing",
        ),
        ("no block 0", |lines| drop(lines.remove(5)), 1, "position"),
        ("no block 1", |lines| drop(lines.remove(10)), 5, "position"),
        ("no block 2", |lines| drop(lines.remove(12)), 9, "missing"),
        (
            "event 6 twice",
            |lines| lines.insert(8, lines[7].clone()),
            7,
            "position",
        ),
        (
            "event 12 twice",
            |lines| lines.push(lines[15].clone()),
            13,
            "position",
        ),
        (
            "event 3 again",
            |lines| lines.insert(8, lines[3].clone()),
            7,
            "position",
        ),
        (
            "block 1 twice",
            |lines| lines.insert(11, lines[10].clone()),
            9,
            "position",
        ),
        (
            "block 0 again at the end",
            |lines| lines.push(lines[5].clone()),
            10,
            "position",
        ),
        ("events 6 and 7 swapped", |lines| lines.swap(7, 8), 6, "position"),
        (
            "event 8 and its block swapped",
            |lines| lines.swap(9, 10),
            8,
            "position",
        ),
        (
            "block 1 and event 9 swapped",
            |lines| lines.swap(10, 11),
            9,
            "position",
        ),
        ("blocks 0 and 1 swapped", |lines| lines.swap(5, 10), 1, "position"),
        (
            "block 2 behind event 10",
            |lines| lines.swap(12, 13),
            10,
            "position",
        ),
        (
            "a checkpoint among events",
            |lines| lines.insert(7, checkpoint_line("c").trim_end().to_owned()),
            6,
            "format",
        ),
    ];
    for (what, edit, position, class) in table {
        assert_eq!(edited(edit), Some((position, class)), "{what}");
    }
}

#[test]
fn a_file_cut_off_between_lines_ends_where_something_is_missing() {
    let expected = [1, 1, 1, 1, 1, 5, 5, 5, 5, 5, 9, 9, 10, 11, 12];
    for (kept, position) in expected.into_iter().enumerate() {
        assert_eq!(
            broken(&open()[..=kept]),
            Some((position, "missing")),
            "{} lines",
            kept + 1
        );
    }
}

#[test]
fn an_id_in_the_place_of_a_provisional_one_and_back() {
    let replace = |i: usize, from: &str, to: &str| edited(|lines| lines[i] = lines[i].replace(from, to));
    for (i, position) in [(6, 5), (7, 6), (9, 8), (11, 9)] {
        assert_eq!(
            replace(i, "\"id\"", "\"provisional\""),
            Some((position, "format"))
        );
    }
    for (i, position) in [(13, 10), (14, 11), (15, 12)] {
        assert_eq!(
            replace(i, "\"provisional\"", "\"id\""),
            Some((position, "missing"))
        );
    }
    let both = |line: &str| {
        line.replacen(
            "\"id\"",
            &format!("\"provisional\":\"{}\",\"id\"", "0".repeat(64)),
            1,
        )
    };
    assert_eq!(edited(|lines| lines[7] = both(&lines[7])), Some((6, "format")));
}
