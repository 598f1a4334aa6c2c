//! The name space: a tree of names whose leaves are metrics (PMNS(5)).

use std::collections::HashMap;

use crate::error::ErrorCode;
use crate::pmid::Pmid;
use crate::text::Text;

/// Names of nodes are at most this long in PCP's parser.
const NAME_MAX: usize = 255;

#[derive(Clone, Debug, Default)]
struct Node {
    name: Text,
    pmid: Option<Pmid>,
    children: Vec<usize>,
}

/// A name space. Children keep the order in which they were added.
#[derive(Clone, Debug)]
pub struct Pmns {
    nodes: Vec<Node>,
    by_pmid: HashMap<Pmid, Vec<usize>>,
    parents: Vec<usize>,
    newest_first: bool,
}

impl Default for Pmns {
    fn default() -> Pmns {
        Pmns {
            nodes: vec![Node::default()],
            by_pmid: HashMap::new(),
            parents: vec![0],
            newest_first: false,
        }
    }
}

/// What stands at a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A metric, or the root of a dynamic subtree.
    Leaf(Pmid),
    /// A node with names below it.
    Node,
}

/// A mistake in the text of a name space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown}")]
pub struct PmnsError {
    /// The file, as it was named to the parser.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What PCP's parser, or its preprocessor, prints of it: one line or more.
    pub shown: String,
}

impl Pmns {
    /// An empty name space.
    #[must_use]
    pub fn new() -> Pmns {
        Pmns::default()
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    fn node(&self, at: usize) -> &Node {
        // Indices come from this tree alone and nodes are never taken out of it; the root stands for what is not there.
        static EMPTY: std::sync::LazyLock<Node> = std::sync::LazyLock::new(Node::default);
        self.nodes.get(at).unwrap_or(&EMPTY)
    }

    fn child(&self, at: usize, name: &[u8]) -> Option<usize> {
        let children = &self.node(at).children;
        // Names are often added in the order of their parents: the last child is the likeliest.
        match children.last() {
            Some(&last) if self.node(last).name.as_bytes() == name => Some(last),
            _ => children
                .iter()
                .copied()
                .find(|&c| self.node(c).name.as_bytes() == name),
        }
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        if name.is_empty() {
            return Some(0);
        }
        let mut at = 0;
        for part in name.split(|&b| b == b'.') {
            at = self.child(at, part)?;
        }
        Some(at)
    }

    fn add_child(&mut self, parent: usize, name: &[u8]) -> usize {
        let at = self.nodes.len();
        self.nodes.push(Node {
            name: name.into(),
            ..Node::default()
        });
        self.parents.push(parent);
        if let Some(node) = self.nodes.get_mut(parent) {
            if self.newest_first {
                node.children.insert(0, at);
            } else {
                node.children.push(at);
            }
        }
        at
    }

    /// An empty name space that lists children in the opposite order of their coming, as that of an archive does.
    #[must_use]
    pub fn newest_first() -> Pmns {
        Pmns {
            newest_first: true,
            ..Pmns::new()
        }
    }

    /// Adds a metric. A metric may have several names, a name means one metric.
    ///
    /// # Errors
    /// `PM_ERR_PMNS` when the name is there with another meaning, or goes through a metric.
    pub fn insert(&mut self, name: &[u8], pmid: Pmid) -> Result<(), ErrorCode> {
        if name.is_empty() || name.split(|&b| b == b'.').any(<[u8]>::is_empty) {
            return Err(ErrorCode::NAME);
        }
        let mut at = 0;
        for part in name.split(|&b| b == b'.') {
            if self.node(at).pmid.is_some() {
                return Err(ErrorCode::PMNS);
            }
            at = match self.child(at, part) {
                Some(child) => child,
                None => self.add_child(at, part),
            };
        }
        let node = self.node(at);
        if node.pmid == Some(pmid) {
            return Ok(());
        }
        if node.pmid.is_some() || !node.children.is_empty() {
            return Err(ErrorCode::PMNS);
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.pmid = Some(pmid);
        }
        self.by_pmid.entry(pmid).or_default().push(at);
        Ok(())
    }

    /// What a name means.
    ///
    /// # Errors
    /// `PM_ERR_NAME` when there is no such name.
    pub fn lookup(&self, name: &[u8]) -> Result<Place, ErrorCode> {
        let at = self.find(name).ok_or(ErrorCode::NAME)?;
        Ok(self.node(at).pmid.map_or(Place::Node, Place::Leaf))
    }

    /// The nearest leaf at or above a name, and its own name: finds the dynamic subtree that a name is in.
    #[must_use]
    pub fn enclosing_leaf(&self, name: &[u8]) -> Option<(Text, Pmid)> {
        let mut at = 0;
        for part in name.split(|&b| b == b'.') {
            at = self.child(at, part)?;
            if let Some(pmid) = self.node(at).pmid {
                return Some((self.full_name(at), pmid));
            }
        }
        None
    }

    fn full_name(&self, mut at: usize) -> Text {
        let mut parts = Vec::new();
        while at != 0 {
            parts.push(self.node(at).name.as_bytes());
            at = self.parents.get(at).copied().unwrap_or(0);
        }
        parts.reverse();
        parts.join(&b'.').into()
    }

    /// The names of some metrics only (pmTrimNameSpace(3)).
    #[must_use]
    pub fn trimmed(&self, keep: impl Fn(Pmid) -> bool) -> Pmns {
        let mut kept = Pmns::new();
        for (name, pmid) in self.leaves(b"").unwrap_or_default() {
            if keep(pmid) {
                // What was a tree with fewer names left is one.
                let _ = kept.insert(&name, pmid);
            }
        }
        kept
    }

    /// All names of a metric, in the order in which they were added; of an archive's in that of PCP's library.
    #[must_use]
    pub fn names_of(&self, pmid: Pmid) -> Vec<Text> {
        let nodes = self.by_pmid.get(&pmid).map_or(&[][..], Vec::as_slice);
        if !self.newest_first || nodes.len() < 2 {
            return nodes.iter().map(|&at| self.full_name(at)).collect();
        }
        // PCP's library has the names of an archive's metric from the last in the tree to the first.
        let mut nodes = nodes.to_vec();
        nodes.sort_by_cached_key(|&at| std::cmp::Reverse(self.place(at)));
        nodes.into_iter().map(|at| self.full_name(at)).collect()
    }

    /// Where a node stands among its siblings, from the root down.
    fn place(&self, at: usize) -> Vec<usize> {
        let mut place = Vec::new();
        let mut at = at;
        while at != 0 {
            let Some(&parent) = self.parents.get(at) else {
                break;
            };
            let siblings = &self.node(parent).children;
            place.push(siblings.iter().position(|&c| c == at).unwrap_or(0));
            at = parent;
        }
        place.reverse();
        place
    }

    /// The names directly below a node and what each is. A leaf has none.
    ///
    /// # Errors
    /// `PM_ERR_NAME` when there is no such name.
    pub fn children(&self, name: &[u8]) -> Result<Vec<(Text, Place)>, ErrorCode> {
        let at = self.find(name).ok_or(ErrorCode::NAME)?;
        let children = self.node(at).children.iter();
        Ok(children
            .map(|&child| {
                let node = self.node(child);
                (
                    node.name.clone(),
                    node.pmid.map_or(Place::Node, Place::Leaf),
                )
            })
            .collect())
    }

    /// All leaves at and below a node with their full names, depth first.
    ///
    /// # Errors
    /// `PM_ERR_NAME` when there is no such name.
    pub fn leaves(&self, name: &[u8]) -> Result<Vec<(Text, Pmid)>, ErrorCode> {
        let at = self.find(name).ok_or(ErrorCode::NAME)?;
        let mut found = Vec::new();
        let mut path = name.to_vec();
        let mut work = vec![(at, path.len(), false)];
        while let Some((at, length, seen)) = work.pop() {
            let node = self.node(at);
            path.truncate(length);
            if seen {
                if !path.is_empty() {
                    path.push(b'.');
                }
                path.extend_from_slice(&node.name);
            }
            if let Some(pmid) = node.pmid {
                found.push((path.as_slice().into(), pmid));
            }
            let length = path.len();
            work.extend(
                node.children
                    .iter()
                    .rev()
                    .map(|&child| (child, length, true)),
            );
        }
        Ok(found)
    }

    /// Parses a name space: `#define`, `#ifdef`, `#include` and C comments are understood as pmcpp(1) does. `include`
    /// returns the text of a file named by an `#include`.
    ///
    /// # Errors
    /// The first mistake, with its file and line.
    pub fn parse(text: &str, file: &str, include: &mut Include<'_>) -> Result<Pmns, PmnsError> {
        parse::parse(text, file, include)
    }

    /// Loads a name space file; includes are looked for beside the file that asks for them, in the current folder and in that
    /// of PCP's own name space.
    ///
    /// # Errors
    /// `PM_ERR_NOPMNS` when the file cannot be read, `PM_ERR_PMNS` with the place of a mistake.
    pub fn load(path: &std::path::Path) -> crate::Result<Pmns> {
        let text = std::fs::read(path).map_err(|_| ErrorCode::NOPMNS)?;
        let folder = path
            .parent()
            .unwrap_or(std::path::Path::new("."))
            .to_owned();
        let var = crate::config("PCP_VAR_DIR").unwrap_or("/var/lib/pcp".to_owned());
        let folders = [folder, ".".into(), std::path::Path::new(&var).join("pmns")];
        let mut include = |name: &str| {
            let mut found = folders.iter().map(|f| std::fs::read(f.join(name)));
            let text = found.find_map(std::result::Result::ok)?;
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        let file = path.display().to_string();
        Pmns::parse(&String::from_utf8_lossy(&text), &file, &mut include).map_err(|error| {
            crate::Error::Malformed {
                code: ErrorCode::PMNS,
                what: error.to_string(),
            }
        })
    }
}

/// Finds the text of an included file.
pub type Include<'a> = dyn FnMut(&str) -> Option<String> + 'a;

mod parse;
