//! Who takes which step of a scenario.

/// An implementation of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// BullMQ for Node.
    Node,
    /// This library.
    Ox,
}

/// The implementations that have the roles of a scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roles {
    pub(crate) name: &'static str,
    /// Adds jobs and acts on the queue.
    pub(crate) produces: Side,
    /// Starts jobs and looks for stalled ones.
    pub(crate) starts: Side,
    /// Ends attempts and renews locks.
    pub(crate) ends: Side,
}

impl Roles {
    const fn new(name: &'static str, produces: Side, starts: Side, ends: Side) -> Self {
        Self {
            name,
            produces,
            starts,
            ends,
        }
    }

    /// One side in every part.
    pub(crate) const fn all(name: &'static str, side: Side) -> Self {
        Self::new(name, side, side, side)
    }
}

/// BullMQ alone: what it leaves is right by definition.
pub(crate) const REFERENCE: Roles = Roles::all("node", Side::Node);

/// This library alone.
pub(crate) const OWN: Roles = Roles::all("ox", Side::Ox);

/// Both sides, of which each takes any part.
pub(crate) const MIXED: Roles = Roles::new("mixed", Side::Node, Side::Ox, Side::Node);

/// Everybody who has to leave what the reference leaves.
pub(crate) const ALL: [Roles; 3] = [
    OWN,
    Roles::new("node-ox-node", Side::Node, Side::Ox, Side::Node),
    Roles::new("ox-node-ox", Side::Ox, Side::Node, Side::Ox),
];
