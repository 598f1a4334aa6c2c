//! What an agent must be able to do, and what it may.

use std::time::Duration;

use pcp::pdu::Profile;
use pcp::pmns::{Place, Pmns};
use pcp::{Atom, Desc, ErrorCode, INST_NULL, InDom, Instance, LabelLevel, LabelSet, Pmid, Text};

/// Whom a request is for.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// pmcd's number of the client. Numbers are used again after [`Agent::client_ended`].
    pub client: i32,
    /// The instances that the client wants.
    pub profile: &'a Profile,
}

/// Values of one metric: instance numbers ([`pcp::INST_NULL`] for a metric without instances) and what they have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(pub Vec<(i32, Atom)>);

impl Values {
    /// The value of a metric without instances.
    #[must_use]
    pub fn single(value: Atom) -> Values {
        Values(vec![(INST_NULL, value)])
    }
}

/// A name that an agent adds to the name space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// In full below [`Agent::traverse`]'s node, the last part alone for [`Agent::children`].
    pub name: Text,
    /// Whether other names are below it.
    pub is_node: bool,
}

/// An agent of one domain. Only three methods are needed; the others say what PCP says of an agent without them.
pub trait Agent {
    /// The domain that it was installed for.
    fn domain(&self) -> u32;

    /// What a metric is.
    ///
    /// # Errors
    /// `PM_ERR_PMID` for one that it does not have.
    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode>;

    /// The values of a metric now. Instances outside of the caller's profile may be left out or not: they are not sent.
    ///
    /// # Errors
    /// Any code; the client sees it as the metric's.
    fn values(&mut self, caller: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode>;

    /// Called once before the values of a fetch are asked for, to look at the world once and not for each metric.
    fn begin_fetch(&mut self, _caller: &Caller<'_>, _pmids: &[Pmid]) {}

    /// All instances of a domain.
    ///
    /// # Errors
    /// `PM_ERR_INDOM` for one that it does not have.
    fn instances(&mut self, _client: i32, _indom: InDom) -> Result<Vec<Instance>, ErrorCode> {
        Err(ErrorCode::INDOM)
    }

    /// The instance that a name means which is none of [`Agent::instances`]', for names that may be written in several ways.
    fn instance_named(&mut self, _client: i32, _indom: InDom, _name: &[u8]) -> Option<i32> {
        None
    }

    /// The help text of a metric.
    ///
    /// # Errors
    /// `PM_ERR_TEXT` when there is none.
    fn metric_text(&mut self, _pmid: Pmid, _one_line: bool) -> Result<Text, ErrorCode> {
        Err(ErrorCode::TEXT)
    }

    /// The help text of an instance domain.
    ///
    /// # Errors
    /// `PM_ERR_TEXT` when there is none.
    fn indom_text(&mut self, _indom: InDom, _one_line: bool) -> Result<Text, ErrorCode> {
        Err(ErrorCode::TEXT)
    }

    /// Stores a value; it has the type of the metric's descriptor.
    ///
    /// # Errors
    /// `PM_ERR_PERMISSION` for a metric that can't be changed, `PM_ERR_INST`, `PM_ERR_BADSTORE`.
    fn store(
        &mut self,
        _client: i32,
        _desc: &Desc,
        _inst: i32,
        _value: &Atom,
    ) -> Result<(), ErrorCode> {
        Err(ErrorCode::PERMISSION)
    }

    /// Labels of the domain, an instance domain, a cluster or a metric; of [`LabelLevel::Instances`] a set each.
    ///
    /// # Errors
    /// Any code.
    fn labels(&mut self, _ident: u32, _level: LabelLevel) -> Result<Vec<LabelSet>, ErrorCode> {
        Ok(Vec::new())
    }

    /// The names of the agent's dynamic subtrees as they are now, which the four methods below look into.
    fn names(&mut self) -> Option<&Pmns> {
        None
    }

    /// The metrics behind names of a dynamic subtree.
    ///
    /// # Errors
    /// `PM_ERR_NAME`; `PM_ERR_NONLEAF` for a node.
    fn lookup(&mut self, name: &[u8]) -> Result<Pmid, ErrorCode> {
        match self.names().ok_or(ErrorCode::NAME)?.lookup(name)? {
            Place::Leaf(pmid) => Ok(pmid),
            Place::Node => Err(ErrorCode::NONLEAF),
        }
    }

    /// The names of a metric in a dynamic subtree.
    ///
    /// # Errors
    /// `PM_ERR_PMID`.
    fn names_of(&mut self, pmid: Pmid) -> Result<Vec<Text>, ErrorCode> {
        let names = self.names().map(|names| names.names_of(pmid));
        names.filter(|n| !n.is_empty()).ok_or(ErrorCode::PMID)
    }

    /// What is directly below a node of a dynamic subtree.
    ///
    /// # Errors
    /// `PM_ERR_NAME`.
    fn children(&mut self, name: &[u8]) -> Result<Vec<Name>, ErrorCode> {
        let found = self.names().ok_or(ErrorCode::NAME)?.children(name)?;
        let found = found.into_iter().map(|(name, place)| Name {
            name,
            is_node: matches!(place, Place::Node),
        });
        Ok(found.collect())
    }

    /// All leaves at and below a node of a dynamic subtree.
    ///
    /// # Errors
    /// `PM_ERR_NAME`.
    fn traverse(&mut self, name: &[u8]) -> Result<Vec<Text>, ErrorCode> {
        let found = self.names().ok_or(ErrorCode::NAME)?.leaves(name)?;
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    /// How long the agent will not answer, from the next request on. That request is lost; pmcd is told of both ends of the time
    /// (`PM_ERR_PMDANOTREADY`, `PM_ERR_PMDAREADY`). An agent in its pmcd's process is not asked.
    fn pause(&mut self) -> Option<Duration> {
        None
    }

    /// Whether the agent is to end once a request is answered. One in its pmcd's process is not asked.
    fn is_done(&self) -> bool {
        false
    }

    /// Who a client is: a key of [`pcp::pdu::attr`] and its value.
    fn attribute(&mut self, _client: i32, _attr: u32, _value: &[u8]) {}

    /// A client went.
    fn client_ended(&mut self, _client: i32) {}
}
