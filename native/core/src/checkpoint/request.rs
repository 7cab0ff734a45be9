//! What a witness is asked (C2SP tlog-witness, "add-checkpoint"): a checkpoint, and that it extends the one it cosigned
//! last. FORMAT.md, "Checkpoints".
use super::Checkpoint;
use crate::log::extends;
use crate::note::Note;
use crate::suite::Digest;
use crate::wire::Malformed;
use crate::wire::text::{decimal, from_base64, to_base64};

/// Most nodes of a consistency path.
const PATH_MAX: usize = 63;

/// A request, read strictly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The size that the witness cosigned last, 0 if none.
    pub old: u64,
    /// The way from there to the new size.
    pub path: Vec<Digest>,
    /// The new checkpoint.
    pub checkpoint: &'a str,
}

impl<'a> Request<'a> {
    /// The request's text.
    pub fn text(&self) -> String {
        let lines: String = self.path.iter().map(|node| to_base64(node) + "\n").collect();
        format!("old {}\n{lines}\n{}", self.old, self.checkpoint)
    }

    /// Reads a request.
    pub fn parse(bytes: &'a [u8]) -> Result<Request<'a>, Malformed> {
        let text = str::from_utf8(bytes).map_err(|error| Malformed::new(error.valid_up_to(), "utf-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(Malformed::new(0, "request"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old = old.and_then(decimal).ok_or(Malformed::new(0, "old"))?;
        let node = |line: &str| from_base64(line).and_then(|bytes| Digest::try_from(bytes).ok());
        let path: Option<Vec<Digest>> = lines.map(node).collect();
        let path = path.filter(|path| path.len() <= PATH_MAX);
        let path = path.ok_or(Malformed::new(0, "path"))?;
        Ok(Request {
            old,
            path,
            checkpoint,
        })
    }

    /// Whether the checkpoint extends the one of the old size with this root. What it is signed with is not looked at.
    pub fn extends(&self, root: &Digest) -> Result<bool, Malformed> {
        let note = Note::parse(self.checkpoint)?;
        let new = Checkpoint::parse(note.text)?;
        Ok(extends((new.size, &new.root), (self.old, root), &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::sign;
    use crate::log::{Frontier, Plan, empty_root, leaf_hash};
    use crate::note::{Purpose, Signer};

    /// The roots of all sizes up to 9, and the stored hashes.
    fn tree() -> (Vec<Digest>, Vec<Digest>) {
        let (mut frontier, mut stored) = (Frontier::default(), Vec::new());
        let mut roots = vec![frontier.root()];
        for leaf in 0..9_u8 {
            frontier.push(leaf_hash(&[leaf]), &mut stored).unwrap();
            roots.push(frontier.root());
        }
        (roots, stored)
    }

    fn checkpoint(size: u64, root: Digest) -> String {
        let signer = Signer::new("clinic.example/log", Purpose::Log, &[1; 32]).unwrap();
        sign(&signer, size, root).unwrap()
    }

    fn path(stored: &[Digest], old: u64, new: u64) -> Vec<Digest> {
        let read = |at: u64| Ok::<_, ()>(stored[at as usize]);
        Plan::consistency(old, new).unwrap().path(read).unwrap()
    }

    #[test]
    fn requests_come_back_and_say_whether_one_tree_extends_the_other() {
        let (roots, stored) = tree();
        for new in 0..=9 {
            let checkpoint = checkpoint(new, roots[new as usize]);
            for old in 0..=new {
                let path = path(&stored, old, new);
                let request = Request {
                    old,
                    path,
                    checkpoint: &checkpoint,
                };
                let text = request.text();
                assert_eq!(Request::parse(text.as_bytes()), Ok(request.clone()));
                assert_eq!(request.extends(&roots[old as usize]), Ok(true), "{old} {new}");
                assert_eq!(request.extends(&[9; 32]), Ok(false), "{old} {new}");
            }
        }
        assert_eq!(roots[0], empty_root());
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        let (roots, stored) = tree();
        let checkpoint = checkpoint(9, roots[9]);
        let request = Request {
            old: 5,
            path: path(&stored, 5, 9),
            checkpoint: &checkpoint,
        };
        let text = request.text();
        let what = |text: &str| Request::parse(text.as_bytes()).unwrap_err().what;
        assert_eq!(what("old 5"), "request");
        for wrong in [
            "old 05",
            "old -1",
            "old",
            "new 5",
            "old 5 ",
            "old 18446744073709551616",
        ] {
            assert_eq!(what(&text.replacen("old 5", wrong, 1)), "old", "{wrong}");
        }
        let node = to_base64(&request.path[0]);
        assert_eq!(what(&text.replacen(&node, &node[1..], 1)), "path");
        assert_eq!(
            what(&text.replacen(&node, &format!("{node}\n{node}").repeat(70), 1)),
            "path"
        );
        let longer = text.replacen(&node, &format!("{node}\n{node}"), 1);
        assert_eq!(
            Request::parse(longer.as_bytes()).unwrap().extends(&roots[5]),
            Ok(false)
        );
        let unsigned = Request {
            checkpoint: "clinic.example/log\n",
            ..request
        };
        assert!(unsigned.extends(&roots[5]).is_err());
    }
}
