//! C2SP tlog-proofs: where a leaf stands in the log, its path, and a checkpoint. FORMAT.md, "Log proof".
use crate::log::SIZE_MAX;
use crate::suite::Digest;
use crate::wire::Malformed;
use crate::wire::lines::Lines;
use crate::wire::text::{decimal, from_base64, to_base64};

const HEAD: &str = "c2sp.org/tlog-proof@v1";

/// What a log proof says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// The leaf's number, from 0.
    pub index: u64,
    /// The way from the leaf to the root.
    pub path: Vec<Digest>,
    /// The checkpoint, as it was signed.
    pub checkpoint: &'a str,
}

impl<'a> Proof<'a> {
    /// The text.
    pub fn text(&self) -> String {
        let path: String = self.path.iter().map(|node| to_base64(node) + "\n").collect();
        format!("{HEAD}\nindex {}\n{path}\n{}", self.index, self.checkpoint)
    }

    /// Reads the text. The checkpoint is left as it is: opening it tells whether it is one.
    pub fn parse(text: &'a str) -> Result<Proof<'a>, Malformed> {
        let mut lines = Lines::new(text);
        lines.exactly(HEAD, "format")?;
        let index = lines.read("index", |value| decimal(value).filter(|index| *index < SIZE_MAX))?;
        let path = path(&mut lines)?;
        let checkpoint = lines.rest();
        Ok(Proof {
            index,
            path,
            checkpoint,
        })
    }
}

/// The lines up to the empty one.
fn path(lines: &mut Lines<'_>) -> Result<Vec<Digest>, Malformed> {
    let mut path = Vec::new();
    while !lines.rest().starts_with('\n') {
        if path.len() == u64::BITS as usize {
            return lines.fail("log path");
        }
        path.push(lines.line_as("log path", |line| from_base64(line)?.try_into().ok())?);
    }
    lines.exactly("", "log path")?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_written_in_one_way() {
        for nodes in [0, 1, 64] {
            let proof = Proof {
                index: 7 * nodes as u64,
                path: vec![[9; 32]; nodes],
                checkpoint: "whatever\n\nit says",
            };
            assert_eq!(Proof::parse(&proof.text()), Ok(proof));
        }
        let node = to_base64(&[9; 32]);
        let what = |text: String| Proof::parse(&text).unwrap_err().what;
        let of = |index: &str, path: &str| format!("{HEAD}\nindex {index}\n{path}\n\nc");
        for index in [
            "",
            "00",
            "-1",
            "+1",
            "1 ",
            "9223372036854775807",
            "18446744073709551616",
        ] {
            assert_eq!(what(of(index, &node)), "index", "{index}");
        }
        for path in [
            &node[1..],
            &format!("{node} "),
            &node.replace('=', ""),
            &to_base64(&[9; 31]),
        ] {
            assert_eq!(what(of("1", path)), "log path", "{path}");
        }
        assert_eq!(what(of("1", &[&node[..]; 65].join("\n"))), "log path");
        assert_eq!(what(of("1", &node).replace("\n\n", "\n")), "log path");
        assert_eq!(
            what(of("1", &node).replace("index", "extra AA==\nindex")),
            "index"
        );
        assert_eq!(what(of("1", &node).replace("@v1", "@v2")), "format");
    }
}
